use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// This station's clock in every test: 2025-11-20.
const NOW: Stamp = Stamp(1_763_600_000_000_000);

fn sent(by: i64) -> Arrival {
    let sent = Sent { clock: NOW.plus_micros(by), heard: Some(NOW.plus_micros(-SECOND)) };
    Arrival { clock: NOW, up_micros: None, sent: Some(sent) }
}

/// Returns the moment of a change that was made `ago` before it was sent, by a clock that is `by` ahead.
fn made(by: i64, ago: i64) -> i64 {
    let arrival = sent(by);
    let stamp = NOW.plus_micros(by - ago);
    moment(stamp, NOW, compare(&arrival, None), None).micros_since(NOW)
}

/// Whatever a master's clock says, its change is filed when it was made.
#[test]
fn a_wrong_clock_moves_no_moment() {
    for by in [0, HOUR, -HOUR, 5 * YEAR, -30 * YEAR, 3 * SECOND] {
        for ago in [0, SECOND, DAY] {
            assert_eq!(made(by, ago), -ago, "a clock {by} µs ahead, {ago} µs ago");
        }
    }
    // Within two seconds the stamp counts; but nothing was made after it arrived.
    assert_eq!(made(-2 * SECOND, 0), -2 * SECOND);
    assert_eq!(made(2 * SECOND, 0), 0);
}

/// A slow line is no wrong clock: what was sent after we were heard is as old as it says.
#[test]
fn what_was_long_on_its_way_is_no_alarm() {
    let heard = |heard| Arrival {
        sent: Some(Sent { clock: NOW.plus_micros(-40 * SECOND), heard }),
        ..Arrival::from(NOW)
    };
    let before = Some(NOW.plus_micros(-41 * SECOND));
    assert_eq!(compare(&heard(before), None), Verdict::Agree);
    let after = Some(NOW.plus_micros(-37 * SECOND));
    assert_eq!(compare(&heard(after), None), Verdict::Sender(-40 * SECOND));
    // Where nothing was heard, or our own clock was set back since, only the clocks themselves are left.
    for unknown in [None, Some(NOW.plus_micros(HOUR))] {
        assert_eq!(compare(&heard(unknown), None), Verdict::Sender(-40 * SECOND));
    }
}

/// One change that comes while our own clock is in 2099 must not take those after it there.
#[test]
fn our_own_clock_in_2099_for_one_change_moves_no_moment() {
    let mut clock = Clock::default();
    let mut before = None;
    let mut moments = vec![];
    for (i, wrong) in [(0, 0), (1, 73 * YEAR), (2, 0), (3, 0)] {
        let real = NOW.plus_micros(i * SECOND);
        let sent = Some(Sent { clock: real, heard: None });
        let up_micros = Some(u64::try_from(i * SECOND).unwrap() + 7);
        let arrival = Arrival { clock: real.plus_micros(wrong), up_micros, sent };
        let told = clock.tell(&arrival);
        let alarm = clock.advance(&arrival, &told);
        assert_eq!(told.arrival, arrival.clock, "the clock as it was read");
        assert_eq!(told.running_micros, u64::try_from(i * SECOND).unwrap());
        assert_eq!(alarm.is_some(), matches!(i, 1 | 2), "told once each way: {alarm:?}");
        let at = moment(real, told.arrival, told.verdict, before);
        before = Some(at);
        moments.push(at.micros_since(NOW) / SECOND);
    }
    assert_eq!(moments, [0, 1, 2, 3]);
}

#[test]
fn running_time_goes_on_whatever_the_clock_does() {
    let mut clock = Clock::stopped(Some(NOW), Some((500, NOW)));
    let mut at = |by: i64, up: u64| {
        let arrival = Arrival { clock: NOW.plus_micros(by), up_micros: Some(up), sent: None };
        let told = clock.tell(&arrival);
        clock.advance(&arrival, &told);
        told.running_micros
    };
    // Over a stop, the clock's difference and no more than a day.
    assert_eq!(at(40 * DAY, 1000), 500 + DAY.unsigned_abs());
    assert_eq!(at(-YEAR, 1010), 510 + DAY.unsigned_abs());
    assert_eq!(at(80 * YEAR, 5000), 4500 + DAY.unsigned_abs());
    let clock = Clock::stopped(Some(NOW), Some((500, NOW)));
    assert_eq!(clock.tell(&NOW.plus_micros(-HOUR).into()).running_micros, 500);
    assert_eq!(clock.tell(&NOW.plus_micros(HOUR).into()).running_micros, 500 + HOUR.unsigned_abs());
}

