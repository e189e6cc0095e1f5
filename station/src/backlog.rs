//! How much of a set's journal a destination has not got: in bytes, and since when.
//!
//! The sizes of the changes under way are remembered, so that a look at the status reads only what came since the last one.

use std::collections::VecDeque;

use keepshare_base::{Epoch, Seq, Stamp};
use keepshare_replication::source::{ChangeSize, Head};

/// How many sizes one look reads; with more under way the first looks count fewer bytes than there are.
pub(crate) const LOOK_MAX: usize = 50_000;

/// What is remembered of one destination: four bytes for each change of the journal that it lacks.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    epoch: Option<Epoch>,
    /// What it had when this was looked at last.
    acked: Seq,
    /// The first change it lacks, of those that are in the journal.
    first: Seq,
    /// When that was journaled.
    since: Stamp,
    sizes: VecDeque<u32>,
    bytes: u64,
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
    /// Counts what is after `acked` and not after `head`; `sizes` reads the journal from a place on.
    pub(crate) fn look(
        &mut self,
        acked: Seq,
        head: Head,
        sizes: impl Fn(Seq, usize) -> Vec<ChangeSize>,
    ) -> Lag {
        if self.epoch != Some(head.epoch) || acked < self.acked {
            *self = Self { epoch: Some(head.epoch), first: acked.next(), ..Self::default() };
        }
        self.acked = acked;
        let before = self.first;
        while self.first <= acked {
            match self.sizes.pop_front() {
                Some(size) => {
                    self.bytes -= u64::from(size);
                    self.first = self.first.next();
                }
                None => self.first = acked.next(),
            }
        }
        let next = Seq(self.first.0 + self.sizes.len() as u64);
        if next <= head.seq {
            self.take(sizes(next, LOOK_MAX));
        }
        if self.sizes.is_empty() {
            return Lag::default();
        }
        if self.first != before || self.since == Stamp(0) {
            let first = sizes(self.first, 1).first().map(|change| change.stamp);
            self.since = first.unwrap_or(self.since);
        }
        Lag { bytes: self.bytes, since: Some(self.since) }
    }

    fn take(&mut self, sizes: Vec<ChangeSize>) {
        for change in sizes {
            // The oldest were dropped: what is lacking begins here.
            if self.sizes.is_empty() {
                (self.first, self.since) = (change.seq, change.stamp);
            }
            let size = u32::try_from(change.bytes).unwrap_or(u32::MAX);
            self.bytes += u64::from(size);
            self.sizes.push_back(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use keepshare_base::RunningHash;

    use super::*;

    /// A journal whose change `n` has `n` bytes and was made in second `n`.
    fn journal(from: Seq, limit: usize, oldest: u64, head: u64) -> Vec<ChangeSize> {
        let size = |n| ChangeSize { seq: Seq(n), stamp: Stamp(n.cast_signed() * 1000), bytes: n };
        (from.0.max(oldest)..=head).take(limit).map(size).collect()
    }

    fn at(seq: u64) -> Head {
        Head { epoch: Epoch::FIRST, seq: Seq(seq), running: RunningHash::EMPTY }
    }

    fn lag(bytes: u64, since: i64) -> Lag {
        Lag { bytes, since: Some(Stamp(since * 1000)) }
    }

    #[test]
    fn what_is_lacking_is_counted_as_it_comes_and_goes() {
        let mut backlog = Backlog::default();
        let read = |head| move |from, limit| journal(from, limit, 1, head);
        assert_eq!(backlog.look(Seq(0), at(3), read(3)), lag(6, 1));
        assert_eq!(backlog.look(Seq(1), at(4), read(4)), lag(9, 2));
        assert_eq!(backlog.look(Seq(4), at(4), read(4)), Lag::default());
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

    /// A look at a status that is asked for every second must not read a million rows every second.
    #[test]
    fn a_look_reads_only_what_is_new() {
        let (mut backlog, rows) = (Backlog::default(), Cell::new(0));
        let read = |head: u64| {
            let rows = &rows;
            move |from, limit| {
                let read = journal(from, limit, 1, head);
                rows.set(rows.get() + read.len());
                read
            }
        };
        backlog.look(Seq(0), at(1000), read(1000));
        backlog.look(Seq(10), at(1001), read(1001));
        backlog.look(Seq(10), at(1001), read(1001));
        assert!(rows.get() <= 1004, "{}", rows.get());
    }
}
