//! Until when a history keeps what it keeps, where nothing else happens.

use super::{Fate, Gone, Now, Policy, Reason, Reasons, Version, judge::DAY};

/// A running time that does not come.
const NEVER: u64 = u64::MAX;

/// Returns how much running time passes at least, in microseconds, before [`judge`](super::judge) may let each version of a history go;
/// `fates` are what it says of them `now`. `None` where time alone does not let it go.
///
/// Until then a version stays if nothing else happens: nothing is saved, named or pointed at, the policy stays, and the clock goes on as
/// running time does. Nothing of that keeps others of the history from being removed as they go. From then on it **could** go, and may
/// well stay for longer: which one of several close ones goes, and when there are too many, is not gone through in advance.
pub fn until(
    policy: &Policy,
    now: Now,
    versions: &[Version],
    deleted: Option<u64>,
    fates: &[Fate],
) -> Vec<Option<u64>> {
    let ahead = Ahead::new(policy, now, versions, fates);
    let over = deleted.zip(policy.deleted()).map_or(NEVER, |(since, keep)| {
        now.running_micros.saturating_add(keep.micros().saturating_sub(since))
    });
    let (gaps, settled, crowded) = (gaps(versions), ahead.settled(), ahead.crowded());
    let each = fates.iter().enumerate().map(|(place, fate)| {
        if !fate.is_kept() {
            return Some(0);
        }
        let mut goes = over;
        if place > 0 {
            goes = goes.min(ahead.too_old(place));
        }
        if !ahead.is_one_of_the_last(place) {
            let close = gaps[place].map_or(NEVER, |gap| ahead.close(place, gap));
            goes = goes.min(crowded).min(close.max(settled[place]));
        }
        let goes = goes.max(ahead.free[place]);
        (goes != NEVER).then(|| goes.saturating_sub(now.running_micros))
    });
    each.collect()
}

/// What time does to a history. Times are running times.
struct Ahead<'a> {
    policy: &'a Policy,
    now: Now,
    versions: &'a [Version],
    fates: &'a [Fate],
    /// From when on neither `min_age` nor a protected day nor anything outside keeps a version.
    free: Vec<u64>,
}

impl<'a> Ahead<'a> {
    fn new(policy: &'a Policy, now: Now, versions: &'a [Version], fates: &'a [Fate]) -> Self {
        let mut ahead = Self { policy, now, versions, fates, free: Vec::new() };
        ahead.free = (0..versions.len()).map(|place| ahead.free(place)).collect();
        ahead
    }

    fn reasons(&self, place: usize) -> Reasons {
        match self.fates[place] {
            Fate::Kept(reasons) => reasons,
            Fate::Gone(_) => Reasons::default(),
        }
    }

    fn free(&self, place: usize) -> u64 {
        let reasons = self.reasons(place);
        if reasons.has(Reason::Held) {
            return NEVER;
        }
        let since = self.versions[place].running_micros;
        let ends = |reason, keep| {
            if reasons.has(reason) { since.saturating_add(keep) } else { 0 }
        };
        let young = ends(Reason::Young, self.policy.min_age().micros());
        let day = ends(Reason::Day, self.protected());
        young.max(day).max(self.now.running_micros)
    }

    /// Returns for how long the first and the last of a day are kept.
    fn protected(&self) -> u64 {
        u64::from(self.policy.protect_days()) * DAY
    }

    fn too_old(&self, place: usize) -> u64 {
        let max = self.policy.max_age();
        max.map_or(NEVER, |max| self.versions[place].reaches(self.now, max.micros()))
    }

    /// Tells whether it is thinned in no case, nor counted out.
    fn is_one_of_the_last(&self, place: usize) -> bool {
        place == 0 || place < self.policy.last()
    }

    /// Returns when versions that are so far apart are close enough for one between them.
    fn close(&self, place: usize, gap: u64) -> u64 {
        let mut steps = self.policy.spacings();
        let enough = steps.find(|(_, spacing)| *spacing > 0 && gap <= *spacing);
        enough.map_or(NEVER, |(age, _)| self.versions[place].reaches(self.now, age))
    }

    /// Returns until when thinning does with each version what it does now.
    ///
    /// What becomes of one hangs on those before it, back to one that is kept whatever these are; and of all on their neighbours, which
    /// it is known for only where all is in order.
    fn settled(&self) -> Vec<u64> {
        let Self { policy, now, versions, .. } = *self;
        let mut settled = vec![now.running_micros; versions.len()];
        let spacing = |version: &Version| policy.spacing(version.age(now));
        let is_in_order = versions.windows(2).all(|pair| {
            let (newer, older) = (&pair[0], &pair[1]);
            newer.moment >= older.moment
                && newer.running_micros >= older.running_micros
                && spacing(newer) <= spacing(older)
        });
        if !is_in_order {
            return settled;
        }
        // What gets too old is nobody's neighbour any more.
        let is_there = |place: &usize| {
            policy.max_age().is_none_or(|max| versions[*place].age(now) < max.micros())
        };
        let too_old = (0..versions.len()).filter(is_there).map(|place| self.too_old(place)).min();
        let too_old = too_old.unwrap_or(NEVER);
        let (mut before, mut day_ends) = (None, None);
        for place in (0..versions.len()).rev() {
            let gains_day = self.gains_day(place, &mut day_ends);
            if self.fates[place] == Fate::Gone(Gone::TooOld) {
                continue;
            }
            let until = match before {
                Some(_) if self.is_one_of_the_last(place) => too_old,
                Some(_) if self.reasons(place).is_protected() => too_old.min(self.free[place]),
                Some(before) => self.next_step(place).min(gains_day).min(before),
                // What has nothing before it is not thinned.
                None => too_old,
            };
            (settled[place], before) = (until, Some(until));
        }
        settled
    }

