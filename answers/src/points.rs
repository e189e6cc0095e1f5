//! What is told of points, and done about them: a set's master makes them, for all stations; a station may keep or end one by itself.

use keepshare_auth::AuditEvent;
use keepshare_base::{
    POINT_NOTICE_MICROS, Point, PointKind, PointRow, Position, SetName, StationName, VersionId,
};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    caller::Caller,
    points::{PointInfo, PointMade, PointSaid, PointTimeInfo, Verdict, find},
    questions::{
        Location, PointCreate, PointEvery, PointHold, PointList, PointMark, PointRelease,
        PointRemove, PointTimes,
    },
    router::Answers,
};
use keepshare_host::clock;
use keepshare_sets::{
    master::{Master, PointTime},
    points,
    replica::Replica,
};
use keepshare_versioning::retention::{Span, SpanError};

use std::sync::Arc;

use super::{
    StationAnswers,
    past::{Kept, who},
};

/// How much of how a point was found good or bad is in the audit log, in characters.
const BY_CHARS_MAX: usize = 200;

impl Answers<PointCreate> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: PointCreate, reply: &mut Reply) -> Outcome<()> {
        let set = asked.set.clone();
        let mut words = asked.name.clone();
        words += if asked.app { " --app" } else { "" };
        for (option, said) in [("lasts", &asked.lasts), ("hold", &asked.hold)] {
            if let Some(said) = said {
                words += &format!(" --{option}={said}");
            }
        }
        let what = (AuditEvent::PointCreate, &set, &*words);
        let made = self.audited(
            caller,
            what,
            |made: &PointMade| made.id.clone(),
            || self.create(caller, asked),
        )?;
        reply.item(&made)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointCreate, caller, why);
    }
}

impl StationAnswers {
    /// Makes a point.
    fn create(&self, caller: &Caller, asked: PointCreate) -> Outcome<PointMade> {
        let PointCreate { set, name, app, lasts, hold } = asked;
        points::check_name(&name)?;
        let lasts = lasts.as_deref().map(micros).transpose()?;
        let hold = hold.as_deref().map(held).transpose()?;
        let master = self.master_of(&set)?;
        // Where nobody who keeps the set can be asked, a second one of a name is told by its id.
        match self.points_of(caller, &set) {
            Ok(known) if known.iter().any(|point| point.point == name) => {
                return Err(Failure::refused(format!("set {set} has a point '{name}' already"))
                    .hint("choose another name, or remove that one"));
            }
            Ok(known) if known.len() >= keepshare_versioning::POINTS_MAX => {
                return Err(Failure::refused(format!(
                    "set {set} has {} points, and cannot have more",
                    known.len()
                ))
                .hint(format!("keepshare point list {set} lists them; remove some")));
            }
            Ok(_) => {}
            Err(failure) if failure.code == Code::Unavailable => {}
            Err(failure) => return Err(failure),
        }
        let kind = if app { PointKind::App } else { PointKind::Crash };
        let (made, missing) = master.make_point(Point { name: name.clone(), kind }, lasts, hold)?;
        tracing::info!(%set, point = name, id = %VersionId(made.position), "a point was made");
        Ok(PointMade {
            set: set.to_string(),
            point: name,
            id: VersionId(made.position).to_string(),
            time: made.stamp.to_string(),
            kind: points::kind_word(kind).to_owned(),
            missing: words(&missing),
            unsettled: made.unsettled,
        })
    }
}

impl Answers<PointList> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        PointList { set }: PointList,
        reply: &mut Reply,
    ) -> Outcome<()> {
        if let Some(set) = set {
            return self.points_of(caller, &set)?.iter().try_for_each(|point| reply.item(point));
        }
        let mut sets: Vec<SetName> = self.kept_sets().filter(|set| caller.may_know(set)).collect();
        sets.sort();
        sets.dedup();
        for set in sets {
            // What a caller is not told of is left out of a list of all.
            if let Ok(Kept::Here(copy, _)) = self.find(caller, &top(&set)) {
                let points = points::list(&copy, who(caller))?;
                points.iter().try_for_each(|point| reply.item(point))?;
            }
        }
        Ok(())
    }
}

impl Answers<PointTimes> for StationAnswers {
    fn answer(&self, _: &Caller, PointTimes { set }: PointTimes, reply: &mut Reply) -> Outcome<()> {
        tell_times(&set, &*self.master_of(&set)?, reply)
    }
}

