//! Joining a cluster and renewing a certificate: one question, one answer.
//!
//! The new station's half is an [`Applicant`], the primary's a [`JoinDesk`]. Both take and give bytes; carrying them over
//! TLS is the transport's work. The bytes are described in `docs/formats/link.md`.

mod hearing;
mod message;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{ClientConfig, time_provider::TimeProvider};

use keepshare_base::{Stamp, StationAddress, StationName};
use keepshare_gate::{Guesses, Rule, Source, source};

use self::message::{Answer, Question, decode, encode};
pub use self::{hearing::Hearing, message::Have};
use crate::{
    Admission, Application, CaPin, EnrolError, Enrolment, IdentityError, JoinToken, Member,
    MessageError, Peer, PendingIdentity, StationIdentity,
    tls::{self, StationTls},
};

/// Why a station did not get its certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The token, whatever is wrong with it; or too many wrong ones before it.
    #[error(
        "the primary refused: the token was used before, is too old or is not known there; after five wrong ones an \
         address has to wait a minute"
    )]
    Refused,
    /// The name.
    #[error("there is a station of this name in the cluster already")]
    NameTaken,
    /// The cluster is as large as it can be.
    #[error("the cluster takes no more stations")]
    Full,
    /// The other end is not able to let anyone in just now.
    #[error("the primary cannot let stations in just now; its log says why")]
    Unavailable,
    /// What the primary said.
    #[error("the primary's answer cannot be read")]
    Answer(#[from] MessageError),
    /// What the primary gave is not usable.
    #[error("the primary's answer is not usable")]
    Identity(#[from] IdentityError),
    /// The CA that came with the certificate is not the one that was asked.
    #[error("the primary's answer brings the CA of another cluster")]
    OtherCa,
    /// What the primary gave is for someone else.
    #[error("the primary gave a certificate for {0}")]
    OtherName(StationName),
    /// An answer to something else.
    #[error("the primary answered something else than it was asked")]
    OtherAnswer,
    /// TLS.
    #[error("cannot speak TLS")]
    Tls(#[from] rustls::Error),
}

/// What joining or renewing gave. Nothing of it is on the disk yet.
#[derive(Debug)]
pub struct JoinedIdentity {
    /// The station's key and certificate.
    pub identity: StationIdentity,
    /// All stations of the cluster.
    pub members: Vec<Member>,
}

/// A station that asks the primary for a certificate.
#[derive(Debug)]
pub struct Applicant {
    pending: PendingIdentity,
    tls: Arc<ClientConfig>,
    question: Vec<u8>,
    ca: CaPin,
    name: StationName,
}

impl Applicant {
    /// Prepares to join with a token, as the station `name` that will listen at `address`.
    pub fn join(
        token: &JoinToken,
        name: &StationName,
        address: &StationAddress,
        clock: &Arc<dyn TimeProvider>,
    ) -> Result<Self, JoinError> {
        let pending = PendingIdentity::generate()?;
        let question = encode(&Question::Join {
            secret: token.secret,
            name: name.clone(),
            address: address.clone(),
            request: pending.request()?,
        });
        let tls = tls::join_client(token.ca, clock)?;
        Ok(Self { pending, tls, question, ca: token.ca, name: name.clone() })
    }

    /// Prepares to ask for a member's next certificate, with a new key, of the station that is known to be the primary.
    pub fn renew(
        identity: &StationIdentity,
        tls: &StationTls,
        primary: Option<&StationName>,
    ) -> Result<Self, JoinError> {
        let pending = PendingIdentity::generate()?;
        let question = encode(&Question::Renew { request: pending.request()? });
        let tls = tls.primary_client(primary)?;
        Ok(Self { pending, tls, question, ca: identity.ca_pin(), name: identity.name().clone() })
    }

    /// Returns the client's side of TLS; its handshake fails before anything is said to a station that should not hear it.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Returns what to ask the primary.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// Takes the primary's answer.
    pub fn complete(self, answer: &[u8]) -> Result<JoinedIdentity, JoinError> {
        let (certificate, ca, members) = match decode(answer)? {
            Answer::Admitted { certificate, ca, members } => (certificate, ca, members),
            Answer::Refused => return Err(JoinError::Refused),
            Answer::NameTaken => return Err(JoinError::NameTaken),
            Answer::Full => return Err(JoinError::Full),
            Answer::Unavailable => return Err(JoinError::Unavailable),
            Answer::Moved { .. } | Answer::News { .. } | Answer::NoNews => {
                return Err(JoinError::OtherAnswer);
            }
        };
        // The TLS handshake showed the CA; the answer must not bring another one.
        if CaPin::of(&ca) != self.ca {
            return Err(JoinError::OtherCa);
        }
        let identity = self.pending.complete(&certificate, &ca)?;
        if *identity.name() != self.name {
            return Err(JoinError::OtherName(identity.name().clone()));
        }
        Ok(JoinedIdentity { identity, members })
    }
}

/// A station that tells the primary where it is reached from now on.
#[derive(Debug)]
pub struct Move {
    tls: Arc<ClientConfig>,
    question: Vec<u8>,
}

impl Move {
    /// Prepares to tell the station that is known to be the primary.
    pub fn new(
        address: &StationAddress,
        tls: &StationTls,
        primary: Option<&StationName>,
    ) -> Result<Self, JoinError> {
        let question = encode(&Question::Move { address: address.clone() });
        Ok(Self { tls: tls.primary_client(primary)?, question })
    }

    /// Returns the client's side of TLS.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Returns what to tell the primary.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// Takes the primary's answer, and returns all stations of the cluster.
    pub fn complete(self, answer: &[u8]) -> Result<Vec<Member>, JoinError> {
        match decode(answer)? {
            Answer::Moved { members } => Ok(members),
            Answer::Refused => Err(JoinError::Refused),
            Answer::Unavailable => Err(JoinError::Unavailable),
            Answer::Admitted { .. }
            | Answer::NameTaken
            | Answer::Full
            | Answer::News { .. }
            | Answer::NoNews => Err(JoinError::OtherAnswer),
        }
    }
}

/// What the desk decided.
#[derive(Debug)]
pub enum Decided {
    /// This station has a certificate.
    Admitted(Peer),
    /// This station is reached elsewhere.
    Moved(Peer),
    /// This station waits for another revision of the document than it has; [`JoinDesk::news`] makes the answer.
    Hears(Peer, Option<Have>),
}

enum Decision {
    Admitted(Admission),
    Moved(Peer, Vec<Member>),
    Hears(Peer, Option<Have>),
}

/// How often an address may show a wrong token. Nobody guesses 256 bits; this keeps those who try from the disk and the log.
const WRONG_TOKENS: Rule = Rule {
    free: 5,
    first_us: 12_000_000,
    double_each: 1,
    longest_us: 12_000_000,
    remembered: 1024,
};

/// The primary's desk for questions from the network.
#[derive(Debug)]
pub struct JoinDesk {
    enrolment: Arc<Enrolment>,
    guesses: Mutex<Guesses<Source>>,
}

impl JoinDesk {
    /// Opens the desk.
    pub fn new(enrolment: Arc<Enrolment>) -> Self {
        Self { enrolment, guesses: Mutex::new(Guesses::new(WRONG_TOKENS)) }
    }

    /// Decides a question, and returns the answer with what was done, or why not; waits for the disk.
    ///
    /// `certificate` is what the asking end showed and TLS verified. Every token that is not taken gets the same answer.
    pub fn answer(
        &self,
        now: Stamp,
        from: IpAddr,
        certificate: Option<&[u8]>,
        question: &[u8],
    ) -> (Vec<u8>, Result<Decided, EnrolError>) {
        let decided = self.decide(now, from, certificate, question);
        let answer = encode(&answer_to(&decided));
        let decided = decided.map(|decision| match decision {
            Decision::Admitted(admission) => Decided::Admitted(admission.peer),
            Decision::Moved(peer, _) => Decided::Moved(peer),
            Decision::Hears(peer, have) => Decided::Hears(peer, have),
        });
        (answer, decided)
    }

    /// Returns the answer to who waits for another revision of the document: the signed document, or that there is none.
    pub fn news(document: Option<&[u8]>) -> Vec<u8> {
        encode(
            &document
                .map_or(Answer::NoNews, |document| Answer::News { document: document.to_vec() }),
        )
    }

    /// Returns the answer to who asks for the document and is no member.
    pub fn refused() -> Vec<u8> {
        encode(&Answer::Refused)
    }

    /// Returns the answer of a station that lets nobody in, because it is not the primary.
    pub fn closed() -> Vec<u8> {
        encode(&Answer::Unavailable)
    }

    fn decide(
        &self,
        now: Stamp,
        from: IpAddr,
        certificate: Option<&[u8]>,
        question: &[u8],
    ) -> Result<Decision, EnrolError> {
        let shown = || {
            let peer = certificate.and_then(|shown| Peer::of(shown).ok());
            peer.ok_or(EnrolError::NoCertificate)
        };
        match decode(question)? {
            Question::Join { secret, name, address, request } => {
                // Not even looked at.
                if self.guesses().wait_us(now, &source(from)) > 0 {
                    return Err(EnrolError::Guesses(from));
                }
                let application = Application { secret, name, address, request };
                let admitted = self.enrolment.admit(now, &application);
                if matches!(admitted, Err(EnrolError::Token(_))) {
                    self.guesses().failed(now, source(from));
                }
                admitted.map(Decision::Admitted)
            }
            Question::Renew { request } => {
                self.enrolment.renew(now, &shown()?, &request).map(Decision::Admitted)
            }
            Question::Move { address } => {
                let peer = shown()?;
                let members = self.enrolment.moved(&peer, &address)?;
                Ok(Decision::Moved(peer, members))
            }
            Question::Hear { have } => Ok(Decision::Hears(shown()?, have)),
        }
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses<Source>> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer_to(decided: &Result<Decision, EnrolError>) -> Answer {
    match decided {
        Ok(Decision::Moved(_, members)) => Answer::Moved { members: members.clone() },
        Ok(Decision::Hears(..)) => Answer::NoNews,
        Ok(Decision::Admitted(Admission { certificate, ca, members, .. })) => Answer::Admitted {
            certificate: certificate.clone(),
            ca: ca.clone(),
            members: members.clone(),
        },
        // Whoever hears one of these two has shown a token that is good.
        Err(EnrolError::NameTaken(_) | EnrolError::Primary(_)) => Answer::NameTaken,
        Err(EnrolError::Full) => Answer::Full,
        Err(EnrolError::Tokens(_) | EnrolError::Database(_) | EnrolError::Row(_)) => {
            Answer::Unavailable
        }
        Err(_) => Answer::Refused,
    }
}