    /// Returns when a version may become the first of a protected day, as others of that day are protected no more. `day_ends` is what is
    /// known of the day of the one before it.
    fn gains_day(&self, place: usize, day_ends: &mut Option<(u64, u64)>) -> u64 {
        let version = &self.versions[place];
        if version.here(self.now) >= self.protected() {
            return NEVER;
        }
        let day = version.running_micros / DAY;
        match *day_ends {
            Some((of, ends)) if of == day => ends,
            _ => {
                let ends = version.running_micros.saturating_add(self.protected());
                *day_ends = Some((day, ends));
                NEVER
            }
        }
    }

    fn next_step(&self, place: usize) -> u64 {
        let (version, now) = (&self.versions[place], self.now);
        let age = version.age(now);
        let next = self.policy.spacings().find(|(begin, _)| *begin > age);
        next.map_or(NEVER, |(begin, _)| version.reaches(now, begin))
    }

    /// Returns from when on there may be more than `max_versions` that count and are not thinned. Of versions that are all within the
    /// spacing of each of them two are left at most, the first and the last.
    fn crowded(&self) -> u64 {
        let Self { policy, versions, .. } = *self;
        let Some(max) = policy.max_versions() else { return NEVER };
        let mut counted = Vec::with_capacity(versions.len());
        let mut crowd = Crowd::default();
        for (place, version) in versions.iter().enumerate() {
            let free = self.free[place];
            if self.is_one_of_the_last(place) {
                counted.push(free);
                continue;
            }
            let spacing = match free {
                NEVER => NEVER,
                free => policy.spacing(version.age(self.at(free))).micros(),
            };
            if !crowd.takes(version, spacing) {
                crowd.count(&mut counted);
                crowd = Crowd::default();
                crowd.takes(version, spacing);
            }
            crowd.add(free);
        }
        crowd.count(&mut counted);
        if counted.len() <= max {
            return NEVER;
        }
        *counted.select_nth_unstable(max).1
    }

    fn at(&self, running_micros: u64) -> Now {
        let passed = running_micros.saturating_sub(self.now.running_micros);
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        Now { running_micros, clock: self.now.clock.plus_micros(passed) }
    }
}

/// Versions that are all close to each other.
#[derive(Default)]
struct Crowd {
    /// Least and most, of moments and of running times.
    reach: Option<((i64, i64), (u64, u64))>,
    spacing: u64,
    /// When the first two of them are free.
    free: [Option<u64>; 2],
}

impl Crowd {
    /// Takes a version in where it is close enough to all others; tells whether it did.
    fn takes(&mut self, version: &Version, spacing: u64) -> bool {
        let (moment, running) = (version.moment.0, version.running_micros);
        let Some((moments, runnings)) = self.reach else {
            self.reach = Some(((moment, moment), (running, running)));
            self.spacing = spacing;
            return true;
        };
        let moments = (moments.0.min(moment), moments.1.max(moment));
        let runnings = (runnings.0.min(running), runnings.1.max(running));
        let spacing = self.spacing.min(spacing);
        let wide = moments.1.abs_diff(moments.0).max(runnings.1 - runnings.0);
        if spacing == 0 || wide > spacing {
            return false;
        }
        (self.reach, self.spacing) = (Some((moments, runnings)), spacing);
        true
    }

    fn add(&mut self, free: u64) {
        let [first, second] = &mut self.free;
        match (*first, *second) {
            (None, _) => *first = Some(free),
            (Some(known), _) if free < known => (*first, *second) = (Some(free), Some(known)),
            (Some(_), known) if known.is_none_or(|known| free < known) => *second = Some(free),
            _ => {}
        }
    }

    fn count(&self, counted: &mut Vec<u64>) {
        counted.extend(self.free.into_iter().flatten());
    }
}

/// Returns how far those before and after each version are apart at least, whichever of them stay; `None` where there is none before, or
/// none after.
fn gaps(versions: &[Version]) -> Vec<Option<u64>> {
    let mut older: Vec<Option<(i64, u64)>> = vec![None; versions.len()];
    let mut most: Option<(i64, u64)> = None;
    for (place, version) in versions.iter().enumerate().rev() {
        older[place] = most;
        let (moment, running) = (version.moment.0, version.running_micros);
        most = most.map_or(Some((moment, running)), |(m, r)| Some((m.max(moment), r.max(running))));
    }
    let mut least: Option<(i64, u64)> = None;
    let each = versions.iter().zip(older).map(|(version, older)| {
        let gap = least.zip(older).map(|(newer, older)| {
            let by_moments = if newer.0 > older.0 { newer.0.abs_diff(older.0) } else { 0 };
            by_moments.max(newer.1.saturating_sub(older.1))
        });
        let (moment, running) = (version.moment.0, version.running_micros);
        least =
            least.map_or(Some((moment, running)), |(m, r)| Some((m.min(moment), r.min(running))));
        gap
    });
    each.collect()
}

#[cfg(test)]
mod tests;
