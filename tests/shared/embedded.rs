//! What only one process has: its own clock, files of overflow, a file of records.

use std::{fs, io::Write, path::PathBuf, sync::Arc};

use tasklog::shared::{
    CdcOverflow, KeyChange, LoginGate, LoginOutcome, LoginPolicy, MemoryKeys, SharedConfig, SharedKeys,
};
use tasklog_log::{ManualClock, SystemClock};
use tempfile::TempDir;

fn buffer(folder: &TempDir, bytes_max: u64) -> CdcOverflow {
    let keys = MemoryKeys::new(Arc::new(SystemClock)).with_cdc_folder(folder.path()).unwrap();
    CdcOverflow::new(Some(Arc::new(keys)), "sink", bytes_max)
}

fn file(folder: &TempDir) -> PathBuf {
    let mut files = fs::read_dir(folder.path()).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

fn contents(buffer: &CdcOverflow) -> Vec<Vec<u8>> {
    buffer.front(100).unwrap().changes.into_iter().map(|change| change.bytes).collect()
}

#[test]
fn the_whole_life_of_a_block_by_the_clock() {
    let clock = ManualClock::at(1_000);
    let keys = MemoryKeys::new(Arc::new(clock.clone()));
    let ip = "10.0.0.1".parse().unwrap();
    let policy = LoginPolicy::from(&SharedConfig::default());
    for _ in 0..5 {
        keys.login_outcome(ip, &LoginOutcome::Failed(policy)).unwrap();
    }
    clock.set(1_000 + 600_000 - 1);
    let gate = keys.login_attempt(ip, 60_000).unwrap();
    assert_eq!(gate, LoginGate::Blocked { until: 601_000, left_ms: 1 });
    clock.advance(1);
    assert!(matches!(keys.login_attempt(ip, 60_000).unwrap(), LoginGate::Counted(hits) if hits.count == 1));
    // Remembered for 24 hours after the block, and not a millisecond longer.
    clock.set(601_000 + 86_400_000 - 1);
    assert_eq!(keys.login_outcome(ip, &LoginOutcome::Failed(policy)).unwrap().failed_count, 6);
    clock.advance(1_200_000 + 86_400_000);
    assert_eq!(keys.login_outcome(ip, &LoginOutcome::Failed(policy)).unwrap().failed_count, 1);
}

#[test]
fn a_file_buffer_survives_its_process() {
    let folder = TempDir::new().unwrap();
    let first = buffer(&folder, 1_000);
    for n in 0..5_u8 {
        first.push(&[n; 10]).unwrap();
    }
    let front = first.front(2).unwrap();
    first.ack(&front.changes).unwrap();
    drop(first);
    let second = buffer(&folder, 1_000);
    assert_eq!(contents(&second), [[2; 10], [3; 10], [4; 10]]);
    assert_eq!(second.front(1).unwrap().bytes, 30);
    assert_eq!(second.ack(&front.changes).unwrap(), 0, "tokens of the first opening mean nothing to the second");
}

#[test]
fn a_torn_end_of_a_file_buffer_is_cut_off_wherever_it_is_torn() {
    let folder = TempDir::new().unwrap();
    buffer(&folder, 1_000).push(b"whole").unwrap();
    let whole = fs::read(file(&folder)).unwrap();
    buffer(&folder, 1_000).push(b"torn").unwrap();
    let both = fs::read(file(&folder)).unwrap();
    for length in whole.len()..both.len() {
        fs::write(file(&folder), &both[..length]).unwrap();
        let buffer = buffer(&folder, 1_000);
        assert_eq!(contents(&buffer), [b"whole"], "torn at {length}");
        buffer.push(b"next").unwrap();
        drop(buffer);
        assert_eq!(contents(&self::buffer(&folder, 1_000)), [b"whole".to_vec(), b"next".to_vec()]);
    }
    fs::write(file(&folder), &whole).unwrap();
    fs::OpenOptions::new().append(true).open(file(&folder)).unwrap().write_all(&[0xff; 40]).unwrap();
    assert_eq!(contents(&buffer(&folder, 1_000)), [b"whole"]);
}

#[test]
fn a_file_buffer_does_not_grow_with_what_went_through_it() {
    let folder = TempDir::new().unwrap();
    let buffer = buffer(&folder, 100_000);
    for n in 0..1_000_u32 {
        let mut change = vec![7; 10_000];
        change[..4].copy_from_slice(&n.to_le_bytes());
        assert!(buffer.push(&change).unwrap().stored);
    }
    let length = fs::metadata(file(&folder)).unwrap().len();
    assert!(length < 2_000_000, "10 MB went through a buffer of 100 kB, and the file has {length} bytes");
    let last: Vec<u32> = contents(&buffer).iter().map(|c| u32::from_le_bytes(c[..4].try_into().unwrap())).collect();
    assert_eq!(last, (990..1_000).collect::<Vec<_>>());
    drop(buffer);
    assert_eq!(contents(&self::buffer(&folder, 100_000)).len(), 10);
}

#[test]
fn without_a_folder_changes_are_dropped() {
    let keys = MemoryKeys::new(Arc::new(SystemClock));
    let pushed = keys.cdc_push("sink", b"change", 1_000).unwrap();
    assert!(!pushed.stored && !pushed.more && pushed.dropped == 1, "{pushed:?}");
}

#[test]
fn records_of_scoped_keys_survive_their_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.db");
    let open = || MemoryKeys::new(Arc::new(ManualClock::at(77))).with_records(&path).unwrap();
    let publish = |generation, uid: &str| KeyChange::Publish { expected_generation: generation, new_uid: uid.into() };
    let keys = open();
    keys.key_change("i", &publish(0, "k1")).unwrap();
    keys.key_change("j", &publish(0, "k1")).unwrap();
    let changed = keys.key_change("i", &publish(1, "k2")).unwrap();
    keys.key_change("j", &KeyChange::Forget).unwrap();
    drop(keys);
    let keys = open();
    assert_eq!(keys.key_state("i", &[]).unwrap().record, changed.record);
    assert_eq!(keys.key_indexes().unwrap(), ["i"]);
}
