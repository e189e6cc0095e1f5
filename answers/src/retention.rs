//! What is told and done about the thinning of sets that are kept here. Of sets that only others keep nothing is answered: what makes a
//! station keep less is said at that station.

use std::sync::Arc;

use chrono::Utc;

use keepshare_auth::AuditEvent;
use keepshare_base::{SetName, Stamp};
use keepshare_control::{
    Failure, Outcome, Reply,
    answers::Progress,
    caller::Caller,
    questions::{
        LIMIT_MAX, RetentionApply, RetentionExplain, RetentionPlan, RetentionSet, RetentionShow,
        RetentionUndo,
    },
    retention::{Applied, PlanPiece, PlannedVersion, RetentionInfo, Undone},
    router::Answers,
};
use keepshare_sets::{
    parts::Running,
    record::SetRecord,
    replica::Replica,
    retention::{self, Standing},
};
use keepshare_versioning::{
    names,
    retention::{Candidate, Fate},
    when::Moment,
};

use super::StationAnswers;
use keepshare_station::station::Station;

/// How often it is told how far it is, in steps.
const TELL_EVERY: u64 = 16;

impl Answers<RetentionShow> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        RetentionShow { set }: RetentionShow,
        reply: &mut Reply,
    ) -> Outcome<()> {
        if let Some(set) = set {
            let (station, copy) = self.copy(&set)?;
            return reply.item(&info(station, &set, &copy)?);
        }
        for (station, set, copy) in self.copies() {
            reply.item(&info(station, &set, &copy)?)?;
        }
        Ok(())
    }
}

impl Answers<RetentionSet> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RetentionSet { set, said, reset, less }: RetentionSet,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let options = [("--reset", reset), ("--yes", less)];
        let options = options.into_iter().filter_map(|(option, is_so)| is_so.then_some(option));
        let asked = said.iter().map(String::as_str).chain(options).collect::<Vec<_>>().join(" ");
        let what = (AuditEvent::RetentionSet, &set, &*asked);
        let standing = self.audited(
            caller,
            what,
            |standing: &Standing| standing.policy.to_string(),
            || self.copy(&set)?.1.retention().set(&said, reset, less),
        )?;
        tracing::info!(set = %set, policy = %standing.policy, "the policy was set");
        let (station, copy) = self.copy(&set)?;
        reply.item(&info(station, &set, &copy)?)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::RetentionSet, caller, why);
    }
}

impl Answers<RetentionPlan> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        RetentionPlan { set, said, limit }: RetentionPlan,
        reply: &mut Reply,
    ) -> Outcome<()> {
        if limit > LIMIT_MAX {
            return Err(Failure::usage(format!("the limit is {limit}"))
                .hint(format!("say how many to list at most: 0 to {LIMIT_MAX}")));
        }
        let (_, copy) = self.copy(&set)?;
        let (store, reader) = (copy.open_store()?, copy.reader());
        let doing = format!("going through set {set}: names");
        let (mut left, mut steps) = (limit, 0_u64);
        let mut listed = Vec::new();
        let plan = copy.retention().plan(
            &store,
            &said,
            |candidate| {
                if left > 0 {
                    left -= 1;
                    let view = reader.view().map_err(keepshare_sets::asking::read_failure)?;
                    let path = retention::path_of(&view, candidate).to_string();
                    listed.push(planned(path, candidate));
                }
                Ok(())
            },
            |counts| {
                steps += 1;
                if !steps.is_multiple_of(TELL_EVERY) {
                    return Ok(());
                }
                let doing = doing.clone();
                reply.progress(&Progress { doing, done: counts.names, total: None })
            },
        )?;
        listed.into_iter().try_for_each(|version| reply.item(&PlanPiece::Version(version)))?;
        reply.item(&PlanPiece::Plan(plan))
    }
}

