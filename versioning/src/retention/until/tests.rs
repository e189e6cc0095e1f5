use keepshare_base::Stamp;
use proptest::prelude::*;

use super::*;
use crate::retention::judge;

const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;

fn stamp(micros: u64) -> Stamp {
    Stamp(i64::try_from(micros).unwrap())
}

fn at(micros: u64) -> Version {
    let moment = stamp(micros);
    Version { moment, arrival: moment, running_micros: micros, held: false }
}

/// Versions made at these times, the newest first.
fn made(mut times: Vec<u64>) -> Vec<Version> {
    times.sort_unstable();
    times.into_iter().rev().map(at).collect()
}

fn now(micros: u64) -> Now {
    Now { running_micros: micros, clock: stamp(micros) }
}

fn later(now: Now, by: u64) -> Now {
    let clock = now.clock.plus_micros(i64::try_from(by).unwrap());
    Now { running_micros: now.running_micros + by, clock }
}

fn policy(said: &str) -> Policy {
    Policy::default().with(said.split(' ')).unwrap()
}

/// Returns what is told of each, in whole hours.
fn hours(
    policy: &Policy,
    now: Now,
    versions: &[Version],
    deleted: Option<u64>,
) -> Vec<Option<u64>> {
    let fates = judge(policy, now, versions, deleted);
    let told = until(policy, now, versions, deleted, &fates);
    told.into_iter().map(|until| until.map(|micros| micros.div_ceil(HOUR))).collect()
}

const BARE: &str = "last=0 max_versions=none min_age=0 protect_days=0";

#[test]
fn a_version_stays_until_its_neighbours_are_close_for_its_age() {
    let policy = policy(&format!("steps=0:10h,4h:100h,50h {BARE}"));
    let versions = made(vec![0, 2 * HOUR, 4 * HOUR, 24 * HOUR, 25 * HOUR]);
    let told = hours(&policy, now(25 * HOUR), &versions, None);
    // The newest and the oldest stay; 21 h between its neighbours are close at 100 h; and 4 h were close long ago.
    assert_eq!(told, [None, Some(99), Some(79), Some(0), None]);
    let young = policy.with(["min_age=99h"]).unwrap();
    assert_eq!(hours(&young, now(25 * HOUR), &versions, None)[3], Some(76));
}

#[test]
fn what_does_not_go_by_time_alone_has_no_time() {
    let policy = policy("last=2 max_versions=4 min_age=2h protect_days=1 steps=1h max_age=30d");
    let mut versions = made(vec![0, HOUR, 10 * HOUR, 30 * HOUR]);
    let told = hours(&policy, now(30 * HOUR), &versions, None);
    assert_eq!(
        told,
        [None, Some(700), Some(691), Some(690)],
        "the newest stays, all others get too old"
    );
    versions[1].held = true;
    assert_eq!(hours(&policy, now(30 * HOUR), &versions, None)[1], None);
    let told = hours(&policy, now(30 * HOUR), &versions, Some(20 * HOUR));
    assert_eq!(told[0], Some(90 * 24 - 20), "what is deleted goes with all its versions");
    assert_eq!(told[1], None, "but for what is held");
    let forever = policy.with(["deleted=none"]).unwrap();
    assert_eq!(hours(&forever, now(30 * HOUR), &versions, Some(20 * HOUR))[0], None);
}

/// Where more than `max_versions` may be left, which one goes is not said in advance.
#[test]
fn where_there_are_too_many_it_could_be_any() {
    let policy = policy("steps=0:90d,1d last=2 max_versions=10 min_age=5h protect_days=0");
    let versions = made((0..14).map(|day| day * DAY).chain([14 * DAY - HOUR]).collect());
    let told = hours(&policy, now(14 * DAY), &versions[1..], None);
    assert_eq!(told[3], Some(0), "there are too many already");
    // Saves that are close to each other are one or two for all others.
    let mut times: Vec<u64> = (0..6).map(|day| day * DAY).collect();
    times.extend((0..100).map(|save| 6 * DAY + save * MINUTE));
    let steps = policy.with(["steps=0:1h,5h", "min_age=1h"]).unwrap();
    let told = hours(&steps, now(6 * DAY + 100 * MINUTE), &made(times), None);
    assert_eq!(told[told.len() - 3..], [None; 3], "{told:?}");
}

