//! How much of a set's journal a destination has not got: in bytes, and since when.
//!
//! The sizes of the changes under way are remembered, so that a look at the status reads only what came since the last one.

use std::collections::VecDeque;

use keepshare_base::{Epoch, Seq, Stamp};
use keepshare_replication::source::{ChangeSize, Head};

/// How many sizes one look reads; with more under way the first looks count fewer bytes than there are.
pub(crate) const LOOK_MAX: usize = 50_000;

/// What is remembered of one destination: sixteen bytes for each change of the journal that it lacks.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    epoch: Option<Epoch>,
    /// What it had when this was looked at last.
    acked: Seq,
    /// Through which change the journal was read.
    read: Seq,
    /// How large those are that it lacks and that were in the journal, oldest first.
    sizes: VecDeque<(Seq, u64)>,
    bytes: u64,
    /// Which of them was the oldest, and when it was journaled.
    since: Option<(Seq, Stamp)>,
}

/// How far a destination is behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Lag {
    /// Rows and content that it lacks.
    pub(crate) bytes: u64,
    /// When the oldest change was journaled that it lacks.
    pub(crate) since: Option<Stamp>,
}

impl Backlog {
    /// Counts what is after `acked` and not after `head`; `sizes` reads the journal from a place on. None where it cannot.
    pub(crate) fn look(
        &mut self,
        acked: Seq,
        head: Head,
        sizes: impl Fn(Seq, usize) -> Option<Vec<ChangeSize>>,
    ) -> Option<Lag> {
        if self.epoch != Some(head.epoch) || acked < self.acked {
            *self = Self { epoch: Some(head.epoch), ..Self::default() };
        }
        self.acked = acked;
        while let Some((seq, bytes)) = self.sizes.front().copied()
            && seq <= acked
        {
            self.sizes.pop_front();
            self.bytes -= bytes;
        }
        let next = self.read.max(acked).next();
        if next <= head.seq {
            for ChangeSize { seq, stamp, bytes } in sizes(next, LOOK_MAX)? {
                if self.sizes.is_empty() {
                    self.since = Some((seq, stamp));
                }
                self.read = seq;
                self.bytes += bytes;
                self.sizes.push_back((seq, bytes));
            }
        }
        let Some((oldest, _)) = self.sizes.front().copied() else { return Some(Lag::default()) };
        if self.since.is_none_or(|(seq, _)| seq != oldest) {
            // The oldest may be dropped from the journal since; the next one tells the time as well.
            let first = sizes(oldest, 1)?.first().map(|change| (oldest, change.stamp));
            self.since = first.or(self.since);
        }
        Some(Lag { bytes: self.bytes, since: self.since.map(|(_, stamp)| stamp) })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use keepshare_base::RunningHash;

    use super::*;

    /// A journal whose change `n` has `n` bytes and was made in second `n`.
    fn journal(from: Seq, limit: usize, oldest: u64, head: u64) -> Option<Vec<ChangeSize>> {
        Some((from.0.max(oldest)..=head).take(limit).map(size).collect())
    }

    fn size(n: u64) -> ChangeSize {
        ChangeSize { seq: Seq(n), stamp: Stamp(n.cast_signed() * 1000), bytes: n }
    }

    fn at(seq: u64) -> Head {
        Head { epoch: Epoch::FIRST, seq: Seq(seq), running: RunningHash::EMPTY }
    }

    fn lag(bytes: u64, since: i64) -> Option<Lag> {
        Some(Lag { bytes, since: Some(Stamp(since * 1000)) })
    }

    #[test]
    fn what_is_lacking_is_counted_as_it_comes_and_goes() {
        let mut backlog = Backlog::default();
        let read = |head| move |from, limit| journal(from, limit, 1, head);
        assert_eq!(backlog.look(Seq(0), at(3), read(3)), lag(6, 1));
        assert_eq!(backlog.look(Seq(1), at(4), read(4)), lag(9, 2));
        assert_eq!(backlog.look(Seq(4), at(4), read(4)), Some(Lag::default()));
        assert_eq!(backlog.look(Seq(4), at(5), read(5)), lag(5, 5));
        assert_eq!(backlog.look(Seq(2), at(5), read(5)), lag(12, 3), "it lost some");
        let other = Head { epoch: Epoch::FIRST.next(), ..at(2) };
        assert_eq!(backlog.look(Seq(0), other, read(2)), lag(3, 1), "another journal");
    }

    #[test]
    fn what_was_dropped_is_not_counted() {
        let mut backlog = Backlog::default();
        let dropped = |from, limit| journal(from, limit, 8, 10);
        assert_eq!(backlog.look(Seq(0), at(10), dropped), lag(27, 8));
    }

    /// What nobody can tell is not nothing: who reads `0 B` thinks that the backup is there.
    #[test]
    fn a_journal_that_cannot_be_read_is_told() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.look(Seq(0), at(3), |_, _| None), None);
        assert_eq!(
            backlog.look(Seq(0), at(3), |from, limit| journal(from, limit, 1, 3)),
            lag(6, 1)
        );
    }

    /// Nor is a change so large that its size has no place.
    #[test]
    fn a_large_change_counts_whole() {
        let mut backlog = Backlog::default();
        let large = |n| ChangeSize { bytes: 5 << 30, ..size(n) };
        let read = |from: Seq, limit| Some((from.0..=2).take(limit).map(large).collect());
        assert_eq!(backlog.look(Seq(0), at(2), read), lag(10 << 30, 1));
        assert_eq!(backlog.look(Seq(1), at(2), read), lag(5 << 30, 2));
    }

    /// Each change counts once, also where some between those that are there were dropped.
    #[test]
    fn what_was_dropped_in_between_makes_nothing_count_twice() {
        let mut backlog = Backlog::default();
        let read = |head| {
            move |from, limit| {
                let Seq(from) = from;
                let rows = (from.max(1)..=head).filter(|n| !(3..=6).contains(n));
                Some(rows.take(limit).map(size).collect::<Vec<_>>())
            }
        };
        for _ in 0..3 {
            assert_eq!(backlog.look(Seq(0), at(9), read(9)), lag(1 + 2 + 7 + 8 + 9, 1));
        }
        assert_eq!(backlog.look(Seq(2), at(10), read(10)), lag(7 + 8 + 9 + 10, 7));
        assert_eq!(backlog.look(Seq(5), at(10), read(10)), lag(7 + 8 + 9 + 10, 7));
    }

    /// A look at a status that is asked for every second must not read a million rows every second.
    #[test]
    fn a_look_reads_only_what_is_new() {
        let (mut backlog, rows) = (Backlog::default(), Cell::new(0));
        let read = |head: u64| {
            let rows = &rows;
            move |from, limit| {
                let read = journal(from, limit, 1, head);
                rows.set(rows.get() + read.as_ref().map_or(0, Vec::len));
                read
            }
        };
        backlog.look(Seq(0), at(1000), read(1000));
        backlog.look(Seq(10), at(1001), read(1001));
        backlog.look(Seq(10), at(1001), read(1001));
        assert!(rows.get() <= 1004, "{}", rows.get());
    }
}
