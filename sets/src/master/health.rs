//! How a set is at each destination, by what its source and its links show.

use std::path::Path;

use keepshare_base::{
    Seq, StationName,
    health::{Hold, LinkHealth, MirrorProgress, Missing, Part, SetHealth, SetProblem},
};
use keepshare_proto::shipper::Doing;
use keepshare_replication::{
    drivers::{LinkAlarm, MirrorShown, ship::Shipping},
    source::{FileProblem, Head, SourceAlarm, SourceStatus},
};

use crate::{checkup::Told, source_folder::states_inside};

/// What of a destination neither its link nor the source shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Nobody reads the source.
    pub(super) unread: bool,
    /// The loop of its link has ended.
    pub(super) gone: bool,
    /// The journal keeps every change that it lacks.
    pub(super) kept: bool,
}

/// Returns how the set is at a destination. What comes first wins: docs/admin/status.md has the same order.
pub(super) fn health(shown: &Shipping, head: Head, source: &SourceStatus, seen: Seen) -> SetHealth {
    if seen.gone {
        return SetHealth::Alarm(SetProblem::ThreadGone(Part::Sender, None));
    }
    if let Some(stop) = &shown.stopped {
        return SetHealth::Stopped(stop.clone());
    }
    let health = match &shown.doing {
        None | Some(Doing::Away | Doing::Greeting) => {
            let lacks = acked_of(shown, head).is_some_and(|acked| acked < head.seq);
            let link = link(shown);
            if lacks && seen.kept { SetHealth::Queued(link) } else { SetHealth::Disconnected(link) }
        }
        Some(Doing::Waiting(reason)) => SetHealth::Waiting(Hold::Told(reason.to_string())),
        Some(Doing::Mirroring(_)) => SetHealth::Mirroring(progress(shown, source)),
        Some(Doing::Following) => following(shown, head, source),
    };
    // What is known has arrived; what there is nobody knows.
    if seen.unread && health.state().has_arrived() { SetHealth::Unverified } else { health }
}

/// Returns how the link to a destination is.
pub(super) fn link(shown: &Shipping) -> LinkHealth {
    match shown.doing {
        None | Some(Doing::Away) => LinkHealth::Away(shown.error.clone()),
        Some(Doing::Greeting) => LinkHealth::Greeting,
        Some(Doing::Mirroring(_) | Doing::Following | Doing::Waiting(_)) => LinkHealth::Up,
    }
}

/// Returns the newest change of this journal that a destination acknowledged.
pub(super) fn acked_of(shown: &Shipping, head: Head) -> Option<Seq> {
    shown.acked.filter(|acked| acked.epoch == head.epoch).map(|acked| acked.seq)
}

/// Returns how a destination is that takes changes as they come.
fn following(shown: &Shipping, head: Head, source: &SourceStatus) -> SetHealth {
    let newest = Some((head.epoch, head.seq));
    let has_all = shown.acked.map(|acked| (acked.epoch, acked.seq)) == newest;
    let missing = match (has_all, shown.live == newest) {
        _ if source.scanning => Missing::Scan,
        _ if source.dirty > 0 => Missing::Looks(source.dirty),
        (false, _) => Missing::Changes,
        (true, false) => Missing::LiveTree,
        (true, true) => return SetHealth::arrived(source.problem_count),
    };
    SetHealth::Lagging(missing)
}

fn progress(shown: &Shipping, source: &SourceStatus) -> MirrorProgress {
    match shown.mirror {
        _ if source.scanning => MirrorProgress::Found(source.scanned),
        Some(mirror) if mirror.files_total > 0 => MirrorProgress::Percent(percent(&mirror)),
        _ => MirrorProgress::Unknown,
    }
}

/// Half by files and half by bytes: many small files take as long as a few large ones.
fn percent(mirror: &MirrorShown) -> u64 {
    let part = |done: u64, total: u64| (done.min(total) * 50).checked_div(total).unwrap_or(50);
    (part(mirror.files_done, mirror.files_total) + part(mirror.bytes_done, mirror.bytes_total))
        .min(99)
}

/// Returns what keeps the whole source from being replicated.
pub(super) fn alarms(source: &SourceStatus) -> impl Iterator<Item = SetProblem> {
    source.alarms.iter().map(|alarm| match alarm {
        SourceAlarm::Vanished(why) => SetProblem::SourceGone(why.clone()),
        SourceAlarm::Journal(why) => SetProblem::JournalUnusable(why.clone()),
        SourceAlarm::Full(why) => SetProblem::JournalFull(why.clone()),
        SourceAlarm::Damaged { seq } => SetProblem::ChangeDamaged(*seq),
        SourceAlarm::Dropped { through } => SetProblem::ChangesDropped(*through),
    })
}