/// What is held among close ones may have come at another time: then it is a neighbour that is far away.
#[test]
fn what_is_held_among_close_ones_may_be_far_from_them() {
    let policy = policy("steps=1h last=0 max_versions=4 min_age=0 protect_days=0");
    let close = (0..4).map(|minute| 100 * HOUR + minute * MINUTE);
    let mut versions = made(close.chain([0, 200 * HOUR]).collect());
    (versions[3].running_micros, versions[3].held) = (HOUR, true);
    assert_eq!(hours(&policy, now(200 * HOUR), &versions, None)[2], Some(0));
}

/// A burst that nobody has thinned yet: what of it stays is told for longer than to the next look.
#[test]
fn what_is_between_versions_that_go_stays_while_nothing_changes() {
    let policy = policy(&format!("steps=1h:100d,2d {BARE}"));
    let versions = made((0..600).map(|minute| minute * MINUTE).collect());
    let told = hours(&policy, now(20 * HOUR), &versions, None);
    let kept: Vec<_> = told.iter().filter(|until| **until != Some(0)).collect();
    assert_eq!(kept.len(), 11, "{kept:?}");
    assert!(kept[1..10].iter().all(|until| until.is_some_and(|hours| hours > 99 * 24 - 20)));
}

fn said() -> impl Strategy<Value = String> {
    let steps = prop_oneof![
        Just("0:1h,1h:1d,1d:14d,7d:70d,30d"),
        Just("1h:1d,1d:14d,30d"),
        Just("0"),
        Just("7d"),
        Just("1h:60d,365d")
    ];
    let max = prop_oneof![Just("none".to_owned()), (20..64_u32).prop_map(|max| max.to_string())];
    let max_age = prop_oneof![Just("none"), Just("30d"), Just("200d")];
    let min_age = prop_oneof![Just("0"), Just("1h"), Just("3d")];
    let days = prop_oneof![Just(0_u32), Just(14), Just(100)];
    (steps, 0..20_u32, max, max_age, min_age, days).prop_map(
        |(steps, last, max, max_age, min_age, days)| {
            format!(
                "steps={steps} last={last} max_versions={max} max_age={max_age} min_age={min_age} protect_days={days}"
            )
        },
    )
}

fn times() -> impl Strategy<Value = Vec<u64>> {
    let burst = (0..400 * 24_u64, 1..40_usize, 1..200_u64).prop_map(|(hour, count, minutes)| {
        (0..count as u64).map(|n| hour * HOUR + n * minutes * MINUTE).collect::<Vec<_>>()
    });
    proptest::collection::vec(burst, 1..10).prop_map(|bursts| bursts.concat())
}

/// What is not as it should be of some versions: how late they came, whether they are held, whether the name got them long after.
type Odd = (prop::sample::Index, u64, bool, bool);

fn odds() -> impl Strategy<Value = Vec<Odd>> {
    let odd = (any::<prop::sample::Index>(), 0..2000 * HOUR, any::<bool>(), any::<bool>());
    prop_oneof![Just(vec![]), proptest::collection::vec(odd, 0..6)]
}

/// A history as it is judged: moments go one way, running times need not.
fn history(times: Vec<u64>, odds: &[Odd]) -> Vec<Version> {
    let mut versions = made(times);
    for (place, late, held, elsewhere) in odds {
        let version = place.get_mut(&mut versions);
        let by = i64::try_from(*late).unwrap();
        version.held = *held;
        version.moment = version.moment.plus_micros(-by);
        if *elsewhere {
            version.running_micros = version.running_micros.saturating_sub(*late);
        }
    }
    let mut before = Stamp(i64::MIN);
    for version in versions.iter_mut().rev() {
        version.moment = version.moment.max(before);
        before = version.moment;
    }
    versions
}

