use super::*;
use crate::types::{LeaderId, LogId};
use openraft::vote::RaftLeaderId;

fn meta(index: u64) -> SnapshotMeta {
    let last_log_id = Some(LogId::new(LeaderId::new(1, 1), index));
    SnapshotMeta {
        last_log_id,
        ..SnapshotMeta::default()
    }
}

#[test]
fn the_newest_snapshot_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.snapshot");
    let (store, state) = SnapshotStore::open(&path).unwrap();
    assert_eq!(state, None);
    assert!(store.current().is_none());
    store.replace(&meta(5), b"five").unwrap();
    let held = store.current().unwrap().body;
    store.replace(&meta(9), b"nine").unwrap();
    assert_eq!(
        held.read().unwrap(),
        "five",
        "what was handed out stays readable"
    );
    assert_eq!(store.current().unwrap().body.read().unwrap(), "nine");
    let (store, state) = SnapshotStore::open(&path).unwrap();
    assert_eq!(state.unwrap(), "nine");
    let current = store.current().unwrap();
    assert_eq!((current.meta, current.bytes), (meta(9), 4));
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = SnapshotStore::open(&folder.path().join("snapshot")).unwrap();
    store.replace(&meta(9), b"nine").unwrap();
    let current = store.replace(&meta(5), b"five").unwrap();
    assert_eq!(current.meta, meta(9));
    assert_eq!(store.current().unwrap().body.read().unwrap(), "nine");
}

#[test]
fn a_crash_while_writing_leaves_the_old_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.snapshot");
    let (store, _) = SnapshotStore::open(&path).unwrap();
    store.replace(&meta(5), b"five").unwrap();
    fs::write(unfinished(&path), b"wrn-snap half of a").unwrap();
    let (_, state) = SnapshotStore::open(&path).unwrap();
    assert_eq!(state.unwrap(), "five");
    assert!(!unfinished(&path).exists());
}

#[test]
fn a_damaged_snapshot_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.snapshot");
    let (store, _) = SnapshotStore::open(&path).unwrap();
    store.replace(&meta(5), b"the state").unwrap();
    let good = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        SnapshotStore::open(&path)
            .err()
            .expect("damage was not noticed")
            .to_string()
    };
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let text = refused(&bad);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    for length in 0..good.len() {
        let text = refused(&good[..length]);
        assert!(
            text.contains("is damaged") && text.contains("put back a copy"),
            "{text}"
        );
    }
    let mut later = good.clone();
    later[12] = 2;
    assert!(refused(&later).contains("was written by another version"));
}
