"""The parts of `benches/cluster.py`, and what they share."""
