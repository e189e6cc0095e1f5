//! What is told and done about scrubs of sets that are kept here.

use std::sync::Arc;

use keepshare_auth::AuditEvent;
use keepshare_base::SetName;
use keepshare_control::{
    Failure, Outcome, Reply,
    caller::Caller,
    questions::{ScrubNow, ScrubPause, ScrubResume, ScrubShow},
    router::Answers,
    scrub::ScrubInfo,
};
use keepshare_sets::replica::Replica;
use keepshare_station::station::Station;

use super::StationAnswers;

type Kept<'a> = (&'a Arc<Station>, SetName, Arc<Replica>);

impl Answers<ScrubShow> for StationAnswers {
    fn answer(&self, _: &Caller, ScrubShow { set }: ScrubShow, reply: &mut Reply) -> Outcome<()> {
        self.scrubbed(set.as_ref())?.iter().try_for_each(|kept| reply.item(&info(kept)))
    }
}

impl Answers<ScrubNow> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        ScrubNow { set }: ScrubNow,
        reply: &mut Reply,
    ) -> Outcome<()> {
        for kept in self.scrubbed(set.as_ref())? {
            let (_, name, copy) = &kept;
            let what = (AuditEvent::ScrubNow, name, "");
            self.audited(caller, what, |_: &()| String::new(), || copy.scrub_now(reply))?;
            reply.item(&info(&kept))?;
        }
        Ok(())
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::ScrubNow, caller, why);
    }
}

impl Answers<ScrubPause> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        ScrubPause { set }: ScrubPause,
        reply: &mut Reply,
    ) -> Outcome<()> {
        self.change_scrubs(caller, (AuditEvent::ScrubPause, set), reply, |copy| {
            copy.scrubbing().pause();
        })
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::ScrubPause, caller, why);
    }
}

impl Answers<ScrubResume> for StationAnswers {
    fn answer(
        &self,
        caller: &Caller,
        ScrubResume { set }: ScrubResume,
        reply: &mut Reply,
    ) -> Outcome<()> {
        self.change_scrubs(caller, (AuditEvent::ScrubResume, set), reply, |copy| {
            copy.scrubbing().resume();
        })
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::ScrubResume, caller, why);
    }
}

impl StationAnswers {
    fn scrubbed(&self, set: Option<&SetName>) -> Outcome<Vec<Kept<'_>>> {
        match set {
            Some(set) => {
                let (station, copy) = self.copy(set)?;
                Ok(vec![(station, set.clone(), copy)])
            }
            None => Ok(self.copies()),
        }
    }

    fn change_scrubs(
        &self,
        caller: &Caller,
        (event, set): (AuditEvent, Option<SetName>),
        reply: &mut Reply,
        change: impl Fn(&Replica),
    ) -> Outcome<()> {
        for kept in self.scrubbed(set.as_ref())? {
            let (_, name, copy) = &kept;
            let act = || {
                change(copy);
                Ok(())
            };
            self.audited(caller, (event, name, ""), |_: &()| String::new(), act)?;
            reply.item(&info(&kept))?;
        }
        Ok(())
    }
}

fn info((station, set, copy): &Kept<'_>) -> ScrubInfo {
    let (damage, more_damage) = copy.scrubbing().damage();
    ScrubInfo {
        set: set.to_string(),
        station: station.config.name.to_string(),
        status: copy.scrubbing().status(),
        damage,
        more_damage,
    }
}
