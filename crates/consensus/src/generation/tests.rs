//! What a log that was founded anew holds.

use bytes::Bytes;

use super::*;
use crate::types::{Command, SnapshotMeta, StoredMembership};

fn membership(voters: &[u64]) -> Membership {
    let peer = |&id: &u64| {
        let address = "here".to_owned();
        (id, Peer { address })
    };
    let nodes = voters.iter().map(peer).collect::<BTreeMap<_, _>>();
    Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap()
}

/// The founder of a cluster that comes into the new log would else find itself the only voter.
#[test]
fn no_membership_of_before_is_in_a_refounded_log_or_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (log, at) = (folder.path().join(LOG_FILE), |index| {
        LogId::new(LeaderId::new(1, 1), index)
    });
    let (snapshots, _) = SnapshotStore::open(&folder.path().join(SNAPSHOT_FILE)).unwrap();
    let meta = SnapshotMeta {
        last_log_id: Some(at(1)),
        last_membership: StoredMembership::new(Some(at(0)), membership(&[1])),
    };
    snapshots.replace(&meta, b"state").unwrap();
    let (file, _) = LogFile::open(&log, 2).unwrap();
    let entries = [
        Entry::new(at(2), EntryPayload::Membership(membership(&[1, 2]))),
        Entry::new(
            at(3),
            EntryPayload::Normal(Command(Bytes::from_static(b"command"))),
        ),
        Entry::new(at(4), EntryPayload::Membership(membership(&[1]))),
    ];
    let mut changes = vec![Change::Purge((&at(1)).into())];
    changes.extend(entries.iter().map(Change::append));
    file.commit(&changes).unwrap();
    drop(file);
    let refounded = refound(folder.path(), NodeId(2), "here", Some(9)).unwrap();
    assert_eq!(
        refounded,
        Refounded {
            generation: 9,
            index: 5
        }
    );
    let (file, stored) = LogFile::open(&log, 2).unwrap();
    let mut held = Vec::new();
    read_entries(&file.begin_read().unwrap(), 2..6, &mut held).unwrap();
    let founded = Entry::new(
        LogId::new(LeaderId::new(2, 2), 5),
        EntryPayload::Membership(membership(&[2])),
    );
    let blank = |index| Entry::new(at(index), EntryPayload::Blank);
    assert_eq!(held, [blank(2), entries[1].clone(), blank(4), founded]);
    let (at_founding, founder) = stored.founded.unwrap();
    let (snapshots, _) = SnapshotStore::open(&folder.path().join(SNAPSHOT_FILE)).unwrap();
    snapshots.found(&at_founding, &founder);
    let offered = snapshots.current().unwrap().meta;
    assert_eq!(offered.last_log_id, Some(at(1)));
    assert_eq!(offered.last_membership.membership(), &membership(&[2]));
}
