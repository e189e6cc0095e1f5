//! What one history lets go.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
};

use keepshare_base::Stamp;

use super::Policy;

/// A day of running time, in microseconds.
pub(super) const DAY: u64 = 86_400_000_000;

/// When a history is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// For how long the set has run here, in microseconds.
    pub running_micros: u64,
    /// What this station's clock says.
    pub clock: Stamp,
}

/// A version, as far as it matters for how long it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version {
    /// When it was made, by this station's reckoning.
    pub moment: Stamp,
    /// When it arrived, by this station's clock then.
    pub arrival: Stamp,
    /// For how long the set had run here when it arrived, in microseconds.
    pub running_micros: u64,
    /// Whether something outside of its history holds it.
    pub held: bool,
}

impl Version {
    /// Returns how long it is here, in microseconds of running time: whatever is done to a clock does not change it.
    pub(super) fn here(&self, now: Now) -> u64 {
        now.running_micros.saturating_sub(self.running_micros)
    }

    /// Returns how old it is, in microseconds: how long it is here, and how long it took to come.
    ///
    /// That it came late is believed as far as the clock still says so, and no further than the set has run here: a clock that was wrong
    /// as it came, here or at its master, makes it no older.
    pub(super) fn age(&self, now: Now) -> u64 {
        let late = self.late().min(now.running_micros);
        let here = self.here(now);
        let by_clock = positive(now.clock.micros_since(self.moment));
        here.max(here.saturating_add(late).min(by_clock))
    }

    /// Returns the running time from which on it is at least so old, where the clock goes on as the running time does.
    pub(super) fn reaches(&self, now: Now, age: u64) -> u64 {
        let since = self.running_micros;
        let by_here = since.saturating_add(age);
        // How long it took to come counts as far as the set has run here, so that running time counts twice until then.
        let late = self.late();
        let by_late = if late < age { by_here - late } else { 0 };
        let by_running = if age <= since { age } else { since + (age - since).div_ceil(2) };
        let clock_lacks = i128::from(age) - i128::from(now.clock.micros_since(self.moment));
        let clock_lacks = u64::try_from(clock_lacks.max(0)).unwrap_or(u64::MAX);
        let by_clock = now.running_micros.saturating_add(clock_lacks);
        by_here.min(by_late.max(by_running).max(by_clock)).max(now.running_micros)
    }

    fn late(&self) -> u64 {
        positive(self.arrival.micros_since(self.moment))
    }
}

fn positive(span: i64) -> u64 {
    u64::try_from(span).unwrap_or(0)
}

/// Why a version is kept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// It is the newest of its name.
    Newest,
    /// It is one of the last.
    Last,
    /// It has not been here for long enough.
    Young,
    /// It is the first or the last of one of the protected days.
    Day,
    /// Without it, those before and after it would be too far apart.
    Spacing,
    /// It was deleted, not long enough ago.
    Deleted,
    /// Something outside of its history holds it.
    Held,
}

impl Reason {
    /// All of them, the strongest first.
    pub const ALL: [Self; 7] = [
        Self::Held,
        Self::Newest,
        Self::Young,
        Self::Day,
        Self::Last,
        Self::Deleted,
        Self::Spacing,
    ];

    /// Returns what it is called wherever versions are listed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Last => "last",
            Self::Young => "min_age",
            Self::Day => "protect_days",
            Self::Spacing => "steps",
            Self::Deleted => "deleted",
            Self::Held => "held",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some reasons.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reasons(u8);

impl Reasons {
    /// Adds one.
    pub fn add(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    /// Tells whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether it is kept whatever else there is.
    pub(super) fn is_protected(self) -> bool {
        [Reason::Held, Reason::Young, Reason::Day].into_iter().any(|reason| self.has(reason))
    }

    /// Tells whether one is among them.
    pub fn has(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Returns these and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns them, the strongest first.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.has(*reason))
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Reason::word).collect();
        f.write_str(&words.join(" "))
    }
}

/// Why a version goes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Gone {
    /// Those before and after it are close enough to each other.
    Thinned,
    /// There are more than `max_versions`, and these are closest for their age.
    TooMany,
    /// It is older than `max_age`.
    TooOld,
    /// It was deleted long enough ago.
    Deleted,
}

impl Gone {
    /// Returns what it is called wherever versions are listed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Thinned => "steps",
            Self::TooMany => "max_versions",
            Self::TooOld => "max_age",
            Self::Deleted => "deleted",
        }
    }
}

/// What becomes of a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is kept, for these reasons.
    Kept(Reasons),
    /// This history lets it go.
    Gone(Gone),
}