impl Answers<RetentionExplain> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RetentionExplain { place, limit }: RetentionExplain,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (copy, path) = self.kept_here(caller, &place)?;
        let policy = copy.retention().standing()?.policy;
        let store = copy.open_store()?;
        let shown =
            retention::explain(copy.reader(), &store, &policy, (copy.catalog().set(), &path))?;
        for shown in shown.into_iter().take(limit.min(LIMIT_MAX)) {
            let (action, reasons) = match shown.fate {
                Fate::Kept(reasons) => {
                    ("keep", reasons.iter().map(|reason| reason.word().to_owned()).collect())
                }
                Fate::Gone(gone) => ("remove", vec![gone.word().to_owned()]),
            };
            let state = &shown.entry.state;
            reply.item(&PlannedVersion {
                path: path.to_string(),
                version: names::id(state).to_string(),
                time: state.stamp.to_string(),
                size: state.meta.size,
                action: action.to_owned(),
                reasons,
            })?;
        }
        Ok(())
    }
}

impl Answers<RetentionApply> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RetentionApply { set, plan }: RetentionApply,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let what = (AuditEvent::RetentionApply, &set, &*format!("--plan {plan}"));
        let told = |applied: &Applied| {
            let Applied { removed, skipped, bytes_freed, .. } = applied;
            format!("{removed} removed, {skipped} skipped, {bytes_freed} bytes")
        };
        let applied = self.audited(caller, what, told, || {
            let (_, copy) = self.copy(&set)?;
            if let Some(id) = copy.rolling_back() {
                return Err(Failure::refused(format!("roll-back {id} of set {set} goes on"))
                    .hint("what it brings back is not removed meanwhile: try again when keepshare rollback --list says that it is done"));
            }
            copy.retention().apply(&*copy.open_store()?, &plan)
        })?;
        reply.item(&applied)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::RetentionApply, caller, why);
    }
}

impl Answers<RetentionUndo> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        RetentionUndo { set, all, sure }: RetentionUndo,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let undo = || {
            let (_, copy) = self.copy(&set)?;
            copy.retention().undo(&*copy.open_store()?, all, sure)
        };
        if !sure {
            // It only tells what would come back.
            return reply.item(&undo()?);
        }
        let what = (AuditEvent::RetentionUndo, &set, if all { "--all" } else { "" });
        let told = |undone: &Undone| {
            format!("{} brought back, {} bytes", undone.brought_back, undone.bytes)
        };
        reply.item(&self.audited(caller, what, told, undo)?)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::RetentionUndo, caller, why);
    }
}

impl StationAnswers {
    /// Returns all copies that are open here.
    pub(crate) fn copies(&self) -> Vec<(&Arc<Station>, SetName, Arc<Replica>)> {
        let of = |station: &'_ Arc<Station>| {
            let kept = |(record, running): (SetRecord, Running)| {
                Some((record.name, Arc::clone(running.copy()?)))
            };
            station.sets().into_iter().filter_map(kept).collect::<Vec<_>>()
        };
        let with = |station| of(station).into_iter().map(move |(name, copy)| (station, name, copy));
        self.stations.iter().flat_map(with).collect()
    }

    /// Returns the copy of a set.
    pub(crate) fn copy(&self, set: &SetName) -> Outcome<(&Arc<Station>, Arc<Replica>)> {
        let found = self.copies().into_iter().find(|(_, name, _)| name == set);
        found.map(|(station, _, copy)| (station, copy)).ok_or_else(|| {
            Failure::not_found(format!("this station keeps no set '{set}'")).hint(
                "it is asked, and told, where versions are kept: keepshare set list shows which station that is",
            )
        })
    }
}

fn info(station: &Arc<Station>, set: &SetName, copy: &Replica) -> Outcome<RetentionInfo> {
    let Standing { policy, is_set, is_applied, last_run } = copy.retention().standing()?;
    let store = copy.open_store()?;
    let can_come_back = retention::can_come_back(&store)?;
    let (at, zone) = (station.config.schedules.thin_at, station.config.zone);
    Ok(RetentionInfo {
        set: set.to_string(),
        station: station.config.name.to_string(),
        policy: policy.said().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        is_set,
        is_applied,
        next_run: is_applied.then(|| Stamp::from(at.next(zone, Utc::now())).to_string()),
        last_run,
        can_come_back,
    })
}

fn planned(path: String, candidate: &Candidate) -> PlannedVersion {
    PlannedVersion {
        path,
        version: Moment::Version(candidate.version, Some(candidate.file)).to_string(),
        time: candidate.stamp.to_string(),
        size: candidate.size,
        action: "remove".to_owned(),
        reasons: vec![candidate.gone.word().to_owned()],
    }
}
