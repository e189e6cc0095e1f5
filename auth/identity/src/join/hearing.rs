//! Asking the primary what the cluster agrees on.
//!
//! The document itself is bytes here: who signed it and whether it holds is decided by whoever asked.

use std::sync::Arc;

use rustls::ClientConfig;

use keepshare_base::StationName;

use super::{
    JoinError,
    message::{Answer, Have, Question, decode, encode},
};
use crate::tls::StationTls;

/// A member that asks for the document.
#[derive(Debug)]
pub struct Hearing {
    tls: Arc<ClientConfig>,
    question: Vec<u8>,
}

impl Hearing {
    /// Prepares to ask for another revision than this one, of the station that is known to be the primary.
    pub fn new(
        have: Option<Have>,
        tls: &StationTls,
        primary: Option<&StationName>,
    ) -> Result<Self, JoinError> {
        Ok(Self { tls: tls.primary_client(primary)?, question: encode(&Question::Hear { have }) })
    }

    /// Returns the client's side of TLS.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Returns what to ask the primary.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// Takes the primary's answer, and returns the document where there is another one.
    pub fn complete(self, answer: &[u8]) -> Result<Option<Vec<u8>>, JoinError> {
        match decode(answer)? {
            Answer::News { document } => Ok(Some(document)),
            Answer::NoNews => Ok(None),
            Answer::Refused => Err(JoinError::Refused),
            Answer::Unavailable => Err(JoinError::Unavailable),
            Answer::Admitted { .. } | Answer::Moved { .. } | Answer::NameTaken | Answer::Full => {
                Err(JoinError::OtherAnswer)
            }
        }
    }
}
