//! One connection: receive, answer, send.
//!
//! Calls are read where they were received, many at a time, and their answers sent together. Nothing is received while
//! answers wait to be sent, so a client that does not read them stops only itself.

use std::{
    io::{self, Read as _},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use keepshare_auth::Claim;
use keepshare_nfs_wire::{
    Decoder, mount, nfs3, portmap,
    record::{Framed, append_record, next_record},
    rpc::{BadCall, CallHead, Credential, Refusal, encode_accepted, encode_refused},
};

use crate::{
    Limits,
    buffers::{Answers, Buffers, Received},
    calls,
    context::{Asking, Door},
    limits::{RECORD_BYTES_MAX, STRANGER_RECORD_BYTES_MAX, TRANSFER_BYTES_MAX},
    registry::{Client, Seat},
};

/// After a call of this length it is looked whether the client is still there.
const SLOW_CALL: Duration = Duration::from_millis(20);

/// Serves a connection until it ends.
pub(crate) fn run(door: &Door, seat: &Seat) {
    let client = &seat.client;
    tracing::debug!(peer = %client.peer, "connected");
    let end = Connection::new(client, door.limits, &door.buffers).run(door);
    let calls = client.calls.load(Ordering::Relaxed);
    match end {
        Ok(()) => tracing::debug!(peer = %client.peer, calls, "disconnected"),
        Err(error) => tracing::debug!(peer = %client.peer, calls, %error, "connection closed"),
    }
}

struct Connection<'c> {
    client: &'c Arc<Client>,
    limits: Limits,
    received: Received,
    answers: Answers,
    timeout: Option<Duration>,
}

impl<'c> Connection<'c> {
    fn new(client: &'c Arc<Client>, limits: Limits, buffers: &Arc<Buffers>) -> Self {
        let received = Received::new(Arc::clone(buffers));
        let answers = Answers::new(Arc::clone(buffers));
        Self { client, limits, received, answers, timeout: None }
    }

