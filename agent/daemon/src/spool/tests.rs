#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use ringward_domain::signal::SignalKind;
use ringward_domain::{BootId, Millis};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Files in memory that know what is synced, and fail when told to.
#[derive(Debug, Clone, Default)]
struct Memory(Rc<RefCell<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    /// (content, length that is synced)
    files: BTreeMap<u64, (Vec<u8>, usize)>,
    /// The append after this many more fails, having written half of its bytes.
    fails_after: Option<u32>,
}

impl Files for Memory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.borrow().files.keys().copied().collect())
    }
    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let file = state.files.get(&number);
        file.map(|(bytes, _)| bytes.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn append(&mut self, number: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let fails = state.fails_after == Some(0);
        state.fails_after = state.fails_after.map(|n| n.wrapping_sub(1));
        let file = state.files.entry(number).or_default();
        if fails {
            file.0.extend(&bytes[..bytes.len() / 2]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.0.extend(bytes);
        if sync {
            file.1 = file.0.len();
        }
        Ok(())
    }
    fn replace(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.files.insert(number, (bytes.to_vec(), bytes.len()));
        Ok(())
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.0.borrow_mut().files.remove(&number);
        Ok(())
    }
}

impl Memory {
    /// A copy of the disk as it is now.
    fn snapshot(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
    fn bytes(&self) -> u64 {
        let state = self.0.borrow();
        state
            .files
            .values()
            .map(|(bytes, _)| bytes.len() as u64)
            .sum()
    }
}

fn signal(seq: u64, kind: SignalKind, text: &str) -> Signal {
    Signal {
        seq: SignalSeq(seq),
        kind,
        key: format!("key-{seq}"),
        boot: BootId([7; 16]),
        at_boottime: Millis(seq),
        release: None,
        title: text.to_owned(),
        signature: String::new(),
        evidence: "{}".to_owned(),
    }
}

fn filled(files: Memory, seqs: std::ops::RangeInclusive<u64>) -> Spool<Memory> {
    let mut spool = Spool::open(files, u64::MAX).unwrap();
    for seq in seqs {
        spool
            .append(&signal(
                seq,
                SignalKind::CrashLoop,
                &"x".repeat(usize::try_from(seq % 200).unwrap()),
            ))
            .unwrap();
    }
    spool
}

fn seqs(spool: &mut Spool<Memory>) -> Vec<u64> {
    let from = spool.range().0;
    let found = spool.read(from, usize::MAX).unwrap();
    found.iter().map(|signal| signal.seq.0).collect()
}

#[test]
fn what_was_appended_is_there_after_a_restart_in_order() {
    let files = Memory::default();
    drop(filled(files.clone(), 1..=1000));
    let mut spool = Spool::open(files, u64::MAX).unwrap();
    assert_eq!(spool.range(), (SignalSeq(1), SignalSeq(1001)));
    assert_eq!(seqs(&mut spool), (1..=1000).collect::<Vec<_>>());
    let batch = spool.read(SignalSeq(500), 64).unwrap();
    assert_eq!((batch[0].seq.0, batch.len()), (500, 64));
    assert_eq!(spool.losses(), Losses::default());
}

#[test]
fn acknowledged_signals_go_and_their_numbers_never_come_back() {
    let files = Memory::default();
    let mut spool = filled(files.clone(), 1..=2000);
    spool.acknowledge(SignalSeq(2000)).unwrap();
    assert!(
        files.bytes() < SEGMENT_BYTES_WORTH_REPLACING,
        "{} bytes are left",
        files.bytes()
    );
    let mut spool = Spool::open(files, u64::MAX).unwrap();
    assert_eq!(spool.range(), (SignalSeq(2001), SignalSeq(2001)));
    assert!(seqs(&mut spool).is_empty());
}

#[test]
fn an_acknowledgement_beyond_the_end_gives_up_nothing_that_comes_later() {
    let files = Memory::default();
    let mut spool = filled(files.clone(), 1..=3);
    spool.acknowledge(SignalSeq(900)).unwrap();
    spool.append(&signal(4, SignalKind::Bugcheck, "")).unwrap();
    assert_eq!(seqs(&mut Spool::open(files, u64::MAX).unwrap()), [4]);
}

#[test]
fn a_hundred_live_records_stay_below_64_kib_on_disk() {
    let files = Memory::default();
    let mut spool = filled(files.clone(), 1..=100);
    let text = "x".repeat(150);
    for seq in 101..=5000 {
        spool
            .append(&signal(seq, SignalKind::CrashLoop, &text))
            .unwrap();
        spool.acknowledge(SignalSeq(seq - 100)).unwrap();
    }
    assert!(files.bytes() <= 64 * 1024, "{}", files.bytes());
    assert_eq!(seqs(&mut spool).len(), 100);
}

#[test]
fn a_full_spool_drops_the_oldest_of_low_value_first_and_counts_them() {
    let files = Memory::default();
    let mut spool = Spool::open(files.clone(), 7 * SEGMENT_BYTES_MAX).unwrap();
    let text = "y".repeat(250);
    for seq in 1..=2000 {
        let kind = if seq % 10 == 0 {
            SignalKind::KernelPanic
        } else {
            SignalKind::OomKill
        };
        spool.append(&signal(seq, kind, &text)).unwrap();
    }
    assert!(files.bytes() <= 8 * SEGMENT_BYTES_MAX);
    let left = spool.read(SignalSeq(1), usize::MAX).unwrap();
    let panics = left
        .iter()
        .filter(|signal| signal.kind == SignalKind::KernelPanic);
    assert_eq!(panics.count(), 200, "no failure was dropped");
    assert_eq!(spool.losses().dropped, 2000 - left.len() as u64);
    assert!(spool.losses().dropped > 0);
}

#[test]
fn a_spool_full_of_failures_drops_the_oldest() {
    let mut spool = Spool::open(Memory::default(), 0).unwrap();
    for seq in 1..=2000 {
        spool
            .append(&signal(seq, SignalKind::KernelPanic, &"z".repeat(250)))
            .unwrap();
    }
    let left = seqs(&mut spool);
    assert_eq!(left.last(), Some(&2000));
    assert_eq!(spool.losses().dropped, left[0] - 1);
}

#[test]
fn a_failed_append_frees_its_seq_and_the_next_one_of_that_seq_wins() {
    let files = Memory::default();
    let mut spool = filled(files.clone(), 1..=5);
    files.0.borrow_mut().fails_after = Some(0);
    assert!(
        spool
            .append(&signal(6, SignalKind::Bugcheck, "lost"))
            .is_err()
    );
    assert_eq!(spool.range().1, SignalSeq(6));
    spool
        .append(&signal(6, SignalKind::Bugcheck, "kept"))
        .unwrap();
    let mut spool = Spool::open(files, u64::MAX).unwrap();
    let found = spool.read(SignalSeq(6), 10).unwrap();
    assert_eq!((found.len(), found[0].title.as_str()), (1, "kept"));
    assert_eq!(seqs(&mut spool), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn text_of_a_signal_cannot_forge_a_record() {
    let files = Memory::default();
    let forged = String::from_utf8_lossy(&frame::encode(Kind::Acknowledged, SignalSeq(99), &[]))
        .into_owned();
    let mut spool = Spool::open(files.clone(), u64::MAX).unwrap();
    spool
        .append(&signal(1, SignalKind::CrashLoop, &forged))
        .unwrap();
    let (number, at) = (1, files.bytes() as usize - 3);
    files.0.borrow_mut().files.get_mut(&number).unwrap().0[at] ^= 1;
    let spool = Spool::open(files, u64::MAX).unwrap();
    assert_eq!(spool.acknowledged, SignalSeq(0));
    assert_eq!(spool.losses().damaged, 1);
}

#[test]
fn real_files_behave_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut spool = Spool::open(DiskFiles::new(&path).unwrap(), u64::MAX).unwrap();
    for seq in 1..=500 {
        spool
            .append(&signal(seq, SignalKind::CrashLoop, &"x".repeat(200)))
            .unwrap();
    }
    spool.acknowledge(SignalSeq(450)).unwrap();
    let mut spool = Spool::open(DiskFiles::new(&path).unwrap(), 0).unwrap();
    assert_eq!(spool.range(), (SignalSeq(451), SignalSeq(501)));
    assert_eq!(spool.read(SignalSeq(451), 64).unwrap().len(), 50);
    for seq in 501..=2000 {
        spool
            .append(&signal(seq, SignalKind::OomKill, &"x".repeat(200)))
            .unwrap();
    }
    let last = spool.read(SignalSeq(2000), 1).unwrap();
    assert_eq!(last[0].seq, SignalSeq(2000));
    assert!(spool.losses().dropped > 0);
}

/// Records of one segment with the place of each: (seq, first byte, behind the last byte).
fn places(bytes: &[u8]) -> Vec<(u64, usize, usize)> {
    let start = bytes.as_ptr() as usize;
    let mut found = Vec::new();
    frame::scan(bytes, |frame| {
        if frame.kind == Kind::Signal {
            let payload = frame.payload.as_ptr() as usize - start;
            found.push((
                frame.seq.0,
                payload - frame::HEADER_BYTES,
                payload + frame.payload.len(),
            ));
        }
    });
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3400, ..ProptestConfig::default() })]

    /// Cut the disk anywhere behind what was synced; what was synced is all there.
    #[test]
    fn a_torn_tail_loses_only_what_was_not_synced(count in 1u64..40, keep in 0.0f64..1.0) {
        let files = Memory::default();
        let mut spool = filled(files.clone(), 1..=count);
        let unsynced = frame::encode(Kind::Signal, SignalSeq(count + 1), &[b'x'; 300]);
        let number = spool.tail(300).unwrap();
        files.clone().append(number, &unsynced, false).unwrap();
        {
            let mut state = files.0.borrow_mut();
            let (bytes, synced) = state.files.get_mut(&number).unwrap();
            let torn = *synced + ((bytes.len() - *synced) as f64 * keep) as usize;
            bytes.truncate(torn);
        }
        let mut spool = Spool::open(files.snapshot(), u64::MAX).unwrap();
        prop_assert_eq!(seqs(&mut spool), (1..=count).collect::<Vec<_>>());
        let next = spool.range().1;
        prop_assert!(next.0 > count);
        spool.append(&signal(next.0, SignalKind::Bugcheck, "after")).unwrap();
        let mut again = Spool::open(files.snapshot(), u64::MAX).unwrap();
        prop_assert_eq!(seqs(&mut again).len() as u64, count);
        prop_assert_eq!(seqs(&mut spool).len() as u64, count + 1);
    }

    /// Flip any bits: it opens, loses only the records they stand in, and no number is used twice.
    #[test]
    fn flipped_bits_lose_only_the_damaged_records(
        count in 1u64..40,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
    ) {
        let files = Memory::default();
        drop(filled(files.clone(), 1..=count));
        let mut hurt = Vec::new();
        {
            let mut state = files.0.borrow_mut();
            let (bytes, _) = state.files.get_mut(&1).unwrap();
            let whole = places(bytes);
            let before = bytes.clone();
            for (index, bit) in &flips {
                let at = index.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            for (seq, first, behind) in whole {
                if bytes[first..behind] != before[first..behind] {
                    hurt.push(seq);
                }
            }
        }
        let mut spool = Spool::open(files, u64::MAX).unwrap();
        let expected: Vec<u64> = (1..=count).filter(|seq| !hurt.contains(seq)).collect();
        prop_assert_eq!(seqs(&mut spool), expected);
        prop_assert!(spool.range().1.0 > count, "{:?}", spool.range());
        prop_assert!(hurt.is_empty() || spool.losses().damaged > 0);
    }

    /// Any bytes at all: it opens and takes new signals.
    #[test]
    fn any_bytes_open(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let files = Memory::default();
        files.0.borrow_mut().files.insert(1, (bytes, 0));
        let mut spool = Spool::open(files, u64::MAX).unwrap();
        let next = spool.range().1.0;
        spool.append(&signal(next, SignalKind::Bugcheck, "new")).unwrap();
        prop_assert_eq!(seqs(&mut spool), vec![next]);
    }
}
