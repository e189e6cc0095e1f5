//! The way in for other stations: links, questions and joins.
//!
//! A certificate of the cluster lets a station in; which sets it may bring is decided here, before anything else is
//! read from it: those of which the cluster's document says so.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::time::timeout;

use keepshare_base::{OriginId, Role, SetName, StationName};
use keepshare_control::{Lasts, caller::Caller, router};
use keepshare_gate::{SharedTurns, TurnShares};
use keepshare_host::clock;
use keepshare_identity::{Decided, JoinDesk, Peer};
use keepshare_proto::{Frame, Message, Refusal, Text};
use keepshare_replication::{
    drivers::pump::Pump,
    link::{Accepted, Credentials, Listener, join::PendingJoin},
};
use keepshare_sets::{
    parts::Running,
    record::{SetPart, SetRecord},
    replica::Replica,
};

use crate::{membership::Held, station::Station};

/// How long a link that brings a set which the document does not know waits for the revision that does.
const NEWS_TIMEOUT: Duration = Duration::from_secs(5);

/// Over how many connections other stations ask at once, and over how many one of them does.
const ASKING_MAX: (usize, usize) = (32, 8);

/// How long such a connection lives: long enough for a large folder over a slow line.
const ASKING_TIMEOUT: Duration = Duration::from_secs(86_400);

/// How long a new link may take to say which set it brings.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes stations in for ever.
pub(crate) async fn serve(station: &Arc<Station>, mut listener: Listener, questions: Router) {
    let asking = SharedTurns::new(TurnShares::without_waiting(ASKING_MAX.0, ASKING_MAX.1));
    loop {
        let accepted = listener.accept().await;
        let station = Arc::clone(station);
        match accepted {
            Accepted::Link(link) => {
                tokio::spawn(async move { greet(&station, Pump::start(link)).await });
            }
            Accepted::Control(stream, peer, shown) => match asking.take(peer.to_string()) {
                Some(turn) => {
                    let talk = {
                        let peers = Arc::clone(&station.membership.peers);
                        // A certificate that is revoked meanwhile is told nothing more.
                        let lasts: Lasts = Arc::new(move || peers.still_counts(&shown));
                        let caller = Caller::Member(peer);
                        router::converse(stream, questions.clone(), caller, Some(lasts))
                    };
                    tokio::spawn(async move {
                        if let Ok(Err(error)) = timeout(ASKING_TIMEOUT, talk).await {
                            tracing::debug!(%error, "a station that asked went away");
                        }
                        drop(turn);
                    });
                }
                None => tracing::warn!(%peer, "a station asks too much at once"),
            },
            Accepted::Join(pending) => {
                tokio::spawn(async move { answer_join(&station, pending).await });
            }
        }
    }
}

/// Decides whether a station joins, or gets its next certificate.
async fn answer_join(station: &Arc<Station>, pending: PendingJoin) {
    let (from, shown, question) =
        (pending.from, pending.certificate.clone(), pending.question.clone());
    let asked = Arc::clone(station);
    // Signing takes a moment and the database waits for the disk.
    let answered = tokio::task::spawn_blocking(move || {
        let desk = asked.membership.desk.as_ref()?;
        let shown = shown.as_ref().map(|certificate| certificate.as_ref());
        let answered = desk.answer(clock::now(), from.ip(), shown, &question);
        if let Ok(Decided::Admitted(_) | Decided::Moved(_)) = &answered.1 {
            // What fails is told by the station; who asked has its answer all the same.
            let _ = asked.membership.publish_register();
        }
        Some(answered)
    });
    let answer = match answered.await {
        Ok(Some((answer, Ok(Decided::Admitted(peer))))) => {
            station.membership.hearers.note(&peer.name, Instant::now());
            tracing::info!(peer = %peer.name, %from, "a station has a certificate");
            answer
        }
        Ok(Some((answer, Ok(Decided::Moved(peer))))) => {
            tracing::info!(peer = %peer.name, %from, "a station is reached elsewhere");
            answer
        }
        Ok(Some((_, Ok(Decided::Hears(peer, have))))) => {
            match station
                .membership
                .hearers
                .answer(&station.membership.agreed, &peer.name, have)
                .await
            {
                Some(answer) => answer,
                None => return,
            }
        }
        Ok(Some((answer, Err(error)))) => {
            tracing::warn!(%from, %error, "a station was not let in");
            answer
        }
        Ok(None) => JoinDesk::closed(),
        Err(error) => return tracing::error!(%error, "answering a station failed"),
    };
    if let Err(error) = pending.answer(&answer).await {
        tracing::warn!(%from, %error, "a station did not take its answer");
    }
}

