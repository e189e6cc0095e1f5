//! Names and folders that could not be read, and when each is tried again.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use keepshare_base::FileId;
use keepshare_proto::MonoTime;

use crate::At;

/// The most problems remembered one by one of what is not replicated, and as many of what is replicated in part; what is
/// beyond is found by scans only.
const KEPT_MAX: usize = 1 << 16;

/// When a problem is tried again for the first time, and, doubled each time, at the latest.
const TRY_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// How the reason ends where all of a folder was seen, and some name in it is too long for a set with its escapes.
pub const UNUSABLE: &str = "cannot be shown in a set; give it a shorter name";

/// A file that could not be read or shown; everything else goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileProblem {
    /// Its path in the set, safe to print.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What could not be read.
#[derive(Debug, Default)]
pub struct Problems {
    places: BTreeMap<At, Problem>,
    /// How many of them keep only something of a name back.
    partial: usize,
    /// So many more did not find room.
    more_unseen: u64,
    /// And so many that keep only something of a name back: how many there are must not hide what is not replicated.
    more_partial: u64,
    next: Option<MonoTime>,
    changed: bool,
}

#[derive(Debug)]
struct Problem {
    shown: FileProblem,
    again: MonoTime,
    wait: Duration,
    /// The name is replicated, but for something of it.
    partial: bool,
}

