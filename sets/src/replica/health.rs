//! How a copy is, by what its store and its link show.

use keepshare_base::{
    Stamp,
    health::{Hold, LinkHealth, MirrorProgress, Missing, SetHealth, SetProblem},
};
use keepshare_control::text::seconds_text;
use keepshare_replication::drivers::{Alarms, LinkAlarm, receive::failures};
use keepshare_versioning::{ClockAlarm, Damage, set::Status};

/// What of a set its store does not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its master is connected.
    pub(super) linked: bool,
    /// A mirror is under way, or nothing has come yet.
    pub(super) mirroring: bool,
    /// All that its master told of is durable.
    pub(super) has_all: bool,
}

/// Returns how the set is. What comes first wins: docs/admin/status.md has the same order.
pub(super) fn health(
    gone: Option<SetProblem>,
    store: &Status,
    damage: Option<Damage>,
    seen: Seen,
) -> SetHealth {
    let failed = || store.poisoned.clone().map(SetProblem::StoreFailed);
    if let Some(problem) = gone.or_else(failed).or_else(|| damage.map(damaged)) {
        return SetHealth::Alarm(problem);
    }
    if let Some(hold) = hold(store) {
        return SetHealth::Waiting(hold);
    }
    // Without space it does not follow either, and making room is what helps.
    if let Some(why) = &store.live_failed {
        return SetHealth::Alarm(SetProblem::LiveStopped(why.clone()));
    }
    if !seen.linked {
        return SetHealth::Disconnected(LinkHealth::Away(None));
    }
    if seen.mirroring {
        return SetHealth::Mirroring(MirrorProgress::Unknown);
    }
    match (seen.has_all, store.live == store.durable) {
        (true, true) => SetHealth::arrived(failures(store)),
        (true, false) => SetHealth::Lagging(Missing::LiveTree),
        (false, _) => SetHealth::Lagging(Missing::Changes),
    }
}

fn damaged(damage: Damage) -> SetProblem {
    SetProblem::ContentDamaged(damage.reads)
}

/// Returns what keeps changes waiting, if anything does.
fn hold(store: &Status) -> Option<Hold> {
    let fails = || store.failing.clone().map(Hold::DiskFails);
    store.full.then_some(Hold::DiskFull).or_else(fails)
}

/// Returns what a person must look at: what the state says first, then what it hides.
pub(super) fn problems(
    health: &SetHealth,
    link: &Alarms,
    store: &Status,
    damage: Option<Damage>,
    now: Stamp,
) -> Vec<SetProblem> {
    let of_state = match health {
        SetHealth::Alarm(problem) => Some(problem.clone()),
        _ => None,
    };
    let held = hold(store).map(SetProblem::Held);
    let hidden = damage.map(damaged).into_iter().chain(held);
    let hidden = hidden.filter(|problem| of_state.as_ref() != Some(problem));
    let of_link = link.iter().map(|LinkAlarm { kind, what }| SetProblem::Link(*kind, what.clone()));
    let mut problems: Vec<SetProblem> = of_state.iter().cloned().chain(hidden).collect();
    problems.extend(of_link.chain(wrong_clock(store, now)));
    problems.extend(store.problems.iter().map(|one| SetProblem::NotLive(one.to_string())));
    let more = store.more_problems;
    problems.extend((more > 0).then_some(SetProblem::MoreNotLive(more)));
    problems
}

