use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;

/// A version that arrived the moment it was made, so long after the set began.
fn at(micros: u64) -> Version {
    let moment = Stamp(i64::try_from(micros).unwrap());
    Version { moment, arrival: moment, running_micros: micros, held: false }
}

/// Versions made at these times, the newest first.
fn made(mut times: Vec<u64>) -> Vec<Version> {
    times.sort_unstable();
    times.into_iter().rev().map(at).collect()
}

fn now(micros: u64) -> Now {
    Now { running_micros: micros, clock: Stamp(i64::try_from(micros).unwrap()) }
}

fn policy(said: &str) -> Policy {
    Policy::default().with(said.split(' ')).unwrap()
}

/// Nothing but steps.
fn bare(steps: &str) -> Policy {
    policy(&format!("steps={steps} last=0 max_versions=none min_age=0 protect_days=0"))
}

fn kept(versions: &[Version], fates: &[Fate]) -> Vec<Version> {
    let each = versions.iter().zip(fates).filter(|(_, fate)| fate.is_kept());
    each.map(|(version, _)| *version).collect()
}

/// Judges, lets go, and returns what is left.
fn run(policy: &Policy, micros: u64, versions: &[Version]) -> Vec<Version> {
    kept(versions, &judge(policy, now(micros), versions, None))
}

fn hours(versions: &[Version]) -> Vec<u64> {
    versions.iter().map(|version| version.running_micros / HOUR).collect()
}

#[test]
fn a_burst_thins_to_one_an_hour() {
    let versions = made((0..600).map(|minute| minute * MINUTE).collect());
    let left = run(&bare("1h"), 20 * HOUR, &versions);
    assert_eq!(hours(&left), [9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], "first, newest, and one an hour");
}

#[test]
fn the_newest_and_the_last_stay() {
    let versions = made((0..100).map(|minute| minute * MINUTE).collect());
    let policy = policy("steps=30d last=12 min_age=0 protect_days=0");
    let fates = judge(&policy, now(1000 * DAY), &versions, None);
    assert_eq!(kept(&versions, &fates).len(), 13, "and the first one");
    assert_eq!(
        fates[0],
        Fate::Kept({
            let mut reasons = Reasons::default();
            reasons.add(Reason::Newest);
            reasons.add(Reason::Last);
            reasons
        })
    );
    assert_eq!(fates[12], Fate::Gone(Gone::Thinned));
}

/// A thousand saves in an afternoon take nothing from the save before them.
#[test]
fn a_storm_does_not_push_out_what_was_before_it() {
    let mut times = vec![0, DAY, 2 * DAY];
    times.extend((0..1000).map(|second| 3 * DAY + second * 1_000_000));
    let versions = made(times);
    let policy = policy("min_age=0 protect_days=0");
    let left = run(&policy, 3 * DAY + 2 * HOUR, &versions);
    assert!(left.len() <= 64, "{}", left.len());
    assert_eq!(left.iter().filter(|version| version.running_micros <= 2 * DAY).count(), 3);
}