/// Tells whether an alarm means that nobody looks at the folder.
pub(super) fn stops_reading(alarm: &SourceAlarm) -> bool {
    !matches!(alarm, SourceAlarm::Dropped { .. } | SourceAlarm::Damaged { .. })
}

/// Returns what of a destination a person must look at, each kind once: what its state says, then what its link tells.
pub(super) fn link_problems(to: &StationName, health: &SetHealth, shown: &Shipping) -> Vec<Told> {
    let of_state = match health {
        SetHealth::Stopped(stop) => Some(SetProblem::Stopped(stop.clone())),
        SetHealth::Alarm(problem) => Some(problem.clone()),
        _ => None,
    };
    let told = shown.alarms.iter().filter(|alarm| Some(alarm.kind) != health.kind());
    let told = told.map(|LinkAlarm { kind, what }| SetProblem::Link(*kind, what.clone()));
    of_state.into_iter().chain(told).map(|problem| Told::at(to, problem)).collect()
}

/// Returns which stations have begun to keep their state in the folder.
pub(super) fn states_in(root: &Path) -> impl Iterator<Item = SetProblem> {
    states_inside(root).into_iter().map(SetProblem::StateInside)
}

/// Returns what of the folder a person must look at, name by name.
pub(super) fn source_problems(source: &SourceStatus) -> Vec<SetProblem> {
    let unreadable = |problem: &FileProblem| {
        let FileProblem { path, reason } = problem.clone();
        SetProblem::Unreadable { path, reason }
    };
    let unread = source.problems.iter().map(unreadable);
    let more = source.problem_count.saturating_sub(source.problems.len() as u64);
    let more = (more > 0).then_some(SetProblem::MoreUnreadable(more));
    let torn = source.torn.iter().cloned().map(SetProblem::HalfRestored);
    let open = source.still_open.iter().cloned().map(SetProblem::StillOpen);
    unread.chain(more).chain(torn).chain(open).collect()
}

#[cfg(test)]
mod tests {
    use keepshare_base::{
        Epoch, RunningHash,
        health::{State, Stop},
    };
    use keepshare_proto::{MirrorReason, Place, Text};

    use super::*;
    use crate::checkup::worst;

    const HEAD: Head = Head { epoch: Epoch::FIRST, seq: Seq(7), running: RunningHash::EMPTY };

    const SEEN: Seen = Seen { unread: false, gone: false, kept: true };

    /// What is shown of a destination that has everything through the head.
    fn having() -> Shipping {
        let Head { epoch, seq, running } = HEAD;
        Shipping {
            doing: Some(Doing::Following),
            acked: Some(Place { epoch, seq, running }),
            live: Some((epoch, seq)),
            ..Shipping::default()
        }
    }

    fn lacking(doing: Doing) -> Shipping {
        let acked = Place { epoch: HEAD.epoch, seq: Seq(5), running: HEAD.running };
        Shipping { doing: Some(doing), acked: Some(acked), ..having() }
    }

    fn state(shown: &Shipping, source: &SourceStatus) -> String {
        let unread = source.alarms.iter().any(stops_reading);
        health(shown, HEAD, source, Seen { unread, ..SEEN }).to_string()
    }

    #[test]
    fn in_sync_is_said_only_of_what_is_equal() {
        let well = SourceStatus::default();
        assert_eq!(state(&having(), &well), "in-sync");
        let dirty = SourceStatus { dirty: 1, ..well.clone() };
        assert_eq!(
            state(&having(), &dirty),
            "lagging: 1 name of the source is still to be looked at"
        );
        let scanning = SourceStatus { scanning: true, ..well.clone() };
        assert_eq!(state(&having(), &scanning), "lagging: the source is being compared");
        let unreadable = SourceStatus { problem_count: 2, ..well.clone() };
        assert_eq!(state(&having(), &unreadable), "incomplete: 2 problems");
        let not_live = Shipping { live: Some((Epoch::FIRST, Seq(6))), ..having() };
        let lagging = "lagging: the live tree does not show everything yet";
        assert_eq!(state(&not_live, &well), lagging);
        let not_all = Shipping { acked: None, ..having() };
        assert_eq!(state(&not_all, &unreadable), "lagging: changes are on their way");
    }

