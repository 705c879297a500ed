use openraft::vote::RaftLeaderId;

use super::*;

fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, node), index)
}

fn membership() -> Membership {
    let peer = |address: &str| Peer {
        address: address.to_owned(),
    };
    let nodes = BTreeMap::from([(1, peer("a")), (2, peer("b")), (300, peer("c"))]);
    Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([1])], nodes).unwrap()
}

/// The examples of `docs/formats/metadata.md`: what is once on a disk must stay readable.
#[test]
fn bytes_are_as_documented() {
    let command = EntryPayload::Normal(Command(Bytes::from_static(b"hi")));
    let cases: [(Vec<u8>, &str); 7] = [
        (encode(&3u64), "01 37be0b4b 03"),
        (
            encode(&Position::from(&log_id(1, 2, 300))),
            "01 defec076 01 02 ac02",
        ),
        (
            encode(&VoteRecord::from(&Vote {
                leader_id: LeaderId::new(5, 2),
                committed: true,
            })),
            "01 ed49bbbc 05 02 01",
        ),
        (
            encode(&EntryRecord::from(&Entry::new(
                log_id(1, 2, 3),
                EntryPayload::Blank,
            ))),
            "01 d43f51b1 01 02 03 00",
        ),
        (
            encode(&EntryRecord::from(&Entry::new(log_id(1, 2, 3), command))),
            "01 49840113 01 02 03 01 02 6869",
        ),
        (
            encode(&EntryRecord::from(&Entry::new(
                log_id(1, 2, 3),
                EntryPayload::Membership(membership()),
            ))),
            "01 30ce1af4 01 02 03 02 02 02 01 02 01 01 03 01 01 61 02 01 62 ac02 01 63",
        ),
        (
            encode(&SnapshotRecord::from(&SnapshotMeta {
                last_log_id: Some(log_id(1, 2, 3)),
                last_membership: StoredMembership::new(None, Membership::default()),
            })),
            "01 e1fb3298 01 01 02 03 00 00 00",
        ),
    ];
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for (bytes, documented) in cases {
        assert_eq!(hex(&bytes), documented.replace(' ', ""), "{documented}");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Command(Bytes::from(vec![9; 100_000]))),
        EntryPayload::Normal(Command(Bytes::new())),
        EntryPayload::Membership(membership()),
    ];
    for payload in payloads {
        let entry = Entry::new(log_id(u64::MAX, 7, 1 << 40), payload);
        let record: EntryRecord = decode(&encode(&EntryRecord::from(&entry))).unwrap();
        assert_eq!(record.into_entry().unwrap(), entry);
    }
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(4, 1, 99)),
        last_membership: StoredMembership::new(Some(log_id(3, 1, 50)), membership()),
    };
    let record: SnapshotRecord = decode(&encode(&SnapshotRecord::from(&meta))).unwrap();
    assert_eq!(SnapshotMeta::try_from(record).unwrap(), meta);
    let empty = SnapshotRecord::from(&SnapshotMeta::default());
    assert_eq!(
        SnapshotMeta::try_from(empty).unwrap(),
        SnapshotMeta::default()
    );
}

#[test]
fn every_changed_bit_and_every_lost_byte_is_noticed() {
    let entry = Entry::new(log_id(1, 2, 3), EntryPayload::Membership(membership()));
    let good = encode(&EntryRecord::from(&entry));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let error = decode::<EntryRecord>(&bad).unwrap_err();
        let expected = match bit {
            0..8 => FormatError::Version {
                found: bad[0],
                read: VERSION,
            },
            _ => FormatError::Checksum,
        };
        assert_eq!(error, expected, "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(
            decode::<EntryRecord>(&good[..length]).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn a_value_in_the_wrong_place_is_refused() {
    let vote = encode(&VoteRecord {
        term: 1,
        node: 1,
        won: true,
    });
    assert!(matches!(
        decode::<EntryRecord>(&vote),
        Err(FormatError::Content(_))
    ));
    let mut surplus = vec![VERSION, 0, 0, 0, 0, 3, 3];
    let checksum = crc32fast::hash(&surplus[5..]);
    surplus[1..5].copy_from_slice(&checksum.to_le_bytes());
    let error = decode::<u64>(&surplus).unwrap_err();
    assert_eq!(error, FormatError::Content("1 bytes too many".to_owned()));
    let voter_without_node = MembershipRecord {
        voters: vec![BTreeSet::from([1])],
        nodes: BTreeMap::new(),
    };
    assert!(Membership::try_from(voter_without_node).is_err());
}
