//! Questions of admins about the past of sets that this station masters and others keep: passed on to one of those, as this
//! station.

use std::{sync::Arc, time::Duration};

use keepshare_base::{SetName, SetPath, StationName};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    answers::Restored,
    client::{Client, Dial, Dialling, Piece, Wire},
    question::Question,
    questions::{Export, Location},
};
use keepshare_replication::link::dial_control;

use keepshare_sets::master::{Master, Restoring};

use keepshare_station::membership::Peers;

/// How long another station may be silent in an answer: one that hangs must not hold whoever asks, and their turn, for ever.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A set that is mastered here and kept elsewhere, and a path in it.
pub(crate) struct Elsewhere {
    /// The stations.
    pub(crate) peers: Arc<Peers>,
    /// The set.
    pub(crate) set: SetName,
    /// What is asked about.
    pub(crate) path: SetPath,
    /// What masters it here, and knows who keeps it.
    pub(crate) master: Arc<Master>,
}

impl Elsewhere {
    /// Returns the same place as another station understands it.
    pub(crate) fn place(&self) -> Location {
        let names: Vec<Vec<u8>> =
            self.path.names().iter().map(|name| name.as_bytes().to_vec()).collect();
        Location::Set { set: self.set.clone(), path: names.join(&b'/') }
    }

    /// Has the first station that can be reached answer, and returns how many items there were. Blocks.
    pub(crate) fn ask<Q: Question>(&self, question: &Q, reply: &mut Reply) -> Outcome<usize> {
        let mut items = 0;
        self.each(question, |piece| match piece {
            Piece::Item(item) => {
                items += 1;
                reply.item(&item)
            }
            Piece::Data(bytes) => reply.data(&bytes),
            Piece::Progress(progress) => reply.progress(&progress),
        })?;
        Ok(items)
    }

    /// Has a version that another station gives out written in its place here, by the master itself. Blocks.
    pub(crate) fn restore(&self, when: &str, user: &str) -> Outcome<Restored> {
        let question = Export { place: self.place(), when: when.to_owned(), content: true };
        let not_understood = || {
            Failure::new(Code::Failed, "another station answered in a way that is not understood")
                .hint("nothing was changed; --to DIR restores elsewhere")
        };
        let mut restoring = None::<Restoring>;
        self.each(&question, |piece| match piece {
            Piece::Item(entry) if restoring.is_none() => {
                restoring = Some(self.master.restore(&self.path, entry, user)?);
                Ok(())
            }
            Piece::Data(bytes) => restoring.as_mut().ok_or_else(not_understood)?.take(&bytes),
            Piece::Progress(_) => Ok(()),
            Piece::Item(_) => Err(not_understood()),
        })?;
        restoring.ok_or_else(not_understood)?.finish()
    }

    /// Has the first station that can be reached answer, and gives every piece of the answer to `take`. Blocks.
    pub(crate) fn each<Q: Question>(
        &self,
        question: &Q,
        mut take: impl FnMut(Piece<Q::Item>) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut unreached = None;
        for to in self.master.to() {
            let peers = Arc::clone(&self.peers);
            let dial = ToStation { peers, name: to.clone(), patience: SILENCE_MAX };
            let mut answer = match Client::new(dial)?.ask(question) {
                Ok(answer) => answer,
                Err(failure) if failure.code == Code::Unavailable => {
                    unreached.get_or_insert(failure);
                    continue;
                }
                Err(failure) => return Err(told_by(to, failure)),
            };
            while let Some(piece) = answer.next_piece().map_err(|failure| told_by(to, failure))? {
                take(piece)?;
            }
            return Ok(());
        }
        let set = &self.set;
        Err(match unreached {
            Some(failure) => failure.context(format!("set {set} is kept by another station")),
            None => Failure::refused(format!("nobody keeps the versions of set {set}"))
                .hint("keepshare set show tells where a set goes"),
        })
    }
}

/// Says which station told of a failure: what it says of "this station" is meant of itself.
fn told_by(station: &StationName, mut failure: Failure) -> Failure {
    if let Some(first) = failure.chain.first_mut() {
        *first = format!("station {station}: {first}");
    }
    failure
}

/// Another station of the cluster, by the port of its links.
pub(crate) struct ToStation {
    /// The stations.
    pub(crate) peers: Arc<Peers>,
    /// Which of them.
    pub(crate) name: StationName,
    /// How long it may be silent.
    pub(crate) patience: Duration,
}

impl Dial for ToStation {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let name = &self.name;
            let address = self.peers.address_of(name).ok_or_else(|| {
                Failure::unavailable(format!("where station {name} is reached is not known"))
                    .hint("keepshare status lists the stations")
            })?;
            let config = self.peers.tls().control_client(name).map_err(anyhow::Error::new)?;
            let stream = dial_control(&String::from(address), config).await;
            let stream = stream.map_err(|error| {
                Failure::because(Code::Unavailable, error)
                    .context(format!("cannot reach station {name}"))
                    .hint(format!("keepshare status shows it; or ask on {name} itself"))
            })?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.patience)
    }

    fn host(&self) -> &str {
        self.name.as_str()
    }
}
