//! What the cluster agrees on, as this station holds it: the document, what of it is not done yet, and what was refused.
//!
//! The primary alone writes revisions: it judges, signs and stores them. Every other station verifies the signature, judges and
//! stores. Only then does a revision hold. What holds is acted on by whoever watches it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tokio::sync::watch;

use keepshare_base::{Role, SetName, Stamp, StationName, chain, health::StationProblem};
use keepshare_cluster::{Document, DocumentHash, Pending, SignedDocument, Step, judge};
use keepshare_cluster_local::{DOCUMENT_FILE, LocalStore, StoreError};
use keepshare_control::{Failure, Outcome};
use keepshare_identity::{ClusterCa, Have, StationIdentity};

use crate::state::StateDir;

/// What the cluster agrees on, as this station holds it.
#[derive(Debug)]
pub(crate) struct Agreed {
    store: LocalStore,
    here: StationName,
    held: watch::Sender<Option<Arc<Held>>>,
    /// One revision takes the place of another at a time.
    taking: Mutex<()>,
    pending: Mutex<Vec<Pending>>,
    /// Why what the primary gave is not taken.
    refused: Mutex<Option<String>>,
    /// On the primary: why a revision that is due cannot be written.
    unwritten: Mutex<Option<String>>,
    /// On the primary: who holds what was never written here, and which revision.
    ahead: Mutex<BTreeMap<StationName, String>>,
}

/// The revision that holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// What it says.
    pub(crate) document: Document,
    /// Its bytes with their signatures.
    pub(crate) signed: Vec<u8>,
    hash: DocumentHash,
}

impl Held {
    fn new(signed: SignedDocument) -> Arc<Self> {
        let bytes = signed.encode();
        let document = signed.into_unverified();
        let hash = document.hash();
        Arc::new(Self { document, signed: bytes, hash })
    }

    /// Returns which revision it is, as the primary is told.
    pub(crate) fn have(&self) -> Have {
        let revision = self.document.revision;
        Have { reign: revision.reign, number: revision.number, hash: self.hash.0 }
    }
}

