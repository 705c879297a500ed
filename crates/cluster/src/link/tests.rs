use stdx::Rng;

use super::Lane::{Control, Data};
use super::*;

const SMALL: LinkLimits = LinkLimits {
    frame_bytes_max: 16,
    control_bytes_max: 40,
    data_bytes_max: 400,
};

/// A link with small limits on which these were sent.
fn sent(packets: &[(Lane, &[u8])]) -> Link {
    let mut link = Link::new(SMALL);
    for (lane, bytes) in packets {
        link.send(*lane, Packet::from(bytes.to_vec()));
    }
    link
}

fn fill(link: &mut Link, budget: usize) -> Vec<u8> {
    let mut out = Vec::new();
    link.fill(&mut out, budget);
    out
}

/// What a fresh link with small limits makes of these bytes, up to the first error.
fn receive(bytes: &[u8]) -> Result<Vec<(Lane, Vec<u8>)>, LinkError> {
    let (mut link, mut input) = (Link::new(SMALL), BytesMut::from(bytes));
    let mut packets = Vec::new();
    while let Some((lane, packet)) = link.receive(&mut input)? {
        packets.push((lane, packet.to_vec()));
    }
    Ok(packets)
}

/// The lane of each frame in these bytes.
fn lanes(mut bytes: &[u8]) -> Vec<Lane> {
    let mut lanes = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes(*head.first_chunk().unwrap())).unwrap();
        assert!(length <= SMALL.frame_bytes_max);
        lanes.push(Lane::from_code(head[4] & LANE_MASK).unwrap());
        bytes = &rest[length..];
    }
    lanes
}

#[test]
fn bytes_are_as_documented() {
    let mut link = sent(&[(Control, b"vote"), (Data, &[7; 30])]);
    let expected = [
        &[4, 0, 0, 0, 0x30][..],
        b"vote",
        &[16, 0, 0, 0, 0x11, 30, 0, 0, 0],
        &[7; 12],
        &[16, 0, 0, 0, 0x01],
        &[7; 16],
        &[2, 0, 0, 0, 0x21, 7, 7],
    ];
    assert_eq!(fill(&mut link, usize::MAX), expected.concat());
    assert!(link.is_idle());
    assert_eq!(
        receive(&expected.concat()),
        Ok(vec![(Control, b"vote".to_vec()), (Data, vec![7; 30])])
    );
}

#[test]
fn control_goes_between_two_chunks() {
    let mut link = sent(&[(Data, &[1; 60])]);
    let mut out = fill(&mut link, 1);
    assert_eq!(lanes(&out), [Data]);
    link.send(Control, Packet::from(vec![2; 20]));
    link.fill(&mut out, usize::MAX);
    assert_eq!(lanes(&out), [Data, Control, Control, Data, Data, Data]);
    assert_eq!(
        receive(&out),
        Ok(vec![(Control, vec![2; 20]), (Data, vec![1; 60])])
    );
}

#[test]
fn small_packets_share_a_buffer_up_to_the_budget() {
    let mut link = sent(&[
        (Data, b"one"),
        (Data, b""),
        (Data, b"three"),
        (Data, b"four"),
    ]);
    assert_eq!(link.queued_bytes(), 4 * HEAD_BYTES + 12);
    let mut out = fill(&mut link, 15);
    assert_eq!(lanes(&out), [Data, Data, Data]);
    assert_eq!(
        (link.queued_bytes(), link.is_idle()),
        (HEAD_BYTES + 4, false)
    );
    link.fill(&mut out, 15);
    assert_eq!((link.queued_bytes(), link.is_idle()), (0, true));
    let words = [&b"one"[..], b"", b"three", b"four"];
    assert_eq!(
        receive(&out),
        Ok(words.map(|word| (Data, word.to_vec())).to_vec())
    );
}

#[test]
fn pieces_are_one_packet() {
    let mut packet = Packet::from(Bytes::from_static(b"head"));
    packet.push(Bytes::new());
    packet.push(Bytes::from_static(b" and a body that takes more"));
    packet.push(Bytes::from_static(b" than a frame"));
    assert_eq!((packet.len(), packet.is_empty()), (44, false));
    let mut link = Link::new(SMALL);
    link.send(Data, packet);
    let expected = b"head and a body that takes more than a frame".to_vec();
    assert_eq!(
        receive(&fill(&mut link, usize::MAX)),
        Ok(vec![(Data, expected)])
    );
}

