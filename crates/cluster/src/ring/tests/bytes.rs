//! Packets and handovers as bytes.

use ::bytes::Bytes;
use stdx::Rng;

use super::world::payload;
use crate::ring::packet::{Part, Phase};
use crate::ring::{DecodeError, Handover, MemberId, Packet, View};

fn packet() -> Packet {
    let publications = Part {
        publisher: MemberId(u64::MAX),
        settled: 127,
        mark: 128,
        first: 130,
        payloads: vec![
            Bytes::new(),
            payload(MemberId(7), 131),
            Bytes::from(vec![3; 300]),
        ],
        death_told: false,
    };
    let mark = Part {
        publisher: MemberId(2),
        mark: 1 << 60,
        ..Part::default()
    };
    let told = Part {
        publisher: MemberId(3),
        death_told: true,
        ..Part::default()
    };
    Packet {
        version: 300,
        number: 1,
        whole: true,
        phase: Phase::Clear,
        dead: true,
        parts: vec![publications, mark, told],
    }
}

fn bytes(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    bytes
}

#[test]
fn a_packet_comes_back_as_it_was() {
    let encoded = bytes(&packet());
    assert_eq!(Packet::decode(encoded.into()), Ok(packet()));
}

#[test]
fn a_handover_comes_back_as_it_was() {
    let handover = Handover {
        view: View {
            version: 9,
            members: vec![MemberId(4), MemberId(u64::MAX), MemberId(0)],
        },
        parts: packet().parts,
    };
    let mut encoded = Vec::new();
    handover.encode(&mut encoded);
    assert_eq!(Handover::decode(encoded.into()), Ok(handover));
}

#[test]
fn the_bytes_are_these() {
    let part = Part {
        publisher: MemberId(5),
        settled: 1,
        mark: 200,
        first: 2,
        payloads: vec![Bytes::from_static(b"ab")],
        death_told: false,
    };
    let packet = Packet {
        version: 3,
        number: 4,
        whole: true,
        phase: Phase::Seal,
        dead: false,
        parts: vec![part],
    };
    #[rustfmt::skip]
    let expected = [
        0b1001, 3, 4, // whole, phase 2; version; number
        1, 0b111, 0, 0, 0, 0, 0, 0, 0, 5, // one part: publications, settled, mark; publisher
        1, 0xc8, 0x01, // settled, mark
        2, 1, 2, b'a', b'b', // first, count; length, payload
    ];
    assert_eq!(bytes(&packet), expected);
}

#[test]
fn payloads_are_not_copied() {
    let encoded = Bytes::from(bytes(&packet()));
    let decoded = Packet::decode(encoded.clone()).unwrap();
    let payload = &decoded.parts[0].payloads[2];
    assert!(encoded.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn every_cut_is_noticed() {
    let encoded = bytes(&packet());
    for length in 0..encoded.len() {
        let cut = Packet::decode(encoded[..length].to_vec().into());
        assert!(
            matches!(cut, Err(DecodeError::Truncated(_))),
            "{length}: {cut:?}"
        );
    }
    let longer = [&encoded[..], &[0]].concat();
    assert_eq!(
        Packet::decode(longer.into()),
        Err(DecodeError::Malformed(encoded.len()))
    );
}

#[test]
fn no_input_panics() {
    let mut rng = Rng::new(1);
    for _ in 0..20_000 {
        let mut encoded = bytes(&packet());
        for _ in 0..=rng.below(4) {
            let at = rng.below(encoded.len() as u64) as usize;
            encoded[at] = rng.next() as u8;
        }
        // What is accepted means something: it can be written down again.
        if let Ok(packet) = Packet::decode(encoded.clone().into()) {
            assert_eq!(Packet::decode(bytes(&packet).into()), Ok(packet));
        }
        let _ = Handover::decode(encoded.into());
    }
}

#[test]
fn counts_that_are_lies_cost_nothing() {
    // A packet of four billion parts, and one of as many payloads.
    let parts = [0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(Packet::decode(parts.to_vec().into()).is_err());
    let mut payloads = vec![0, 1, 1, 1, 1];
    payloads.extend_from_slice(&[0; 8]);
    payloads.extend_from_slice(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(Packet::decode(payloads.into()).is_err());
}