/// Why a revision that was given does not hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// It cannot be read.
    #[error(transparent)]
    Bytes(#[from] keepshare_cluster::SignedError),
    /// The cluster's CA did not sign it.
    #[error("the document is not signed by the cluster")]
    Unsigned,
    /// It is older, of another history, or breaks a rule.
    #[error(transparent)]
    Refused(#[from] keepshare_cluster::Refusal),
    /// The disk.
    #[error("the document cannot be kept")]
    Store(#[from] StoreError),
}

impl Agreed {
    /// Opens what this station holds. Damage is told: what a station does is not guessed.
    pub(crate) fn open(state: &StateDir, identity: &StationIdentity) -> Outcome<Self> {
        let store = LocalStore::new(state.root());
        let unusable = |error: anyhow::Error| {
            let file = state.root().join(DOCUMENT_FILE);
            Failure::from(error.context("what the cluster agrees on is not usable")).hint(format!(
                "take {} from another station of the cluster or from a backup (docs/operations/cluster-document.md)",
                file.display()
            ))
        };
        let held = store.get().map_err(|error| unusable(error.into()))?;
        if let Some(signed) = &held {
            verify(signed, identity).map_err(|error| unusable(error.into()))?;
            let judged = judge(identity.cluster(), None, signed.unverified());
            judged.map_err(|error| unusable(error.into()))?;
        }
        let pending = store.pending().map_err(|error| unusable(error.into()))?;
        Ok(Self {
            store,
            here: identity.name().clone(),
            held: watch::channel(held.map(Held::new)).0,
            taking: Mutex::default(),
            pending: Mutex::new(pending),
            refused: Mutex::default(),
            unwritten: Mutex::default(),
            ahead: Mutex::default(),
        })
    }

    /// Returns the revision that holds; none before the first.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.borrow().clone()
    }

    /// Returns a watch of the revision that holds.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Held>>> {
        self.held.subscribe()
    }

    /// Returns what this station is, where a document says so.
    pub(crate) fn role(&self) -> Option<Role> {
        let held = self.held()?;
        // Whom the document does not know may do nothing that a primary may.
        Some(held.document.member(&self.here).map_or(Role::Replica, |member| member.role))
    }

    /// Tells whether a station belongs to the cluster, as far as that is known.
    pub(crate) fn is_member(&self, station: &StationName) -> bool {
        self.held().is_none_or(|held| held.document.member(station).is_some())
    }

    /// Tells whether a set goes from here to that station, as far as that is known.
    pub(crate) fn sends(&self, set: &SetName, to: &StationName) -> bool {
        self.held().is_none_or(|held| held.document.set(set).is_some_and(|set| set.is_kept_by(to)))
    }

    /// Takes a revision that somebody gave; when this returns, it is durable and holds.
    pub(crate) fn take(&self, bytes: &[u8], identity: &StationIdentity) -> Result<Step, TakeError> {
        let _taking = lock(&self.taking);
        let taken = self.take_unlocked(bytes, identity);
        *lock(&self.refused) = match &taken {
            Err(error) => Some(chain(error)),
            Ok(_) => None,
        };
        taken
    }

    fn take_unlocked(&self, bytes: &[u8], identity: &StationIdentity) -> Result<Step, TakeError> {
        let signed = SignedDocument::decode(bytes)?;
        verify(&signed, identity)?;
        let held = self.held();
        let old = held.as_ref().map(|held| &held.document);
        let step = judge(identity.cluster(), old, signed.unverified())?;
        if step != Step::Known {
            self.hold(old, signed)?;
        }
        Ok(step)
    }

    /// Writes the next revision, where `change` makes it say something else than the one that holds. Returns whether there is
    /// one; it is durable and holds then.
    pub(crate) fn publish(
        &self,
        ca: &ClusterCa,
        now: Stamp,
        change: impl FnOnce(&mut Document) -> Outcome<()>,
    ) -> Outcome<bool> {
        let _taking = lock(&self.taking);
        let held = self.held();
        let old = held.as_ref().map(|held| &held.document);
        let mut next = old.map_or_else(|| Document::first(ca.cluster(), now), |old| old.next(now));
        change(&mut next)?;
        if old.is_some_and(|old| next.says_what(old)) {
            return Ok(false);
        }
        judge(ca.cluster(), old, &next).context("this is nothing that the cluster can agree on")?;
        let signature = ca.sign_message(&SignedDocument::to_sign(&next));
        let signature = signature.context("cannot sign the cluster's document")?;
        self.hold(old, SignedDocument::new(next, signature))
            .context("cannot keep the cluster's document")?;
        Ok(true)
    }

    fn hold(&self, old: Option<&Document>, new: SignedDocument) -> Result<(), StoreError> {
        // First, as it is what must not be forgotten: told twice it is told once.
        let known = lock(&self.pending).clone();
        let pending = Pending::after(&known, old, new.unverified(), &self.here);
        if pending != known {
            self.store.set_pending(&pending)?;
        }
        self.store.replace(old.map(|old| old.revision), &new)?;
        *lock(&self.pending) = pending;
        let held = Held::new(new);
        tracing::info!(revision = %held.document.revision, "the cluster's document");
        self.held.send_replace(Some(held));
        Ok(())
    }

    /// Counts time that this station ran, for what is kept for a day more.
    pub(crate) fn ran(&self, seconds: u64) -> Result<(), StoreError> {
        let mut pending = lock(&self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        pending.iter_mut().for_each(|pending| pending.ran(seconds));
        self.store.set_pending(&pending)
    }

    /// Says why what the primary gave is not taken, or that all is well again.
    pub(crate) fn set_refused(&self, why: Option<String>) {
        *lock(&self.refused) = why;
    }

    /// Says why a revision that is due cannot be written, or that all is well again.
    pub(crate) fn set_unwritten(&self, why: Option<String>) {
        *lock(&self.unwritten) = why;
    }

    /// Notes, on the primary, what a station says that it has: something that was never written here, or not.
    pub(crate) fn hear_of(&self, station: &StationName, have: Option<Have>) {
        let held = self.held();
        let is_ahead = |have: &Have| {
            let revision = |held: &Arc<Held>| held.document.revision;
            let own = held.as_ref().map(revision).map(|own| (own.reign, own.number));
            let known = held.as_ref().is_some_and(|held| held.hash.0 == have.hash);
            !known && Some((have.reign, have.number)) >= own
        };
        match have.filter(is_ahead) {
            Some(have) => lock(&self.ahead).insert(station.clone(), have.number.to_string()),
            None => lock(&self.ahead).remove(station),
        };
    }

    /// Returns what a person must look at.
    pub(crate) fn problems(&self) -> Vec<StationProblem> {
        let refused = lock(&self.refused).clone().map(StationProblem::DocumentRefused);
        let unwritten = lock(&self.unwritten).clone().map(StationProblem::DocumentUnwritten);
        let number = self.held().map(|held| held.document.revision.to_string());
        let ahead = lock(&self.ahead).clone().into_iter();
        let ahead = ahead.map(|(station, revision)| StationProblem::DocumentLost {
            station,
            revision,
            own: number.clone().unwrap_or_default(),
        });
        let pending = lock(&self.pending).clone().into_iter();
        let pending = pending.map(|pending| StationProblem::KeptLess {
            left_s: pending.left_s(),
            set: pending.name,
        });
        refused.into_iter().chain(unwritten).chain(ahead).chain(pending).collect()
    }
}

/// Checks that the cluster's CA signed a revision.
fn verify(signed: &SignedDocument, identity: &StationIdentity) -> Result<(), TakeError> {
    let message = SignedDocument::to_sign(signed.unverified());
    let signature = signed.of_ca().ok_or(TakeError::Unsigned)?;
    identity.verify_of_ca(&message, signature).map_err(|_| TakeError::Unsigned)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
