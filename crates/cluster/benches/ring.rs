//! What a broadcast costs three members of a ring in memory, all of them together.
//!
//! `cargo bench -p cluster` measures. Started as a test it does the same with a thousandth of the
//! broadcasts, so that it cannot rot.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use cluster::ring::{Effect, Member, MemberId, Packet, View};

struct Ring {
    members: Vec<Member>,
    delivered: u64,
    /// Packets travel as bytes.
    encoded: bool,
    effects: Vec<Effect>,
}

impl Ring {
    fn new(encoded: bool) -> Ring {
        let view = View {
            version: 1,
            members: (0..3).map(MemberId).collect(),
        };
        let members = view.members.iter().map(|&id| Member::new(id, view.clone()));
        Ring {
            members: members.collect(),
            delivered: 0,
            encoded,
            effects: Vec::new(),
        }
    }

    /// Obeys `effects` of a member and what follows from them; disks take no time.
    fn run(&mut self, from: usize) {
        let mut waiting = VecDeque::from([(from, std::mem::take(&mut self.effects))]);
        while let Some((from, mut effects)) = waiting.pop_front() {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, packet } => {
                        let mut out = Vec::new();
                        let packet = if self.encoded {
                            through_bytes(&packet)
                        } else {
                            packet
                        };
                        self.members[to.0 as usize].receive(
                            MemberId(from as u64),
                            packet,
                            &mut out,
                        );
                        waiting.push_back((to.0 as usize, out));
                    }
                    Effect::Deliver {
                        publisher,
                        first,
                        payloads,
                    } => {
                        let last = first + payloads.len() as u64 - 1;
                        self.delivered += black_box(payloads).len() as u64;
                        let mut out = Vec::new();
                        self.members[from].stored(publisher, last, &mut out);
                        waiting.push_back((from, out));
                    }
                    Effect::Completed { .. }
                    | Effect::Settled { .. }
                    | Effect::Born(_)
                    | Effect::Died(_) => (),
                    Effect::Stopped | Effect::Diverged => panic!("nobody stops here"),
                }
            }
        }
    }
}

fn through_bytes(packet: &Packet) -> Packet {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    Packet::decode(bytes.into()).expect("a member writes what it reads")
}

fn measure(batches: u64, batch: usize, encoded: bool) {
    let mut ring = Ring::new(encoded);
    let payloads = vec![Bytes::from(vec![7; 100]); batch];
    let start = Instant::now();
    for _ in 0..batches {
        let last = ring.members[0].broadcast_all(&payloads, &mut ring.effects);
        ring.run(0);
        ring.members[0].stored(MemberId(0), last, &mut ring.effects);
        ring.run(0);
    }
    let count = batches * batch as u64;
    let nanos = start.elapsed().as_nanos() / u128::from(count);
    let how = if encoded { "as bytes" } else { "in memory" };
    println!("{batch:>4} in a batch, {how:>9}: {nanos:>5} ns a broadcast");
    assert_eq!(ring.members[0].completed(), count);
    assert_eq!(ring.delivered, 2 * count);
    assert!(
        ring.members
            .iter()
            .all(|member| member.pending_bytes() == 0)
    );
}

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let broadcasts = if measured { 4_000_000 } else { 4_000 };
    for encoded in [false, true] {
        for batch in [1, 10, 100, 1000] {
            measure(broadcasts / batch as u64, batch, encoded);
        }
    }
}