/// Hears which set a link brings, and hands it to that set.
async fn greet(station: &Arc<Station>, mut pump: Pump) {
    let peer = pump.peer.clone();
    let hello = match timeout(HELLO_TIMEOUT, pump.recv()).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => {
            pump.tell_why(&error);
            return tracing::warn!(%peer, %error, "a link said nothing of use");
        }
        Err(_) => return tracing::debug!(%peer, "a link did not say which set it brings"),
    };
    let Message::Hello(greeting) = &hello.message else {
        return refuse(&pump, Refusal::Order, "the first message must be a hello");
    };
    match find_set(station, &pump, &greeting.set, greeting.origin).await {
        Ok(replica) => replica.take_link(pump, hello).await,
        Err(reason) => {
            tracing::warn!(%peer, set = %greeting.set, reason, "a link was refused");
            refuse(&pump, Refusal::Unknown, &reason);
        }
    }
}

/// Returns the set that a peer may bring.
async fn find_set(
    station: &Arc<Station>,
    pump: &Pump,
    name: &SetName,
    origin: OriginId,
) -> Result<Arc<Replica>, String> {
    let peer = &pump.peer;
    let running = match is_agreed(station, peer, name, origin).await? {
        true if station.running(name).is_none() => {
            // The revision that names it came a moment ago.
            let following = Arc::clone(station);
            let followed = tokio::task::spawn_blocking(move || following.follow()).await;
            followed.map_err(|error| error.to_string())?.map_err(|failure| failure.to_string())?;
            station.running(name).ok_or_else(|| format!("set {name} is not open yet"))?
        }
        true => station.running(name).ok_or_else(|| format!("set {name} is not open yet"))?,
        false => find_unagreed(station, pump, name, origin).await?,
    };
    match (running.copy(), running.failures().next()) {
        // What is in place takes its changes from the folder beside it, and from no link that comes in here.
        (Some(copy), _) if copy.is_in_place() => Err(format!("set {name} has its master here")),
        (Some(copy), _) if copy.from() == peer => Ok(Arc::clone(copy)),
        (Some(_), _) => Err(format!("set {name} comes from another station")),
        (None, Some(failure)) => Err(format!("set {name} cannot be opened: {failure}")),
        (None, None) => Err(format!("set {name} has its master here")),
    }
}

/// Tells whether the cluster agrees that a peer brings a set here; it does not while there is no document. Whoever is told of a new
/// set before this station is waits a moment.
async fn is_agreed(
    station: &Arc<Station>,
    peer: &StationName,
    name: &SetName,
    origin: OriginId,
) -> Result<bool, String> {
    let here = &station.config.name;
    let judge = |held: &Held| {
        let set = held.document.set(name);
        let set = set.ok_or_else(|| format!("the cluster knows of no set {name}"))?;
        let slot = set.slot_between(peer, here).map_err(|error| error.to_string())?;
        if slot.origin == origin {
            Ok(())
        } else {
            Err(format!("{peer} has slot {} of set {name}, and not {origin}", slot.origin))
        }
    };
    let mut held = station.membership.agreed.watch();
    let is_settled =
        |held: &Option<Arc<Held>>| held.as_ref().is_none_or(|held| judge(held).is_ok());
    // In time or not, it is judged as it is then.
    let _ = timeout(NEWS_TIMEOUT, held.wait_for(is_settled)).await;
    match station.membership.agreed.held() {
        Some(held) => judge(&held).map(|()| true),
        None => Ok(false),
    }
}

/// Returns a set while there is no document: the sets that a peer has brought before, and new ones from the primary.
async fn find_unagreed(
    station: &Arc<Station>,
    pump: &Pump,
    name: &SetName,
    origin: OriginId,
) -> Result<Running, String> {
    let peer = &pump.peer;
    let certified = pump.certificate.as_ref().and_then(|shown| Peer::of(shown).ok());
    let is_primary = certified.is_some_and(|peer| peer.role == Role::Primary);
    match station.running(name) {
        Some(running) => Ok(running),
        None if is_primary && origin != OriginId::SET => {
            let record = SetRecord::new(name.clone(), SetPart::received(origin, peer.clone()));
            tracing::info!(set = %name, %peer, "a new set");
            let station = Arc::clone(station);
            let added = tokio::task::spawn_blocking(move || station.add_set(record)).await;
            added.map_err(|error| error.to_string())?.map_err(|failure| failure.to_string())
        }
        None => Err(format!("there is no set {name} here, and only the primary adds one")),
    }
}

fn refuse(pump: &Pump, refusal: Refusal, reason: &str) {
    let message = Message::Refused { refusal, reason: Text::new(reason) };
    pump.send(Frame::from(message));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::station::tests::station;

    /// What is kept in place is what the folder beside it was: nobody writes into its past over the network, not even under this
    /// station's own name.
    #[tokio::test]
    async fn a_set_that_is_kept_in_place_is_brought_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        let station = station(dir.path()).await;
        let here = station.config.name.clone();
        station.add_source("shared".parse().unwrap(), source, Vec::new()).unwrap();
        let (pump, _far) = Pump::pair(&here);
        let found = find_set(&station, &pump, &"shared".parse().unwrap(), OriginId(1)).await;
        assert_eq!(found.err().as_deref(), Some("set shared has its master here"));
        let found = find_set(&station, &pump, &"new".parse().unwrap(), OriginId(1)).await;
        assert!(found.is_err(), "without a certificate nobody adds a set");
    }
}