    fn run(&mut self, door: &Door) -> io::Result<()> {
        loop {
            let record_max = match self.client.is_known() {
                true => RECORD_BYTES_MAX,
                false => STRANGER_RECORD_BYTES_MAX,
            };
            match next_record(self.received.waiting_mut(), record_max).map_err(io::Error::other)? {
                Framed::Whole { record, consumed } => {
                    let record = &self.received.waiting()[record];
                    let began = Instant::now();
                    let work = self.client.pulse.work();
                    answer(door, self.client, record, &mut self.answers)?;
                    self.client.done(work);
                    self.received.consume(consumed);
                    // What is slow is not done for nobody.
                    if began.elapsed() >= SLOW_CALL && self.client.has_left() {
                        return Ok(());
                    }
                    if self.answers.is_full() {
                        self.send()?;
                    }
                }
                Framed::Partial => {
                    self.send()?;
                    if !self.receive(record_max)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.answers.waiting().is_empty() {
            self.client.send(self.answers.waiting())?;
            self.answers.sent();
        }
        Ok(())
    }

    /// Waits for more bytes; tells whether any came.
    fn receive(&mut self, record_max: usize) -> io::Result<bool> {
        let began = Instant::now();
        loop {
            if self.received.since.is_some_and(|since| since.elapsed() >= self.limits.half_record) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = self.timeout();
            self.wait_at_most(timeout)?;
            match (&self.client.stream).read(self.received.room(record_max, self.client)?) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.received.add(len);
                    self.client.beat();
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => self.waited(began)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn timeout(&self) -> Duration {
        match self.received.since {
            Some(_) => self.limits.half_record,
            None => self.idle_max(),
        }
    }

    /// Ends the connection if nothing has come for too long.
    fn waited(&self, began: Instant) -> io::Result<()> {
        if self.received.since.is_none() && began.elapsed() >= self.idle_max() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn idle_max(&self) -> Duration {
        if self.client.is_known() { self.limits.idle } else { self.limits.stranger_idle }
    }

    fn wait_at_most(&mut self, timeout: Duration) -> io::Result<()> {
        if self.timeout != Some(timeout) {
            self.client.stream.set_read_timeout(Some(timeout))?;
            self.timeout = Some(timeout);
        }
        Ok(())
    }
}

/// Answers one record; fails where it is no call, as nothing after it can be trusted then.
fn answer(
    door: &Door,
    client: &Arc<Client>,
    record: &[u8],
    answers: &mut Answers,
) -> io::Result<()> {
    client.calls.fetch_add(1, Ordering::Relaxed);
    let mut decoder = Decoder::new(record);
    let head = match CallHead::decode(&mut decoder) {
        Ok(head) => head,
        Err(BadCall::NoCall) => return Err(io::Error::other("a record that is no call")),
        Err(BadCall::Refused(xid, refusal)) => {
            refuse(answers, xid, refusal);
            return Ok(());
        }
    };
    let claim = match &head.credential {
        Credential::None => None,
        Credential::Sys(sys) => Some(Claim { uid: sys.uid, gid: sys.gid, groups: sys.gids() }),
    };
    let now = (door.clock)();
    let asking = Asking { door, client, claim, now, transfer_max: TRANSFER_BYTES_MAX };
    if let Err(refusal) = dispatch(asking, head, decoder, answers) {
        refuse(answers, head.xid, refusal);
    }
    Ok(())
}

fn dispatch(
    asking: Asking<'_>,
    head: CallHead,
    decoder: Decoder<'_>,
    answers: &mut Answers,
) -> Result<(), Refusal> {
    let version_is = |version| match head.version == version {
        true => Ok(()),
        false => Err(Refusal::ProgramMismatch { low: version, high: version }),
    };
    let CallHead { xid, procedure, .. } = head;
    match head.program {
        nfs3::PROGRAM => {
            version_is(nfs3::VERSION)?;
            calls::answer(asking, xid, procedure, decoder, answers)
        }
        mount::PROGRAM => {
            version_is(mount::VERSION)?;
            crate::mount::answer(asking, xid, procedure, decoder, answers)
        }
        portmap::PROGRAM => {
            version_is(portmap::VERSION)?;
            answer_portmap(asking, xid, procedure, decoder, answers)
        }
        _ => Err(Refusal::ProgramUnavailable),
    }
}

fn answer_portmap(
    asking: Asking<'_>,
    xid: u32,
    procedure: u32,
    mut decoder: Decoder<'_>,
    answers: &mut Answers,
) -> Result<(), Refusal> {
    use portmap::{Mapping, Procedure, TCP};
    let procedure = Procedure::from_number(procedure).ok_or(Refusal::ProcedureUnavailable)?;
    let row = |program, version| Mapping {
        program,
        version,
        protocol: TCP,
        port: u32::from(asking.door.port),
    };
    let rows = [
        row(portmap::PROGRAM, portmap::VERSION),
        row(nfs3::PROGRAM, nfs3::VERSION),
        row(mount::PROGRAM, mount::VERSION),
    ];
    let asked = match procedure {
        Procedure::Port => Some(decoder.value::<Mapping>().map_err(|_| Refusal::GarbageArguments)?),
        Procedure::Null | Procedure::Dump => None,
    };
    append_record(answers.bytes(), |encoder| {
        encode_accepted(encoder, xid);
        match (procedure, asked) {
            (Procedure::Dump, _) => portmap::encode_mappings(encoder, &rows),
            (_, Some(asked)) => {
                // The version is not looked at: a client that asks for another is told which there are when it calls.
                let of_it =
                    |row: &&Mapping| row.program == asked.program && row.protocol == asked.protocol;
                encoder.u32(rows.iter().find(of_it).map_or(0, |row| row.port));
            }
            _ => {}
        }
    });
    Ok(())
}

fn refuse(answers: &mut Answers, xid: u32, refusal: Refusal) {
    append_record(answers.bytes(), |encoder| encode_refused(encoder, xid, refusal));
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