impl Answers<PointEvery> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        PointEvery { set, every, keep }: PointEvery,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let what = (AuditEvent::PointEvery, &set, &*format!("{every} --keep {keep}"));
        let master = self.audited(
            caller,
            what,
            |_| "set".to_owned(),
            || {
                let master = self.master_of(&set)?;
                let every = every
                    .parse()
                    .map_err(|error: SpanError| Failure::because(Code::Usage, error))?;
                master.set_point_time(every, keep)?;
                Ok(master)
            },
        )?;
        tell_times(&set, &master, reply)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointEvery, caller, why);
    }
}

impl Answers<PointHold> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: PointHold, reply: &mut Reply) -> Outcome<()> {
        let PointHold { set, point, lasts, here } = asked;
        let span = lasts.as_ref().map(|lasts| format!(" --lasts {lasts}")).unwrap_or_default();
        let asked = format!("{point}{span}{}", here_word(here));
        let what = (AuditEvent::PointHold, &set, &*asked);
        let said =
            self.audited(caller, what, told, || self.hold(caller, (&set, &point), lasts, here))?;
        reply.item(&said)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointHold, caller, why);
    }
}

impl StationAnswers {
    fn hold(
        &self,
        caller: &Caller,
        (set, point): (&SetName, &str),
        lasts: Option<String>,
        here: bool,
    ) -> Outcome<PointSaid> {
        let lasts_micros = lasts.as_deref().map(micros).transpose()?;
        if here {
            if lasts_micros.is_some() {
                return Err(Failure::usage(
                    "a station keeps a point by itself until it is told otherwise",
                )
                .hint("leave --lasts out, or --here"));
            }
            return self.at_this_station(caller, (set, point), |copy, point| {
                points::keep_here(copy, point, true)
            });
        }
        let said = |point| PointRow::Held { point, lasts_micros };
        self.say(caller, (set, point), None, said)
    }
}

impl Answers<PointRelease> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: PointRelease, reply: &mut Reply) -> Outcome<()> {
        let PointRelease { set, point, here } = asked;
        let asked = format!("{point}{}", here_word(here));
        let what = (AuditEvent::PointRelease, &set, &*asked);
        let said = self.audited(caller, what, told, || {
            if here {
                return self.at_this_station(caller, (&set, &point), |copy, point| {
                    points::keep_here(copy, point, false)
                });
            }
            let said = |point| PointRow::Released { point };
            self.say(caller, (&set, &point), Some(POINT_NOTICE_MICROS), said)
        })?;
        reply.item(&said)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointRelease, caller, why);
    }
}

impl Answers<PointRemove> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: PointRemove, reply: &mut Reply) -> Outcome<()> {
        let PointRemove { set, point, here } = asked;
        let asked = format!("{point}{}", here_word(here));
        let what = (AuditEvent::PointRemove, &set, &*asked);
        let said =
            self.audited(caller, what, told, || self.remove(caller, (&set, &point), here))?;
        reply.item(&said)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointRemove, caller, why);
    }
}

impl Answers<PointMark> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: PointMark, reply: &mut Reply) -> Outcome<()> {
        let PointMark { set, point, verdict, by } = asked;
        let word = match verdict {
            Some(Verdict::Good) => "good",
            Some(Verdict::Bad) => "bad",
            None => "unknown",
        };
        let by: String = by.iter().flat_map(|by| by.chars()).take(BY_CHARS_MAX).collect();
        let by = if by.is_empty() { by } else { format!(" --by {by}") };
        let what = (AuditEvent::PointMark, &set, &*format!("{point} {word}{by}"));
        let told = |marked: &PointInfo| marked.id.clone();
        let marked = self.audited(caller, what, told, || {
            let mark = |copy: &Replica, point| points::mark(copy, point, verdict);
            let PointSaid { id, .. } = self.at_this_station(caller, (&set, &point), mark)?;
            let (copy, _) = self.kept_here(caller, &top(&set))?;
            let known = points::list(&copy, who(caller))?;
            find(&known, &set, &id).cloned()
        })?;
        reply.item(&marked)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::PointMark, caller, why);
    }
}

impl StationAnswers {
    fn remove(
        &self,
        caller: &Caller,
        (set, point): (&SetName, &str),
        here: bool,
    ) -> Outcome<PointSaid> {
        let known = self.points_of(caller, set)?;
        let found = find(&known, set, point)?;
        let refused = |why: String| {
            Failure::refused(format!("point '{}' of set {set} is {why}", found.point))
        };
        if here && found.kept_here {
            return Err(refused("kept by this station".to_owned()).hint(format!(
                "keepshare point release {set} {point} --here leaves it to its master first"
            )));
        }
        if here {
            return self.at_this_station(caller, (set, point), points::drop_here);
        }
        match (&found.held_until, found.held) {
            (Some(until), _) => {
                return Err(refused(format!("held until {until}")).hint("remove it then"));
            }
            (None, true) => {
                return Err(refused("held".to_owned()).hint(format!(
                    "keepshare point release {set} {point} lets it go, from a day later on"
                )));
            }
            (None, false) => {}
        }
        let said = |point| PointRow::Removed { point };
        self.say(caller, (set, point), Some(POINT_NOTICE_MICROS), said)
    }

