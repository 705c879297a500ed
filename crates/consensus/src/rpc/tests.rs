use super::*;
use crate::format::encode;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The examples of `docs/formats/metadata.md`: nodes of one version understand each other.
#[test]
fn bytes_are_as_documented() {
    let seat = SeatRecord {
        node: 2,
        address: "b".to_owned(),
        votes: true,
    };
    let leader = MemberRecord {
        node: 2,
        address: "b".to_owned(),
    };
    let cases = [
        (Request::ReadIndex.encode(300), "02 a1ba76f4 ac02 06"),
        (
            Request::Propose(Bytes::from_static(b"hi")).encode(300),
            "02 593fcc08 ac02 05 02 6869",
        ),
        (
            Request::Arrange(vec![seat]).encode(300),
            "02 84be3da4 ac02 07 01 02 01 62 01",
        ),
        (
            Response::NotLeader(Some(leader)).encode(),
            "02 8380fd48 06 01 02 01 62",
        ),
    ];
    for (bytes, documented) in cases {
        assert_eq!(hex(&bytes), documented.replace(' ', ""), "{documented}");
    }
}

#[test]
fn packets_of_the_version_without_generations_are_refused() {
    let old = encode(&Request::ReadIndex);
    let version = FormatError::Version { found: 1, read: 2 };
    assert_eq!(Request::decode(&old).unwrap_err(), version);
    let (generation, request) = Request::decode(&Request::ReadIndex.encode(7)).unwrap();
    assert_eq!(generation, 7);
    assert!(matches!(request, Request::ReadIndex));
}
