//! Tickets: what a login gives and a mount takes, once.
//!
//! In memory only: a restart of the station forgets them, and whoever was about to mount logs in again. Kept as hashes,
//! so that not even a memory dump holds one that can be used.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use data_encoding::HEXLOWER;

use keepshare_base::{SetName, Stamp};

use crate::{Binding, SessionId, UserName};

/// How long a ticket is good for, in seconds.
pub const TICKET_TTL_S: u32 = 120;

/// The most tickets at a time, used and expired ones included; the oldest makes room.
const TICKETS_MAX: usize = 1024;

/// The most tickets of one user; the oldest makes room.
const TICKETS_OF_A_USER_MAX: usize = 16;

/// How far the clock may be behind the moment a ticket was made; further back it was set, and the ticket counts no more.
const CLOCK_SLACK_US: i64 = 1_000_000;

/// A ticket's text, 32 digits for 128 random bits, as it stands in the path that is mounted. Secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Ticket([u8; 16]);

impl Ticket {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns the text, for the user's eyes only.
    pub fn reveal(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads the text that [`Self::reveal`] gave.
    pub fn parse(text: &[u8]) -> Option<Self> {
        HEXLOWER.decode(text).ok()?.try_into().ok().map(Self)
    }

    fn key(&self) -> [u8; 32] {
        blake3::derive_key("keepshare ticket v1", &self.0)
    }
}

impl fmt::Debug for Ticket {
    /// Leaves the ticket out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// What a ticket is for.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) user: UserName,
    /// The state of the user's record that the password was checked against.
    pub(crate) mark: u64,
    pub(crate) set: SetName,
    pub(crate) binding: Binding,
    /// That it was shown from a port that any user of the client may have was told.
    pub(crate) port_told: bool,
    /// The hash of the secret that resumes the session.
    pub(crate) resume: [u8; 32],
    pub(crate) made: Stamp,
    pub(crate) session: Option<SessionId>,
    /// A drive was mounted with it.
    pub(crate) redeemed: bool,
}

/// Why a ticket was refused: for the audit log, never for whoever showed it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketRefusal {
    /// None that this station gave since it was started, or one altered.
    #[error("the ticket is not known")]
    Unknown,
    /// Taken before, and the drive was used since.
    #[error("the ticket was used before")]
    Used,
    /// Too old.
    #[error("the ticket expired")]
    Expired,
    /// Made for another address.
    #[error("the ticket is for {0} alone")]
    WrongAddress(IpAddr),
    /// Shown from a port that any user of the client may have.
    #[error("the ticket is for the client's kernel, and came from a port above 1023")]
    UserPort {
        /// It was not refused for that before.
        is_first: bool,
    },
    /// The user was removed, or the password was changed since.
    #[error("the user who logged in was changed or removed since")]
    UserChanged,
    /// It could not be looked at.
    #[error("the session cannot be stored")]
    Failed(#[source] crate::AccountError),
}

/// The tickets that can be used, and those that lately could.
#[derive(Debug, Default)]
pub(crate) struct Tickets(HashMap<[u8; 32], Pass>);

impl Tickets {
    /// Adds a ticket.
    pub(crate) fn add(&mut self, ticket: &Ticket, pass: Pass) {
        let of_user = self.0.values().filter(|other| other.user == pass.user).count();
        if of_user >= TICKETS_OF_A_USER_MAX {
            self.drop_oldest(|other| other.user == pass.user);
        }
        if self.0.len() >= TICKETS_MAX {
            self.drop_oldest(|_| true);
        }
        self.0.insert(ticket.key(), pass);
    }

    /// Returns what a ticket is for, if it may be used from this address now.
    pub(crate) fn find(
        &mut self,
        text: &[u8],
        peer: SocketAddr,
        now: Stamp,
    ) -> Result<&mut Pass, TicketRefusal> {
        let key = Ticket::parse(text).ok_or(TicketRefusal::Unknown)?.key();
        let pass = self.0.get_mut(&key).ok_or(TicketRefusal::Unknown)?;
        if pass.binding.address != peer.ip().to_canonical() {
            return Err(TicketRefusal::WrongAddress(pass.binding.address));
        }
        if !pass.binding.takes_port_of(peer) {
            let is_first = !std::mem::replace(&mut pass.port_told, true);
            return Err(TicketRefusal::UserPort { is_first });
        }
        let ttl_us = i64::from(TICKET_TTL_S) * 1_000_000;
        match (-CLOCK_SLACK_US..ttl_us).contains(&now.micros_since(pass.made)) {
            true => Ok(pass),
            false => Err(TicketRefusal::Expired),
        }
    }

    /// Drops all tickets of a user.
    pub(crate) fn drop_of(&mut self, user: &UserName) {
        self.0.retain(|_, pass| pass.user != *user);
    }

    fn drop_oldest(&mut self, which: impl Fn(&Pass) -> bool) {
        let those = self.0.iter().filter(|(_, pass)| which(pass));
        if let Some(oldest) = those.min_by_key(|(_, pass)| pass.made).map(|(key, _)| *key) {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(user: &str, made: i64) -> Pass {
        Pass {
            user: user.parse().unwrap(),
            mark: 1,
            set: "office".parse().unwrap(),
            binding: Binding {
                address: "10.0.0.1".parse().unwrap(),
                uid: Some(1000),
                any_port: false,
            },
            port_told: false,
            resume: [0; 32],
            made: Stamp(made),
            session: None,
            redeemed: false,
        }
    }

    #[test]
    fn tickets_are_bounded_in_all_and_for_each_user() {
        let mut tickets = Tickets::default();
        let peer = "10.0.0.1:700".parse().unwrap();
        let first = Ticket::new().unwrap();
        tickets.add(&first, pass("anna", 0));
        for n in 1..=16 {
            tickets.add(&Ticket::new().unwrap(), pass("anna", n));
        }
        assert_eq!(tickets.0.len(), TICKETS_OF_A_USER_MAX);
        let refused = tickets.find(first.reveal().as_bytes(), peer, Stamp(20)).unwrap_err();
        assert!(matches!(refused, TicketRefusal::Unknown), "the oldest made room");
        for n in 0..2000 {
            tickets.add(&Ticket::new().unwrap(), pass(&format!("u{n}"), 20 + n));
        }
        assert_eq!(tickets.0.len(), TICKETS_MAX);
    }

    #[test]
    fn one_ticket_has_one_text_that_is_never_shown_by_accident() {
        let ticket = Ticket::new().unwrap();
        let text = ticket.reveal();
        assert_eq!(text.len(), 32);
        assert_eq!(Ticket::parse(text.as_bytes()), Some(ticket.clone()));
        assert!(!format!("{ticket:?}").contains(&text[..8]));
        for wrong in [text.to_uppercase() + "g", text.clone() + "0", text[..31].to_owned()] {
            assert_eq!(Ticket::parse(wrong.as_bytes()), None);
        }
    }
}
