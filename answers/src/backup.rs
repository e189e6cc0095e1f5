//! What a station gives out of itself for a backup: to root and to its own user alone, as its keys are among it.

use keepshare_auth::{AuditEvent, AuditLine};
use keepshare_control::{
    Failure, Outcome, Reply,
    backup::{BackedFile, BackedUp},
    caller::Caller,
    questions::StationBackup,
    router::Answers,
};
use keepshare_host::clock;

use super::{StationAnswers, audit::by};

/// How much content is sent at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Answers<StationBackup> for StationAnswers {
    fn answer(&self, caller: &Caller, _: StationBackup, reply: &mut Reply) -> Outcome<()> {
        let station = self.first()?;
        let audit = station.accounts.audit();
        if !is_owner(caller) {
            let failure =
                Failure::refused("the station's keys are given to root and to its own user alone")
                    .hint("type it as root");
            let line =
                AuditLine::refused(clock::now(), AuditEvent::StationBackup, failure.one_line());
            audit.write(by(caller, line));
            return Err(failure);
        }
        // Said first: it is in the backup, too.
        audit.write(by(caller, AuditLine::done(clock::now(), AuditEvent::StationBackup)));
        reply.item(&BackedUp::Station(station.backup_of()))?;
        let mut files = 0;
        station.back_up(|path, content| {
            files += 1;
            let (path, bytes) = (path.to_owned(), content.len() as u64);
            reply.item(&BackedUp::File(BackedFile { path, bytes }))?;
            content.chunks(PIECE_BYTES).try_for_each(|piece| reply.data(piece))
        })?;
        reply.item(&BackedUp::End(files))
    }

    fn turned_away(&self, caller: &Caller, why: &Failure) {
        self.audit_turned_away(AuditEvent::StationBackup, caller, why);
    }
}

fn is_owner(caller: &Caller) -> bool {
    let own = rustix::process::geteuid().as_raw();
    matches!(caller, Caller::Admin { uid } if *uid == 0 || *uid == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is in the group of admins may ask on the socket, and must not get the keys.
    #[test]
    fn keys_are_for_root_and_the_station_s_own_user() {
        let own = rustix::process::geteuid().as_raw();
        assert!(is_owner(&Caller::Admin { uid: 0 }));
        assert!(is_owner(&Caller::Admin { uid: own }));
        assert!(!is_owner(&Caller::Admin { uid: own + 1 }));
        assert!(!is_owner(&Caller::Member("store".parse().unwrap())));
    }
}