#[test]
fn a_clock_that_is_set_back_is_told_once() {
    let mut clock = Clock::default();
    let mut alarms = vec![];
    for by in [0, HOUR, 0, 1, -30 * SECOND, -90 * SECOND] {
        let arrival = NOW.plus_micros(by).into();
        let told = clock.tell(&arrival);
        alarms.push(clock.advance(&arrival, &told).is_some());
    }
    assert_eq!(alarms, [false, false, true, false, false, false]);
}

/// Doors tell clients by the arrival whether anything changed.
#[test]
fn changes_of_one_microsecond_are_told_apart() {
    let mut clock = Clock::default();
    let arrivals: Vec<_> = (0..5)
        .map(|_| {
            let told = clock.tell(&NOW.into());
            clock.advance(&NOW.into(), &told);
            told.arrival.micros_since(NOW)
        })
        .collect();
    assert_eq!(arrivals, [0, 1, 2, 3, 4]);
}

fn any_micros() -> impl Strategy<Value = i64> {
    prop_oneof![-10 * SECOND..10 * SECOND, -2 * HOUR..2 * HOUR, any::<i64>()]
}

proptest! {
    /// The obvious model: true times are known, and every clock is off by something of its own.
    #[test]
    fn moments_are_true_as_far_as_clocks_tell(
        steps in prop::collection::vec((0..DAY, any_micros(), 0..3 * HOUR, 0..SECOND), 1..40),
    ) {
        let (mut time, mut before) = (NOW, None);
        for (pause, by, ago, way) in steps {
            time = time.plus_micros(pause);
            // Made, and sent a while later over a line that takes `way`; the sender heard us right before it sent.
            let made = time.plus_micros(-ago);
            let arrived = time.plus_micros(way);
            let sent = Sent { clock: time.plus_micros(by), heard: Some(time) };
            let arrival = Arrival { clock: arrived, up_micros: None, sent: Some(sent) };
            let at = moment(made.plus_micros(by), arrived, compare(&arrival, None), before);
            // Never before the one before it, nor after its arrival.
            prop_assert!(before.is_none_or(|before| at >= before));
            prop_assert!(at <= arrived || Some(at) == before);
            // As true as two clocks that count as agreeing, and the way, let it be.
            let floor = before.map_or(made, |before: Stamp| made.max(before));
            let off = at.micros_since(floor);
            // A clock at the end of all time counts no further.
            if by.saturating_abs() < 1000 * YEAR {
                prop_assert!(off.abs() <= AGREE_MICROS_MAX + 2 * SECOND, "{off} µs off");
            }
            before = Some(at);
        }
    }

    /// Nothing that a peer or a clock says brings it down.
    #[test]
    fn wild_numbers_are_only_numbers(
        clock in any::<i64>(), up in any::<Option<u64>>(), sent in any::<Option<i64>>(),
        heard in any::<Option<i64>>(), stamp in any::<i64>(), before in any::<Option<i64>>(),
    ) {
        let sent = sent.map(|sent| Sent { clock: Stamp(sent), heard: heard.map(Stamp) });
        let arrival = Arrival { clock: Stamp(clock), up_micros: up, sent };
        let mut ours = Clock::stopped(before.map(Stamp), before.map(|before| (7, Stamp(before))));
        for _ in 0..2 {
            let told = ours.tell(&arrival);
            let at = moment(Stamp(stamp), told.arrival, told.verdict, before.map(Stamp));
            prop_assert!(before.is_none_or(|before| at >= Stamp(before)));
            ours.advance(&arrival, &told);
        }
    }
}