    /// What is shown was true once; where nobody looks any more, nobody knows whether it still is.
    #[test]
    fn a_source_that_is_not_read_is_never_in_sync() {
        for alarm in [SourceAlarm::Journal("full".into()), SourceAlarm::Vanished("away".into())] {
            let source = SourceStatus { alarms: vec![alarm], ..SourceStatus::default() };
            assert_eq!(state(&having(), &source), "unverified: the source is not read");
            assert!(alarms(&source).next().unwrap().is_alarm());
        }
        let dropped = SourceAlarm::Dropped { through: Seq(3) };
        let source = SourceStatus { alarms: vec![dropped], ..SourceStatus::default() };
        assert_eq!(state(&having(), &source), "in-sync", "it was mirrored since");
        let gone = Seen { gone: true, ..SEEN };
        let gone = health(&having(), HEAD, &SourceStatus::default(), gone);
        assert_eq!(gone.state(), State::Alarm);
    }

    /// Who reads `queued` need not fear a mirror, nor that a version between is lost.
    #[test]
    fn changes_are_queued_only_where_the_journal_keeps_all_of_them() {
        let well = SourceStatus::default();
        let word = |shown: &Shipping, seen| health(shown, HEAD, &well, seen).state();
        for doing in [Doing::Away, Doing::Greeting] {
            let lacks = lacking(doing.clone());
            assert_eq!(word(&lacks, SEEN), State::Queued);
            let dropped = Seen { kept: false, ..SEEN };
            assert_eq!(word(&lacks, dropped), State::Disconnected, "it is to be mirrored");
            let has_all = Shipping { doing: Some(doing.clone()), ..having() };
            assert_eq!(word(&has_all, SEEN), State::Disconnected, "nothing waits");
            let never = Shipping { acked: None, doing: Some(doing), ..having() };
            assert_eq!(word(&never, SEEN), State::Disconnected, "it is to be mirrored first");
        }
    }

    /// What keeps a set from going on must not look like a link that will be there again.
    #[test]
    fn what_comes_first_wins() {
        let well = SourceStatus::default();
        let stopped = Some(Stop::Fenced("store".parse().unwrap()));
        let away = Shipping { stopped, ..lacking(Doing::Away) };
        assert_eq!(health(&away, HEAD, &well, SEEN).state(), State::Stopped);
        let gone = Seen { gone: true, ..SEEN };
        assert_eq!(health(&away, HEAD, &well, gone).state(), State::Alarm);
        let full = lacking(Doing::Waiting(Text::new("disk full")));
        assert_eq!(state(&full, &well), "waiting: disk full");
        let to = |name: &str| -> StationName { name.parse().unwrap() };
        let links = [
            (to("a"), SetHealth::InSync),
            (to("b"), SetHealth::Queued(LinkHealth::Away(None))),
            (to("c"), SetHealth::Lagging(Missing::Changes)),
        ];
        assert_eq!(worst(&links).state(), State::Queued);
        assert_eq!(worst(&[]).state(), State::Disconnected);
    }

    /// A program that draws a bar must not look for the number in a sentence.
    #[test]
    fn a_mirror_has_its_numbers() {
        let mirror = MirrorShown { bytes_done: 1, bytes_total: 2, files_done: 3, files_total: 10 };
        let doing = Some(Doing::Mirroring(MirrorReason::Differs));
        let shown = Shipping { doing, mirror: Some(mirror), ..having() };
        let well = SourceStatus::default();
        let told = health(&shown, HEAD, &well, SEEN);
        assert_eq!(told, SetHealth::Mirroring(MirrorProgress::Percent(40)));
        let scanning = SourceStatus { scanning: true, scanned: 9, ..well };
        let told = health(&shown, HEAD, &scanning, SEEN);
        assert_eq!(told, SetHealth::Mirroring(MirrorProgress::Found(9)));
    }

    /// Ten thousand unreadable files must be counted, and need not be listed.
    #[test]
    fn problems_beyond_those_that_are_named_are_counted() {
        let problem = FileProblem { path: "a/b".into(), reason: "denied".into() };
        let source =
            SourceStatus { problems: vec![problem], problem_count: 10_000, ..Default::default() };
        let told: Vec<_> = source_problems(&source).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a/b: denied", "9999 more names cannot be replicated"]);
    }
}
