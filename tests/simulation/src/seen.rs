//! What happened in a life.

use keepshare_proto::{Message, Refusal};

/// Counts of what happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Seen {
    pub commits: u64,
    pub mirrors: u64,
    pub resends: u64,
    pub epochs: u64,
    pub stale_refused: u64,
    pub refusals: u64,
    pub lost_acknowledged: u64,
    pub waited: u64,
    pub acks: u64,
}

impl Seen {
    /// Counts a message that was sent.
    pub(crate) fn count(&mut self, message: &Message) {
        match message {
            Message::Resend { .. } => self.resends += 1,
            Message::Ack { .. } => self.acks += 1,
            Message::Refused { refusal: Refusal::Epoch, .. } => self.stale_refused += 1,
            Message::Refused { .. } => self.refusals += 1,
            _ => {}
        }
    }

    /// Adds another life's counts.
    pub fn add(&mut self, other: &Self) {
        let ours = self.counts_mut();
        for (ours, theirs) in ours.into_iter().zip(other.clone().counts_mut()) {
            *ours += *theirs;
        }
    }

    /// Checks that everything happened that the lives are meant to meet.
    pub fn check_variety(&mut self) {
        let seen = format!("{self:?}");
        assert!(self.counts_mut().into_iter().all(|count| *count > 0), "too tame: {seen}");
    }

    fn counts_mut(&mut self) -> [&mut u64; 9] {
        let Self {
            commits,
            mirrors,
            resends,
            epochs,
            stale_refused,
            refusals,
            lost_acknowledged,
            waited,
            acks,
        } = self;
        [
            commits,
            mirrors,
            resends,
            epochs,
            stale_refused,
            refusals,
            lost_acknowledged,
            waited,
            acks,
        ]
    }
}
