//! What is told and done about alarms of sets that are kept here.

use std::sync::Arc;

use keepshare_auth::AuditEvent;
use keepshare_base::SetName;
use keepshare_control::{
    Failure, Outcome, Reply,
    alarms::{AlarmInfo, AlarmRule},
    caller::Caller,
    questions::{AlarmClose, AlarmList, AlarmSet},
    router::Answers,
};
use keepshare_sets::replica::Replica;

use super::StationAnswers;

impl Answers<AlarmList> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        AlarmList { set, alarm }: AlarmList,
        reply: &mut Reply,
    ) -> Outcome<()> {
        if let Some(alarm) = alarm {
            return reply.item(&self.alarm(&alarm)?.2);
        }
        let copies: Vec<Arc<Replica>> = match set {
            Some(set) => vec![self.copy(&set)?.1],
            None => self.copies().into_iter().map(|(_, _, copy)| copy).collect(),
        };
        for copy in copies {
            copy.alarms().list()?.iter().try_for_each(|alarm| reply.item(alarm))?;
        }
        Ok(())
    }
}

impl Answers<AlarmClose> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        AlarmClose { alarm, release }: AlarmClose,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (set, copy, _) = self.alarm(&alarm)?;
        let asked = format!("{alarm}{}", if release { " --release" } else { "" });
        let what = (AuditEvent::AlarmClose, &set, &*asked);
        let told = |closed: &AlarmInfo| closed.alarm.clone();
        let closed = self.audited(caller, what, told, || {
            copy.alarms().close(&*copy.open_store()?, &alarm, release)
        })?;
        reply.item(&closed)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::AlarmClose, caller, why);
    }
}

impl Answers<AlarmSet> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        AlarmSet { set, said }: AlarmSet,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let (_, copy) = self.copy(&set)?;
        if said.is_empty() {
            return reply.item(&copy.alarms().set_rule(&[])?);
        }
        let asked = said.join(" ");
        let what = (AuditEvent::AlarmSet, &set, &*asked);
        let told = |rule: &AlarmRule| rule.rule.clone();
        let rule = self.audited(caller, what, told, || copy.alarms().set_rule(&said))?;
        reply.item(&rule)
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::AlarmSet, caller, why);
    }
}

impl StationAnswers {
    /// Finds an alarm, and whose it is.
    fn alarm(&self, id: &str) -> Outcome<(SetName, Arc<Replica>, AlarmInfo)> {
        for (_, set, copy) in self.copies() {
            // One whose alarms cannot be read hides no other's.
            let Ok(known) = copy.alarms().list() else { continue };
            if let Some(alarm) = known.into_iter().find(|alarm| alarm.alarm == id) {
                return Ok((set, copy, alarm));
            }
        }
        Err(Failure::not_found(format!("there is no alarm '{id}' at this station"))
            .hint("keepshare alarm list shows those that it has"))
    }
}