proptest! {
    /// What is told is never too late: whatever others go meanwhile, and however far time goes on.
    #[test]
    fn nothing_goes_before_its_time(
        times in times(),
        odds in odds(),
        said in said(),
        deleted in prop_oneof![Just(None), (0..120 * DAY).prop_map(Some)],
        wait in 0..500 * HOUR,
        clock in prop_oneof![Just(0_i64), -400 * 86_400_000_000..400 * 86_400_000_000_i64],
        looks in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u64, any::<u64>()), 1..12),
    ) {
        let policy = policy(&said);
        let versions = history(times, &odds);
        let newest = versions.iter().map(|version| version.running_micros).max().unwrap();
        let now = Now { running_micros: newest + wait, clock: stamp(newest + wait).plus_micros(clock) };
        let fates = judge(&policy, now, &versions, deleted);
        let told = until(&policy, now, &versions, deleted, &fates);
        prop_assert_eq!(told.len(), versions.len());
        // Just before and at the times that were told, and somewhere.
        let mut ends: Vec<u64> = told.iter().flatten().copied().collect();
        ends.push(600 * DAY);
        let mut looks: Vec<(u64, u64)> = looks
            .iter()
            .map(|(place, before, going)| (place.get(&ends).saturating_sub(*before), *going))
            .collect();
        looks.sort_unstable();
        let mut left: Vec<usize> = (0..versions.len()).collect();
        for (by, going) in looks {
            let then = later(now, by);
            let here: Vec<Version> = left.iter().map(|place| versions[*place]).collect();
            let since = deleted.map(|since| since + by);
            let fates = judge(&policy, then, &here, since);
            for (place, fate) in left.iter().zip(&fates) {
                let stays = told[*place].is_none_or(|until| by < until);
                prop_assert!(!stays || fate.is_kept(), "{place} went after {by}: {:?}, told {:?}", fate, told[*place]);
            }
            // Some of what goes is removed then, or all, or nothing: other names may keep it.
            let is_held_by_another = |place: usize| going % 3 > 0 && going >> (place % 64) & 1 == 1;
            let stays = |place: usize, fate: &Fate| fate.is_kept() || is_held_by_another(place);
            let each = left.iter().zip(&fates).filter(|(place, fate)| stays(**place, fate));
            left = each.map(|(place, _)| *place).collect();
        }
    }

    /// Nor is it told too early for ever: of versions that are only thinned by age, one goes at the earliest of their times.
    #[test]
    fn one_goes_at_the_earliest_time(times in times(), wait in 0..500 * HOUR, max_age in prop_oneof![Just("none"), Just("450d")]) {
        let policy = policy(&format!("max_age={max_age} {BARE}"));
        let versions = made(times);
        let now = now(versions[0].running_micros + wait);
        let fates = judge(&policy, now, &versions, None);
        let each = versions.iter().zip(&fates).filter(|(_, fate)| fate.is_kept());
        let left: Vec<Version> = each.map(|(version, _)| *version).collect();
        let fates = judge(&policy, now, &left, None);
        prop_assert!(fates.iter().all(|fate| fate.is_kept()));
        let told = until(&policy, now, &left, None, &fates);
        let Some(least) = told.iter().flatten().min() else { return Ok(()) };
        let then = judge(&policy, later(now, *least), &left, None);
        prop_assert!(then.iter().any(|fate| !fate.is_kept()), "none of {} goes after {least}", left.len());
    }

    /// An age is reached when it is told, and not before.
    #[test]
    fn an_age_is_reached_when_it_is_told(
        running in 0..100 * HOUR,
        late in -50..300_i64,
        wait in 0..200 * HOUR,
        clock in -300..300_i64,
        age in 0..500 * HOUR,
    ) {
        let hour = i64::try_from(HOUR).unwrap();
        let version = Version { moment: stamp(running).plus_micros(-late * hour), ..at(running) };
        let now = Now { running_micros: running + wait, clock: stamp(running + wait).plus_micros(clock * hour) };
        let reached = version.reaches(now, age);
        prop_assert!(version.age(later(now, reached - now.running_micros)) >= age);
        if reached > now.running_micros {
            prop_assert!(version.age(later(now, reached - 1 - now.running_micros)) < age);
        }
    }
}