#[test]
fn a_packet_in_one_frame_is_not_copied() {
    let mut input = BytesMut::from(&fill(&mut sent(&[(Data, b"here")]), 99)[..]);
    let place = input[HEAD_BYTES..].as_ptr();
    let (_, packet) = Link::new(SMALL).receive(&mut input).unwrap().unwrap();
    assert_eq!((packet.as_ptr(), &packet[..]), (place, &b"here"[..]));
}

#[test]
fn a_large_packet_is_allocated_once() {
    let limits = LinkLimits::default();
    let (mut from, mut to) = (Link::new(limits), Link::new(limits));
    from.send(Data, Packet::from(vec![3; 5_000_000]));
    let mut input = BytesMut::new();
    let mut place = None;
    loop {
        input.extend_from_slice(&fill(&mut from, 1));
        if let Some((_, packet)) = to.receive(&mut input).unwrap() {
            assert_eq!(Some(packet.as_ptr()), place);
            assert_eq!(packet.len(), 5_000_000);
            return;
        }
        place = to.incoming[1]
            .as_ref()
            .map(|assembly| assembly.bytes.as_ptr());
    }
}

#[test]
fn status_counts_both_directions() {
    let mut link = sent(&[(Control, b"vote"), (Data, &[7; 30])]);
    let out = fill(&mut link, usize::MAX);
    let mut input = BytesMut::from(&out[..]);
    while link.receive(&mut input).unwrap().is_some() {}
    let bytes = u64::try_from(out.len()).unwrap();
    assert_eq!(
        link.status(),
        LinkStatus {
            queued_bytes: 0,
            sent_bytes: bytes,
            received_bytes: bytes,
            sent_packets: 2,
            received_packets: 2,
        }
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |frames: &[&[u8]], text: &str| {
        assert_eq!(receive(&frames.concat()).unwrap_err().to_string(), text);
    };
    check(
        &[&[17, 0, 0, 0, 0x30]],
        "frame of 17 bytes is over the limit of 16",
    );
    check(&[&[1, 0, 0, 0, 0x32]], "unknown lane 2");
    check(&[&[1, 0, 0, 0, 0xf0]], "unknown flags 0xc0 of a frame");
    check(
        &[&[3, 0, 0, 0, 0x10, 9, 0, 0]],
        "control packet begins without its length",
    );
    let begin = |total: u8| [8, 0, 0, 0, 0x10, total, 0, 0, 0, 1, 2, 3, 4];
    check(
        &[&begin(41)],
        "control packet of 41 bytes is over the limit of 40",
    );
    check(
        &[&begin(9), &begin(9)],
        "control packet begins inside another",
    );
    check(
        &[&begin(9), &[0, 0, 0, 0, 0x30]],
        "control packet begins inside another",
    );
    check(
        &[&[1, 0, 0, 0, 0x21, 1]],
        "data packet goes on that has not begun",
    );
    let other_length = "control packet of 6 bytes comes with another length";
    check(&[&begin(6), &[1, 0, 0, 0, 0x20, 5]], other_length);
    check(&[&begin(6), &[2, 0, 0, 0, 0x00, 5, 6]], other_length);
    check(&[&begin(6), &[3, 0, 0, 0, 0x20, 5, 6, 7]], other_length);
    check(
        &[&begin(3)],
        "control packet of 3 bytes comes with another length",
    );
    // A lane does not see what another has begun.
    check(
        &[&begin(9), &[1, 0, 0, 0, 0x21, 5]],
        "data packet goes on that has not begun",
    );
}

#[test]
fn a_whole_packet_over_the_limit_of_its_lane_is_named() {
    let limits = LinkLimits {
        control_bytes_max: 3,
        ..SMALL
    };
    let mut input = BytesMut::from(&fill(&mut sent(&[(Control, b"four")]), 99)[..]);
    let error = Link::new(limits).receive(&mut input).unwrap_err();
    assert_eq!(
        error,
        LinkError::PacketTooLarge {
            lane: Control,
            bytes: 4,
            max: 3
        }
    );
}

#[test]
#[should_panic(expected = "control packet of 41 bytes, at most 40 may be sent")]
fn a_packet_over_the_limit_is_not_sent() {
    sent(&[(Control, &[0; 41])]);
}

/// A packet of random length, content and pieces.
fn random_packet(rng: &mut Rng, bytes_max: usize) -> (Packet, Vec<u8>) {
    let below = |rng: &mut Rng, bound: usize| {
        usize::try_from(rng.below(u64::try_from(bound).unwrap())).unwrap()
    };
    let length = if rng.one_in(3) {
        below(rng, bytes_max + 1)
    } else {
        below(rng, 20)
    };
    let content: Vec<u8> = (0..length).map(|_| rng.next().to_le_bytes()[0]).collect();
    let (mut packet, mut rest) = (Packet::new(), Bytes::from(content.clone()));
    while !rest.is_empty() {
        let piece = 1 + below(rng, rest.len());
        packet.push(rest.split_to(piece));
    }
    (packet, content)
}

/// Both lanes at random, over a wire that cuts anywhere.
#[derive(Default)]
struct Play {
    expected: [VecDeque<Vec<u8>>; 2],
    wire: VecDeque<u8>,
    /// How often Control went first while Data waited.
    overtaken: usize,
    received: usize,
}

impl Play {
    fn send(&mut self, rng: &mut Rng, link: &mut Link) {
        let lane = if rng.one_in(2) { Control } else { Data };
        let (packet, content) = random_packet(rng, SMALL.packet_bytes_max(lane));
        link.send(lane, packet);
        self.expected[usize::from(lane.code())].push_back(content);
    }

    fn fill(&mut self, rng: &mut Rng, link: &mut Link) {
        let is_urgent = !link.outgoing[0].lengths.is_empty();
        let out = fill(link, usize::try_from(rng.below(60)).unwrap());
        let lanes = lanes(&out);
        let first_data = lanes
            .iter()
            .position(|lane| *lane == Data)
            .unwrap_or(lanes.len());
        assert!(
            lanes[first_data..].iter().all(|lane| *lane == Data),
            "control behind data"
        );
        if is_urgent && first_data < lanes.len() {
            assert!(
                link.outgoing[0].lengths.is_empty(),
                "data while control waits"
            );
            self.overtaken += 1;
        }
        self.wire.extend(out);
    }

    fn receive(&mut self, rng: &mut Rng, link: &mut Link, input: &mut BytesMut) {
        let part = usize::try_from(rng.below(40)).unwrap().min(self.wire.len());
        input.extend(self.wire.drain(..part));
        while let Some((lane, packet)) = link.receive(input).unwrap() {
            let expected = self.expected[usize::from(lane.code())].pop_front();
            assert_eq!(Some(packet.to_vec()), expected);
            self.received += 1;
        }
    }
}

#[test]
fn packets_arrive_unchanged_and_in_order_and_control_is_never_behind_data() {
    let mut received = 0;
    let mut overtaken = 0;
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let (mut from, mut to) = (Link::new(SMALL), Link::new(SMALL));
        let (mut play, mut input) = (Play::default(), BytesMut::new());
        for _ in 0..200 {
            match rng.below(4) {
                0 => play.send(&mut rng, &mut from),
                1 => play.fill(&mut rng, &mut from),
                _ => play.receive(&mut rng, &mut to, &mut input),
            }
        }
        while !from.is_idle() || !play.wire.is_empty() {
            play.fill(&mut rng, &mut from);
            play.receive(&mut rng, &mut to, &mut input);
        }
        assert!(
            play.expected.iter().all(VecDeque::is_empty),
            "seed {seed}: packets are missing"
        );
        assert_eq!((from.queued_bytes(), input.len()), (0, 0), "seed {seed}");
        received += play.received;
        overtaken += play.overtaken;
    }
    assert!(
        received > 20_000 && overtaken > 500,
        "{received} packets, {overtaken} overtook"
    );
}

#[test]
fn damaged_bytes_give_errors_and_no_panic() {
    let mut errors = 0;
    for seed in 0..3_000 {
        let mut rng = Rng::new(seed);
        let mut link = Link::new(SMALL);
        for _ in 0..5 {
            let lane = if rng.one_in(2) { Control } else { Data };
            link.send(
                lane,
                random_packet(&mut rng, SMALL.packet_bytes_max(lane)).0,
            );
        }
        let mut bytes = fill(&mut link, usize::MAX);
        let place = usize::try_from(rng.below(u64::try_from(bytes.len()).unwrap())).unwrap();
        bytes[place] ^= 1 << rng.below(8);
        errors += usize::from(receive(&bytes).is_err());
    }
    assert!(errors > 100, "{errors} errors");
}