#[test]
fn what_was_deleted_goes_when_its_time_is_over() {
    let policy = policy("protect_days=0");
    let versions = made(vec![0, HOUR, 2 * HOUR]);
    let then = |since: u64| judge(&policy, now(2 * HOUR + since), &versions, Some(since));
    assert!(then(90 * DAY - 1).iter().any(|fate| fate.is_kept()));
    assert_eq!(then(90 * DAY), [Fate::Gone(Gone::Deleted); 3]);
    let forever = policy.with(["deleted=none"]).unwrap();
    assert!(judge(&forever, now(9999 * DAY), &versions, Some(9000 * DAY))[0].is_kept());
    let mut held = versions;
    held[1].held = true;
    let fates = judge(&policy, now(200 * DAY), &held, Some(150 * DAY));
    assert_eq!(fates.iter().map(|fate| fate.is_kept()).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn max_age_leaves_the_newest() {
    let policy = policy("max_age=30d protect_days=0");
    let versions = made(vec![0, DAY, 2 * DAY]);
    let fates = judge(&policy, now(100 * DAY), &versions, None);
    assert!(fates[0].is_kept());
    assert_eq!(fates[1..], [Fate::Gone(Gone::TooOld); 2]);
}

/// First and last of each day stay, and those that one look protects the next one protects too.
#[test]
fn days_are_protected_wherever_one_looks_from() {
    let policy = policy("steps=30d last=0 min_age=0 protect_days=14 max_versions=1");
    let mut versions = made((0..240).map(|hour| hour * HOUR).collect());
    let left = run(&policy, 10 * DAY, &versions);
    assert_eq!(left.len(), 20);
    for later in [0, HOUR, 7 * HOUR, 23 * HOUR, 3 * DAY] {
        versions = run(&policy, 10 * DAY + later, &versions);
        assert_eq!(versions, left, "{later}");
    }
    assert_eq!(run(&policy, 30 * DAY, &versions).len(), 1, "then they are as others");
}

/// A version every ten seconds, none of which is old enough to go, takes nothing from what was there before.
#[test]
fn what_is_protected_counts_for_nothing() {
    let day = |day: u64| 400 * DAY - day * DAY;
    let mut times: Vec<u64> = (1..12).map(|month| day(month * 30)).collect();
    times.extend((0..400).map(|save| 400 * DAY + save * 5_000_000));
    let versions = made(times);
    let now = now(400 * DAY + 2_000_000_000);
    for said in ["", "protect_days=365"] {
        let policy =
            Policy::default().with(said.split(' ').filter(|said| !said.is_empty())).unwrap();
        let fates = judge(&policy, now, &versions, None);
        assert!(fates.iter().all(|fate| fate.is_kept()), "{said}");
    }
}

/// The clock of the station was a year ahead as a version came, and is right again: it is as old as it is.
#[test]
fn a_clock_that_was_wrong_as_it_came_makes_nothing_old() {
    let year = i64::try_from(365 * DAY).unwrap();
    let mut versions = made((0..30).map(|minute| 100 * DAY + minute * MINUTE).collect());
    let policy = policy("max_age=180d protect_days=0 last=0 steps=0");
    let fates = |versions: &[Version]| judge(&policy, now(101 * DAY), versions, None);
    for version in &mut versions {
        version.arrival = version.arrival.plus_micros(year);
    }
    assert!(fates(&versions).iter().all(|fate| fate.is_kept()), "it came when the clock was ahead");
    // Moments that stand still, since one of them was ahead, make no versions close.
    let mut versions = made((0..30).map(|month| month * 30 * DAY).collect());
    let ahead = versions[0].moment.plus_micros(year);
    versions.iter_mut().for_each(|version| version.moment = ahead);
    let policy = bare("30d");
    assert!(judge(&policy, now(900 * DAY), &versions, None).iter().all(|fate| fate.is_kept()));
}

/// A clock that jumps changes neither how long something is here nor how old it is.
#[test]
fn no_clock_makes_a_version_old() {
    let year = 365 * DAY;
    let versions: Vec<_> = made((0..50).map(|minute| minute * MINUTE).collect());
    let fates = |versions: &[Version]| judge(&Policy::default(), now(2 * HOUR), versions, None);
    let moved = |by: i64| -> Vec<Version> {
        let shift = |version: &Version| Version {
            moment: version.moment.plus_micros(by),
            arrival: version.arrival.plus_micros(by),
            ..*version
        };
        versions.iter().map(shift).collect()
    };
    let ten_years = i64::try_from(10 * year).unwrap();
    for by in [ten_years, -ten_years] {
        assert_eq!(fates(&moved(by)), fates(&versions));
    }
}

fn times() -> impl Strategy<Value = Vec<u64>> {
    let burst = (0..400 * 24_u64, 1..40_usize, 1..200_u64).prop_map(|(hour, count, minutes)| {
        (0..count as u64).map(|n| hour * HOUR + n * minutes * MINUTE).collect::<Vec<_>>()
    });
    proptest::collection::vec(burst, 1..12).prop_map(|bursts| bursts.concat())
}

proptest! {
    /// What goes was between two that stay and are no further apart than its step, or there were too many.
    #[test]
    fn nothing_goes_that_leaves_a_gap(times in times()) {
        let versions = made(times);
        let policy = policy("max_versions=none");
        let micros = 420 * DAY;
        let fates = judge(&policy, now(micros), &versions, None);
        for (place, version) in versions.iter().enumerate() {
            if fates[place] != Fate::Gone(Gone::Thinned) {
                continue;
            }
            let newer = (0..place).rev().find(|place| fates[*place].is_kept()).unwrap();
            let older = (place..versions.len()).find(|place| fates[*place].is_kept()).unwrap();
            let apart = apart(&versions[older], &versions[newer]);
            prop_assert!(apart <= policy.spacing(version.age(now(micros))).micros());
        }
    }

    /// What is protected never goes, whatever the policy.
    #[test]
    fn floors_hold(times in times(), last in 0..20_usize, max in 20..80_u32, wait in 0..100_u64) {
        let versions = made(times);
        let policy = policy(&format!("last={last} max_versions={max} max_age=30d steps=365d"));
        let now = now(versions[0].running_micros + wait * HOUR);
        let fates = judge(&policy, now, &versions, None);
        prop_assert!(fates[0].is_kept());
        let day = |version: &Version| version.running_micros / DAY;
        for (place, version) in versions.iter().enumerate() {
            let ends_day = place == 0 || day(&versions[place - 1]) != day(version)
                || versions.get(place + 1).is_none_or(|older| day(older) != day(version));
            let here = version.here(now);
            if here < HOUR || (here < 14 * DAY && ends_day) || (place < last && here < 30 * DAY) {
                prop_assert!(fates[place].is_kept(), "{place}");
            }
        }
        let free = |fate: &Fate| matches!(fate, Fate::Kept(why) if [Reason::Spacing, Reason::Last].iter().any(|only| {
            let mut reasons = Reasons::default();
            reasons.add(*only);
            *why == reasons
        }));
        if fates.iter().filter(|fate| fate.is_kept()).count() > max as usize {
            let inner = fates[1..].iter().rev().skip_while(|fate| !fate.is_kept()).skip(1);
            let spaced = inner.filter(|fate| free(fate)).filter(|fate| matches!(fate, Fate::Kept(why) if !why.has(Reason::Last)));
            prop_assert_eq!(spaced.count(), 0, "there was more to let go");
        }
    }

    /// It does not matter how often it is done: what nightly runs leave is as close as what one run does, but for one step.
    #[test]
    fn nightly_runs_leave_what_one_run_does(times in times()) {
        let policy = policy("max_versions=none protect_days=0 last=0");
        let versions = made(times);
        let end = 430 * DAY;
        let once = run(&policy, end, &versions);
        let mut nightly = Vec::new();
        let mut rest: Vec<_> = versions.iter().rev().copied().collect();
        rest.reverse();
        for night in 0..=430_u64 {
            while let Some(next) = rest.last().filter(|next| next.running_micros <= night * DAY) {
                nightly.insert(0, *next);
                rest.pop();
            }
            nightly = run(&policy, night * DAY, &nightly);
        }
        // Every version of the whole has one that stayed within the step of its age, before or after it, in both.
        for version in &versions {
            let spacing = policy.spacing(version.age(now(end))).micros().max(30 * DAY);
            for left in [&once, &nightly] {
                let near = left.iter().any(|other| apart(other, version) <= spacing);
                prop_assert!(near, "{}", version.running_micros / HOUR);
            }
        }
        prop_assert!(nightly.len() <= once.len() * 2 + 2, "{} of {}", nightly.len(), once.len());
        // And a run right after a run lets nothing go that was not close before it.
        let again = run(&policy, end, &once);
        prop_assert!(again.len() * 2 + 2 >= once.len());
    }
}