impl Problems {
    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.more() == 0
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.places.len() as u64 + self.more()
    }

    fn more(&self) -> u64 {
        self.more_unseen + self.more_partial
    }

    /// Returns them as they are shown.
    pub fn shown(&self) -> impl Iterator<Item = &FileProblem> {
        self.places.values().map(|problem| &problem.shown)
    }

    /// Returns all places that are not replicated; `None` when there are more than are remembered.
    pub fn places(&self) -> Option<HashSet<At>> {
        let unseen = self.places.iter().filter(|(_, problem)| !problem.partial);
        (self.more_unseen == 0).then(|| unseen.map(|(place, _)| place.clone()).collect())
    }

    /// Tells whether a folder could not be listed.
    pub fn is_closed(&self, folder: FileId) -> bool {
        let problem = self.places.get(&(folder, None));
        problem.is_some_and(|problem| !problem.shown.reason.ends_with(UNUSABLE))
    }

    /// Takes in what came of looking: `looked` are all places that were looked at, `found` the problems there, `partial`
    /// those that keep only something of a name back.
    pub fn update(
        &mut self,
        now: MonoTime,
        looked: Vec<At>,
        found: Vec<(At, FileProblem)>,
        partial: Vec<(At, FileProblem)>,
    ) {
        if self.is_empty() && found.is_empty() && partial.is_empty() {
            return;
        }
        self.changed = true;
        let former: BTreeMap<At, Problem> =
            looked.iter().filter_map(|place| self.places.remove_entry(place)).collect();
        self.partial -= former.values().filter(|problem| problem.partial).count();
        let partial = partial.into_iter().map(|(place, shown)| (place, shown, true));
        let found = found.into_iter().map(|(place, shown)| (place, shown, false));
        for (place, shown, partial) in partial.chain(found) {
            let [first, most] = TRY_AGAIN;
            let (again, wait) = match former.get(&place).or(self.places.get(&place)) {
                // It was looked at for another reason: that makes it no worse.
                Some(problem) if problem.again > now => (problem.again, problem.wait),
                Some(problem) => (now + problem.wait, (2 * problem.wait).min(most)),
                None => (now + first, 2 * first),
            };
            let kept = if partial { self.partial } else { self.places.len() - self.partial };
            if kept >= KEPT_MAX && !self.places.contains_key(&place) {
                *(if partial { &mut self.more_partial } else { &mut self.more_unseen }) += 1;
                continue;
            }
            self.next = Some(self.next.map_or(again, |next| next.min(again)));
            let before = self.places.insert(place, Problem { shown, again, wait, partial });
            self.partial -= usize::from(before.is_some_and(|before| before.partial));
            self.partial += usize::from(partial);
        }
    }

    /// Forgets those that were not remembered one by one: a scan finds them again.
    pub fn begin_scan(&mut self) {
        self.changed |= self.more() > 0;
        (self.more_unseen, self.more_partial) = (0, 0);
    }

    /// Tells whether they changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns when something is to be tried again.
    pub fn next_try(&self) -> Option<MonoTime> {
        self.next
    }

    /// Takes the places that are to be tried again now.
    pub fn take_due(&mut self, now: MonoTime) -> Vec<At> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let is_due = |problem: &Problem| problem.again <= now;
        let due = self.places.iter().filter(|(_, problem)| is_due(problem));
        let due = due.map(|(place, _)| place.clone()).collect();
        // Those that are due come back, or are gone.
        let waiting = self.places.values().filter(|problem| !is_due(problem));
        self.next = waiting.map(|problem| problem.again).min();
        due
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{FileId, Name};

    use super::*;

    fn problem() -> FileProblem {
        FileProblem { path: "/a".to_owned(), reason: "no".to_owned() }
    }

    #[test]
    fn what_fails_again_is_tried_less_often_and_what_is_well_is_forgotten() {
        let place = (FileId::ROOT, Some(Name::new(b"a").unwrap()));
        let (mut now, mut problems) = (MonoTime(0), Problems::default());
        problems.update(now, vec![], vec![(place.clone(), problem())], vec![]);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = problems.next_try().unwrap();
            waits.push(at.since(now).as_secs());
            let due = problems.take_due(at);
            assert_eq!(due, std::slice::from_ref(&place));
            assert_eq!(problems.next_try(), None);
            now = at;
            problems.update(now, vec![place.clone()], vec![(place.clone(), problem())], vec![]);
            assert_eq!(problems.count(), 1);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        problems.update(now, vec![place.clone()], vec![], vec![]);
        assert!(problems.is_empty());
    }

    /// Names that are noticed again and again meanwhile are not tried later for that.
    #[test]
    fn an_early_look_keeps_the_time_of_the_next_one() {
        let place = (FileId::ROOT, None);
        let (now, mut problems) = (MonoTime(0), Problems::default());
        problems.update(now, vec![], vec![(place.clone(), problem())], vec![]);
        let at = problems.next_try().unwrap();
        for _ in 0..100 {
            problems.update(now, vec![place.clone()], vec![(place.clone(), problem())], vec![]);
        }
        assert_eq!(problems.next_try(), Some(at));
        assert!(problems.is_closed(FileId::ROOT));
    }

    /// However many files lack attributes: what a mirror may not remove is known all the same.
    #[test]
    fn what_is_partly_replicated_hides_nothing_that_is_unseen() {
        let place = |n: usize| (FileId::ROOT, Some(Name::new(n.to_string().as_bytes()).unwrap()));
        let partial = (0..=KEPT_MAX).map(|n| (place(n), problem())).collect();
        let (now, mut problems) = (MonoTime(0), Problems::default());
        problems.update(now, vec![], vec![], partial);
        problems.update(now, vec![], vec![((FileId::ROOT, None), problem())], vec![]);
        assert_eq!(problems.count(), KEPT_MAX as u64 + 2);
        assert_eq!(problems.places(), Some(HashSet::from([(FileId::ROOT, None)])));
        // What is partly replicated first and not at all then is of the other kind.
        problems.update(now, vec![place(0)], vec![(place(0), problem())], vec![]);
        assert_eq!(problems.places().map(|places| places.len()), Some(2));
        let unseen = (0..KEPT_MAX).map(|n| (place(n + KEPT_MAX + 1), problem())).collect();
        problems.update(now, vec![], unseen, vec![]);
        assert_eq!(problems.places(), None);
        problems.begin_scan();
        problems.update(now, (0..3 * KEPT_MAX).map(place).collect(), vec![], vec![]);
        assert_eq!(problems.places(), Some(HashSet::from([(FileId::ROOT, None)])));
    }

    /// A file that lacks an attribute is a problem, and is replicated all the same: it goes where it is removed.
    #[test]
    fn what_is_partly_replicated_is_told_and_is_no_unseen_place() {
        let place = (FileId::ROOT, Some(Name::new(b"a").unwrap()));
        let (now, mut problems) = (MonoTime(0), Problems::default());
        problems.update(now, vec![], vec![], vec![(place.clone(), problem())]);
        assert_eq!(problems.count(), 1);
        assert!(problems.places().unwrap().is_empty());
        problems.update(now, vec![place], vec![], vec![]);
        assert!(problems.is_empty());
    }
}
