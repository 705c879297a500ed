//! What a journal gives back, whatever has become of its bytes.

use stdx::Rng;

use super::*;
use crate::log::tests::disk::Disk;

fn batch(number: u64) -> Vec<Change> {
    let entry = Bytes::from(vec![number as u8; number as usize * 7 % 300]);
    vec![
        Change::Append { index: number, entry },
        Change::Generation(number),
    ]
}

/// A journal of `round` that holds `batches`, and its disk.
fn written(round: u64, batches: u64) -> (Journal, Disk) {
    let disk = Disk::default();
    let mut journal = Journal::create(Box::new(disk.journal())).unwrap();
    journal.begin(round);
    for number in 0..batches {
        assert!(journal.append(&batch(number)).unwrap());
    }
    (journal, disk)
}

fn recover(disk: &Disk, round: u64) -> Result<Vec<Change>, String> {
    let recovered = Journal::recover(Box::new(disk.journal()), round);
    recovered.map(|(_, changes)| changes).map_err(|error| error.to_string())
}

fn batches(count: u64) -> Vec<Change> {
    (0..count).flat_map(batch).collect()
}

#[test]
fn what_is_written_comes_back_in_its_round_alone() {
    let (mut journal, disk) = written(5, 20);
    assert_eq!(journal.changes().unwrap(), batches(20));
    assert_eq!(recover(&disk, 5).unwrap(), batches(20));
    assert_eq!(recover(&disk, 6).unwrap(), []);
    journal.begin(6);
    assert!(journal.append(&batch(0)).unwrap());
    assert_eq!(recover(&disk, 6).unwrap(), batches(1));
    assert!(recover(&disk, 5).is_err(), "the round's later records are still there");
}

#[test]
fn a_full_journal_takes_nothing_more_and_keeps_what_it_has() {
    let (mut journal, disk) = written(5, 3);
    let large = |bytes| [Change::Founded(vec![1; bytes].into())];
    assert!(!journal.append(&large(JOURNAL_BYTES)).unwrap());
    let mut taken = batches(3);
    while journal.append(&large(9_000)).unwrap() {
        taken.extend(large(9_000));
    }
    journal.mark().unwrap();
    assert_eq!(journal.changes().unwrap(), taken);
    assert_eq!(recover(&disk, 5).unwrap(), taken);
    assert_eq!(disk.journal().len().unwrap(), JOURNAL_BYTES as u64);
}

#[test]
fn a_record_that_was_not_synced_is_the_end_or_whole() {
    let mut torn = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (mut journal, disk) = written(5, 4);
        if rng.one_in(2) {
            journal.mark().unwrap();
        }
        disk.hold_syncs(true);
        let writer = std::thread::spawn(move || {
            let large = [Change::Founded(vec![9; 2_000].into())];
            drop(journal.append(&large));
        });
        disk.wait_for_held_sync();
        let after = disk.crash(&mut rng, || ());
        disk.hold_syncs(false);
        writer.join().unwrap();
        let found = recover(&after, 5).unwrap();
        assert_eq!(found[..8], batches(4), "seed {seed}");
        assert!(found.len() <= 9, "seed {seed}");
        torn += u32::from(found.len() == 8);
    }
    assert!((20..200).contains(&torn), "{torn} of 200 were torn");
}

/// Every byte of what was synced: where another stands, the start says so. The last record is known to have
/// been synced by the mark behind it.
#[test]
fn changed_bytes_are_damage() {
    let (mut journal, disk) = written(5, 6);
    let last = journal.end;
    journal.mark().unwrap();
    let mut in_no_record = 0;
    for at in 0..last {
        disk.journal().damage(|bytes| bytes[at] ^= 0x10);
        match recover(&disk, 5) {
            Err(error) => assert!(error.contains("has changed"), "at {at}: {error}"),
            // What fills up a record to the next one's place.
            Ok(found) => {
                assert_eq!(found, batches(6), "at {at}");
                in_no_record += 1;
            }
        }
        disk.journal().damage(|bytes| bytes[at] ^= 0x10);
    }
    assert!(in_no_record < 6 * ALIGNMENT, "{in_no_record}");
    assert_eq!(recover(&disk, 5).unwrap(), batches(6));
}

/// The record that was written over the mark is not on the disk after all, and the mark is back.
#[test]
fn a_record_that_is_lost_is_damage_though_a_mark_stands_in_its_place() {
    let (mut journal, disk) = written(5, 2);
    journal.mark().unwrap();
    let (at, mut before) = (journal.end, Vec::new());
    disk.journal().damage(|bytes| before = bytes[at..at + 512].to_vec());
    journal.append(&batch(2)).unwrap();
    journal.mark().unwrap();
    assert_eq!(recover(&disk, 5).unwrap(), batches(3));
    disk.journal().damage(|bytes| bytes[at..at + HEADER_BYTES].copy_from_slice(&before[..HEADER_BYTES]));
    let error = recover(&disk, 5).unwrap_err();
    assert!(error.contains("has changed"), "{error}");
}

/// A start that found no room may have left a file of the right length that is none.
#[test]
fn a_new_journal_is_written_whatever_was_left() {
    let disk = Disk::default();
    disk.journal().set_len(JOURNAL_BYTES as u64).unwrap();
    let before = disk.syncs();
    Journal::create(Box::new(disk.journal())).unwrap();
    assert_eq!(disk.syncs(), before + 1);
}

#[test]
fn a_journal_that_is_cut_or_gone_is_damage() {
    let (_journal, disk) = written(5, 6);
    disk.journal().set_len(1000).unwrap();
    let error = recover(&disk, 5).unwrap_err();
    assert!(error.contains("it has 1000 bytes of"), "{error}");
    assert!(recover(&Disk::default(), 5).is_err());
}
