//! Black-box tests: the real binary under real clients. Links none of our crates.