/// Says which clock was wrong, for a day.
fn wrong_clock(store: &Status, now: Stamp) -> Option<SetProblem> {
    let (changes, last) = store.clock_alarm;
    let last = last.filter(|last| now.micros_since(last.clock()) < CLOCK_TOLD_MICROS)?;
    let apart = |micros: i64| {
        let way = if micros < 0 { "behind" } else { "ahead" };
        format!("{} {way}", seconds_text(micros.unsigned_abs().saturating_add(500_000) / 1_000_000))
    };
    let what = match last {
        ClockAlarm::Differs { ahead_micros, clock } => format!(
            "the clock of the master was {} of this station's at {clock}; its changes are filed by this station's clock: set the wrong one right (NTP)",
            apart(ahead_micros)
        ),
        ClockAlarm::Jumped { ahead_micros, clock } => format!(
            "this station's clock was {} of the time that had passed, at {clock}: set it right (NTP), then keepshare fsck SET --repair-clock",
            apart(ahead_micros)
        ),
        ClockAlarm::SetBack { before, clock } => {
            format!("this station's clock was set back from {before} to {clock}")
        }
    };
    Some(SetProblem::ClockWrong(what, changes))
}

/// How long a wrong clock is told of, in microseconds.
const CLOCK_TOLD_MICROS: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use keepshare_base::{
        CommitId, Epoch, FileId, OriginId,
        health::{ProblemKind, State},
    };

    use super::*;

    const WELL: Seen = Seen { linked: true, mirroring: false, has_all: true };

    /// Nobody looks at a screen for months: what a wrong clock does to the times of versions is an alarm.
    #[test]
    fn a_wrong_clock_is_an_alarm_for_a_day() {
        let now = Stamp(1_800_000_000_000_000);
        let clock = now.plus_micros(-3_600_000_000);
        let differs = ClockAlarm::Differs { ahead_micros: 3_600_000_000, clock };
        let store = Status { clock_alarm: (2, Some(differs)), ..Status::default() };
        let link = Alarms::default();
        let [told] = &problems(&SetHealth::InSync, &link, &store, None, now)[..] else {
            panic!("it is not told");
        };
        assert_eq!((told.kind(), told.is_alarm()), (ProblemKind::ClockWrong, true));
        let text = told.to_string();
        assert!(text.contains("the clock of the master was 60 min ahead"), "{text}");
        let later = now.plus_micros(CLOCK_TOLD_MICROS);
        assert_eq!(problems(&SetHealth::InSync, &link, &store, None, later), []);
    }

    /// A full disk must not hide behind a link that is away, nor damage behind a live tree that is late.
    #[test]
    fn what_comes_first_wins() {
        let full = Status { full: true, live_failed: Some("gone".into()), ..Status::default() };
        let away = Seen { linked: false, ..WELL };
        let told = health(None, &full, None, away);
        assert_eq!(told, SetHealth::Waiting(Hold::DiskFull));
        let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 1 };
        let damage = Some(Damage { reads: 3, file });
        let hurt = health(None, &full, damage, away);
        assert_eq!(hurt.kind(), Some(ProblemKind::ContentDamaged));
        let of = |health, damage| problems(health, &Alarms::default(), &full, damage, Stamp(0));
        let kinds = |told: &[SetProblem]| told.iter().map(SetProblem::kind).collect::<Vec<_>>();
        assert_eq!(kinds(&of(&told, None)), [ProblemKind::DiskFull]);
        let both = [ProblemKind::ContentDamaged, ProblemKind::DiskFull];
        assert_eq!(kinds(&of(&hurt, damage)), both, "what a state hides is told, too");
        let poisoned = Status { poisoned: Some("EIO".into()), ..full.clone() };
        assert_eq!(health(None, &poisoned, None, WELL).state(), State::Alarm);
        let stopped = Status { full: false, ..full };
        assert_eq!(health(None, &stopped, None, away).kind(), Some(ProblemKind::LiveStopped));
        let late = Status { durable: CommitId(7), live: CommitId(6), ..Status::default() };
        let word = |seen| health(None, &late, None, seen).state();
        assert_eq!(word(away), State::Disconnected);
        assert_eq!(word(Seen { mirroring: true, ..WELL }), State::Mirroring);
        assert_eq!(health(None, &late, None, WELL), SetHealth::Lagging(Missing::LiveTree));
        assert_eq!(health(None, &Status::default(), None, WELL), SetHealth::InSync);
    }
}
