//! Finding the last common place with a station, and deciding how to go on from there.

use keepshare_base::{Epoch, RunningHash, Seq};

use super::{Broken, Output, Shipper, State};
use crate::{
    MirrorReason, MonoTime, Place, Welcome,
    epochs::{Disagreement, Verdict},
};

impl Shipper {
    /// Decides between going on, mirroring and a new epoch.
    pub(super) fn on_welcome(&mut self, welcome: &Welcome) -> Result<(), Broken> {
        let (State::Greeting, Some(head)) = (&self.state, self.head) else {
            return Err("the station welcomes twice");
        };
        self.restores.on_connected();
        let reached = welcome.place.map_or(welcome.fence, |place| place.epoch.max(welcome.fence));
        let is_place = welcome.place.is_none_or(|place| place.seq <= Seq::MAX);
        if !is_place || !reached.may_follow(head.epoch) {
            return Err("the station tells of a place that no journal reaches");
        }
        if reached > head.epoch {
            self.disagree(welcome.place, reached, Disagreement::Fenced);
            return Ok(());
        }
        if welcome.fence < head.epoch {
            return Err("the station did not agree to the epoch");
        }
        let place = welcome.place.filter(|place| place.seq > Seq(0));
        // A mirror that broke off led it to a place that our journal has not come to: a copy of that is older than the mirror.
        let is_beyond = std::mem::take(&mut self.mirror_refused) && welcome.mirroring;
        match place {
            Some(place) if place.epoch < head.epoch && !is_beyond => {
                self.begin_mirror(Some(place), MirrorReason::NewEpoch);
            }
            _ if is_beyond => self.disagree(place, head.epoch, Disagreement::Ahead),
            None => self.begin_mirror(place, MirrorReason::Empty),
            Some(place) if place.seq > head.seq => {
                self.disagree(Some(place), head.epoch, Disagreement::Ahead);
            }
            Some(place) => {
                self.state = State::Comparing { place, mirroring: welcome.mirroring };
                self.outputs.push_back(Output::ReadHash { seq: place.seq });
            }
        }
        Ok(())
    }

    pub(super) fn on_hash(&mut self, seq: Seq, running: Option<RunningHash>) {
        let State::Comparing { place, mirroring } = self.state else { return };
        let (Some(head), true) = (self.head, place.seq == seq) else { return };
        let kept = running.is_some() && place.seq.next() >= head.oldest;
        if running.is_some_and(|running| running != place.running) {
            self.disagree(Some(place), head.epoch, Disagreement::Differs);
        } else if let Some(reason) = self.mirror_wanted.filter(|_| self.is_mirror_due(place)) {
            self.begin_mirror(Some(place), reason);
        } else if mirroring {
            self.begin_mirror(Some(place), MirrorReason::Interrupted);
        } else if !kept || self.has_lost(Some(place)) {
            self.begin_mirror(Some(place), MirrorReason::Dropped);
        } else {
            self.follow(place);
        }
    }

    /// Tells whether a station at `place` has less than it acknowledged.
    pub(super) fn has_lost(&self, place: Option<Place>) -> bool {
        let order = |place: Place| (place.epoch, place.seq);
        self.acked.is_some_and(|acked| place.map(order) < Some(order(acked)))
    }

    fn disagree(&mut self, place: Option<Place>, told: Epoch, disagreement: Disagreement) {
        self.state = State::Judging { place, disagreement };
        self.outputs.push_back(Output::Disagrees { told, disagreement });
    }

    pub(super) fn on_judged(&mut self, now: MonoTime, verdict: Verdict) {
        let State::Judging { place, disagreement } = self.state else { return };
        let wait = match verdict {
            Verdict::Mirror => return self.begin_mirror(place, MirrorReason::Differs),
            Verdict::Wait => self.backoff.failed(),
            // The new head connects at once.
            Verdict::NewEpoch { .. } => self.backoff.long(),
            Verdict::Stop => {
                self.alarm(disagreement.into(), stopped(disagreement));
                self.backoff.long()
            }
        };
        self.disconnect(now, "our journal does not continue what the station has", wait);
    }
}

/// Why nothing is sent to a station that disagrees, and what to do.
fn stopped(disagreement: Disagreement) -> &'static str {
    match disagreement {
        Disagreement::Fenced => {
            "another master has taken this set on, and this one sends nothing any more; if this one is to have it: \
             keepshare set mirror SET --take-over"
        }
        Disagreement::Ahead | Disagreement::Differs => {
            "it has changes that our journal does not have, and other stations agree with the journal; nothing is sent to \
             it. To bring it to what is here: keepshare set mirror SET --to STATION --new-epoch"
        }
    }
}