    /// Has a set's master say something of a point, which stations act on so many microseconds later.
    fn say(
        &self,
        caller: &Caller,
        (set, meant): (&SetName, &str),
        later: Option<u64>,
        said: impl FnOnce(Position) -> PointRow,
    ) -> Outcome<PointSaid> {
        let master = self.master_of(set)?;
        let known = self.points_of(caller, set)?;
        let PointInfo { point, id, .. } = find(&known, set, meant)?.clone();
        let missing = master.say_of_point(said(position(&id)?))?;
        let later = later.map(|micros| i64::try_from(micros).unwrap_or(i64::MAX));
        Ok(PointSaid {
            set: set.to_string(),
            point,
            id,
            from: later.map(|micros| clock::now().plus_micros(micros).to_string()),
            missing: words(&missing),
        })
    }

    /// Does something about a point of a set that is kept here, at this station alone.
    fn at_this_station(
        &self,
        caller: &Caller,
        (set, meant): (&SetName, &str),
        act: impl FnOnce(&Replica, Position) -> Outcome<()>,
    ) -> Outcome<PointSaid> {
        let (copy, _) = self.kept_here(caller, &top(set))?;
        let known = points::list(&copy, who(caller))?;
        let PointInfo { point, id, .. } = find(&known, set, meant)?.clone();
        act(&copy, position(&id)?)?;
        Ok(PointSaid { set: set.to_string(), point, id, from: None, missing: Vec::new() })
    }

    /// Returns the points of a set, from this station or from one that keeps it.
    fn points_of(&self, caller: &Caller, set: &SetName) -> Outcome<Vec<PointInfo>> {
        match self.find(caller, &top(set))? {
            Kept::Here(copy, _) => points::list(&copy, who(caller)),
            Kept::Elsewhere(there) => {
                let mut known = Vec::new();
                let asked = PointList { set: Some(set.clone()) };
                there.each(&asked, |piece| {
                    if let keepshare_control::client::Piece::Item(point) = piece {
                        known.push(point);
                    }
                    if known.len() > keepshare_versioning::POINTS_IN_ALL_MAX {
                        return Err(Failure::new(
                            Code::Failed,
                            "another station tells of too many points",
                        ));
                    }
                    Ok(())
                })?;
                Ok(known)
            }
        }
    }

    fn master_of(&self, set: &SetName) -> Outcome<Arc<Master>> {
        let mut received = None;
        for station in &self.stations {
            let Some(running) = station.running(set) else { continue };
            if let Some(master) = running.source() {
                return Ok(Arc::clone(master));
            }
            received = running.copy().map(|copy| copy.from().clone()).or(received);
        }
        Err(match received {
            Some(from) => Failure::refused(format!("set {set} has its users on station {from}"))
                .hint(format!("points are made there: ask on {from}")),
            None => Failure::not_found(format!("there is no set '{set}' on this station"))
                .hint("keepshare set list shows the sets of this station"),
        })
    }
}

/// Returns what came of what was said of a point, as the audit log has it.
fn told(said: &PointSaid) -> String {
    said.id.clone()
}

fn here_word(here: bool) -> &'static str {
    if here { " --here" } else { "" }
}

fn tell_times(set: &SetName, master: &Master, reply: &mut Reply) -> Outcome<()> {
    master.point_times()?.into_iter().try_for_each(|PointTime { every, keep, .. }| {
        reply.item(&PointTimeInfo { set: set.to_string(), every: every.to_string(), keep })
    })
}

fn top(set: &SetName) -> Location {
    Location::Set { set: set.clone(), path: Vec::new() }
}

fn position(id: &str) -> Outcome<Position> {
    let id = id.parse::<VersionId>().map_err(anyhow::Error::new)?;
    Ok(id.0)
}

fn micros(span: &str) -> Outcome<u64> {
    let span: Span = span.parse().map_err(|error| Failure::because(Code::Usage, error))?;
    if span == Span::NONE {
        return Err(Failure::usage("a point that stays for no time is none")
            .hint("write for how long, as in 30d"));
    }
    Ok(span.micros())
}

/// Reads for how long a point is held; for ever where that is empty.
fn held(span: &str) -> Outcome<Option<u64>> {
    if span.is_empty() { Ok(None) } else { micros(span).map(Some) }
}

fn words(stations: &[StationName]) -> Vec<String> {
    stations.iter().map(ToString::to_string).collect()
}