impl Fate {
    /// Tells whether it is kept.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

/// Judges a history: its versions newest first, each once, without those that are gone already. `deleted` says for how long the name
/// has stood for nothing, in microseconds of running time; `None` where it stands for something.
///
/// One rule thins: a version goes where those that are kept before and after it are no further apart, by moments, than the step of its
/// age, the oldest first. So a burst thins itself, and it does not matter how often this is done: what nightly runs leave, and one run
/// after a week, is spread alike. Only where more than `max_versions` are left does the one go whose neighbours are closest for its age.
///
/// Ages go by running time: no clock makes a version old.
pub fn judge(policy: &Policy, now: Now, versions: &[Version], deleted: Option<u64>) -> Vec<Fate> {
    let mut reasons: Vec<Reasons> =
        versions.iter().map(|version| floors(policy, now, version)).collect();
    protect_days(policy, now, versions, &mut reasons);
    let mut fates: Vec<Option<Gone>> = vec![None; versions.len()];
    let over = deleted.zip(policy.deleted()).is_some_and(|(since, keep)| since >= keep.micros());
    if over {
        for (fate, reasons) in fates.iter_mut().zip(&reasons) {
            *fate = reasons.is_empty().then_some(Gone::Deleted);
        }
    } else {
        if let Some(newest) = reasons.first_mut() {
            newest.add(if deleted.is_some() { Reason::Deleted } else { Reason::Newest });
        }
        let max_age = policy.max_age().map_or(u64::MAX, |max| max.micros());
        for ((version, reasons), fate) in versions.iter().zip(&reasons).zip(&mut fates) {
            if reasons.is_empty() && version.age(now) >= max_age {
                *fate = Some(Gone::TooOld);
            }
        }
        for (reasons, _) in
            reasons.iter_mut().zip(&fates).take(policy.last()).filter(|(_, fate)| fate.is_none())
        {
            reasons.add(Reason::Last);
        }
        thin(policy, now, versions, &reasons, &mut fates);
        limit(policy, now, versions, &reasons, &mut fates);
    }
    let each = reasons.into_iter().zip(fates);
    each.map(|(mut reasons, fate)| match fate {
        Some(gone) => Fate::Gone(gone),
        None => {
            if reasons.is_empty() {
                reasons.add(Reason::Spacing);
            }
            Fate::Kept(reasons)
        }
    })
    .collect()
}

fn floors(policy: &Policy, now: Now, version: &Version) -> Reasons {
    let mut reasons = Reasons::default();
    if version.held {
        reasons.add(Reason::Held);
    }
    if version.here(now) < policy.min_age().micros() {
        reasons.add(Reason::Young);
    }
    reasons
}

/// Protects the first and the last of each day of running time. Days begin where the set began here, and not where one looks from: else
/// each look would protect others.
fn protect_days(policy: &Policy, now: Now, versions: &[Version], reasons: &mut [Reasons]) {
    let most = u64::from(policy.protect_days()) * DAY;
    let mut days: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for (place, version) in versions.iter().enumerate() {
        if version.here(now) < most {
            let day = version.running_micros / DAY;
            days.entry(day).and_modify(|(_, first)| *first = place).or_insert((place, place));
        }
    }
    for (last, first) in days.into_values() {
        reasons[last].add(Reason::Day);
        reasons[first].add(Reason::Day);
    }
}

fn thin(
    policy: &Policy,
    now: Now,
    versions: &[Version],
    reasons: &[Reasons],
    fates: &mut [Option<Gone>],
) {
    let left: Vec<usize> =
        (0..versions.len()).rev().filter(|place| fates[*place].is_none()).collect();
    let Some(mut before) = left.first().copied() else { return };
    for around in left.windows(3) {
        let (place, after) = (around[1], around[2]);
        let version = &versions[place];
        let spacing = policy.spacing(version.age(now)).micros();
        let apart = apart(&versions[before], &versions[after]);
        if reasons[place].is_empty() && spacing > 0 && apart <= spacing {
            fates[place] = Some(Gone::Thinned);
        } else {
            before = place;
        }
    }
}

/// Returns how far two versions are apart, in microseconds: by their moments, or by when they came where that is more. Moments stand
/// still after a clock was ahead, until it is put right; running time goes on.
fn apart(older: &Version, newer: &Version) -> u64 {
    let by_moments = newer.moment.0.abs_diff(older.moment.0);
    by_moments.max(newer.running_micros.abs_diff(older.running_micros))
}

/// Lets go what is closest for its age while there are too many. What is protected does not count: a storm of saves that is not old
/// enough to be thinned takes nothing from what was before it.
fn limit(
    policy: &Policy,
    now: Now,
    versions: &[Version],
    reasons: &[Reasons],
    fates: &mut [Option<Gone>],
) {
    let left: Vec<usize> = (0..versions.len()).filter(|place| fates[*place].is_none()).collect();
    let counts = |place: &&usize| !reasons[**place].is_protected();
    let count = left.iter().filter(counts).count();
    let Some(mut over) = policy.max_versions().and_then(|max| count.checked_sub(max)) else {
        return;
    };
    // Neighbours among what is left, by place in `left`: newer and older.
    let mut around: Vec<(usize, usize)> =
        (0..left.len()).map(|place| (place.wrapping_sub(1), place + 1)).collect();
    let closeness = |place: usize, (newer, older): (usize, usize)| {
        let newer = left.get(newer)?;
        // The oldest has nothing before it: it goes after all others.
        let Some(older) = left.get(older) else { return Some(u128::MAX) };
        let version = &versions[left[place]];
        let gap = apart(&versions[*older], &versions[*newer]);
        // Gap over age, as a fraction of 2⁶⁴ that keeps the order.
        let age = u128::from(version.age(now).max(1));
        Some((u128::from(gap) << 64) / age)
    };
    let is_free = |place: usize| reasons[left[place]].is_empty();
    let of = |place: usize, around: (usize, usize)| {
        closeness(place, around)
            .filter(|_| is_free(place))
            .map(|close| Reverse((close, Reverse(place))))
    };
    let mut heap: BinaryHeap<_> =
        (0..left.len()).filter_map(|place| of(place, around[place])).collect();
    while over > 0 {
        let Some(Reverse((close, Reverse(place)))) = heap.pop() else { return };
        // What was put in before its neighbours went is there again.
        if fates[left[place]].is_some() || closeness(place, around[place]) != Some(close) {
            continue;
        }
        fates[left[place]] = Some(Gone::TooMany);
        over -= 1;
        let (newer, older) = around[place];
        around[newer].1 = older;
        if let Some(of_older) = around.get_mut(older) {
            of_older.0 = newer;
        }
        let both = [newer, older].into_iter().filter(|place| *place < left.len());
        heap.extend(both.filter_map(|place| of(place, around[place])));
    }
}

#[cfg(test)]
mod tests;
