//! An NFS client that does nothing but ask: one connection, many calls in flight.
//!
//! It writes the next calls together and takes the answers that have come together, and looks at them no closer than a
//! load needs: what is measured is the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use keepshare_nfs_wire::{
    Decoder, Encoder, Wire, mount,
    nfs3::{self, Failure, Procedure, Reply},
    record::{Framed, append_record, next_record},
    rpc::{AuthSys, CallHead, Credential, decode_reply},
};

/// How long a server may take for an answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The longest answer: a READ of 1 MiB, or a listing, with what goes around it.
const RECORD_BYTES_MAX: usize = (1 << 20) + 64 * 1024;

/// Several answers fit, so that the start of one is seldom moved to the front.
const RECEIVE_BYTES: usize = 4 * RECORD_BYTES_MAX;

/// What is asked again and again.
pub(crate) trait Load {
    /// Returns what is asked.
    fn procedure(&self) -> Procedure;
    /// Appends the arguments of the next call.
    fn ask(&mut self, encoder: &mut Encoder<'_>);
    /// Takes an answer's results and returns how much that was, in the load's unit.
    fn take(&mut self, results: &mut Decoder<'_>) -> Result<u64>;
}

/// What a load had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Had {
    pub(crate) units: u64,
    pub(crate) seconds: f64,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    credential: Credential,
    xid: u32,
    asked: Vec<u8>,
    received: Vec<u8>,
    start: usize,
    end: usize,
}

impl Client {
    /// Connects; every call claims to come from this user.
    pub(crate) fn connect(address: SocketAddr, uid: u32) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("nobody at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        let sys = AuthSys::new(uid, uid, &[]).context("no groups are not too many")?;
        let (credential, received) = (Credential::Sys(sys), vec![0; RECEIVE_BYTES]);
        Ok(Self { stream, credential, xid: 0, asked: Vec::new(), received, start: 0, end: 0 })
    }

    /// Returns the root of a path, as mounting does.
    pub(crate) fn mount(&mut self, path: &str) -> Result<Vec<u8>> {
        let procedure = mount::Procedure::Mount.number();
        self.append(mount::PROGRAM, mount::VERSION, procedure, |encoder| {
            encoder.opaque(path.as_bytes());
        });
        self.one(|results| match mount::decode_mounted(results)? {
            Ok(handle) => Ok(handle.as_bytes().to_vec()),
            Err(error) => bail!("cannot mount: {error:?}"),
        })
    }

    /// Asks once.
    pub(crate) fn call<T>(
        &mut self,
        procedure: Procedure,
        arguments: impl FnOnce(&mut Encoder<'_>),
        take: impl FnOnce(&mut Decoder<'_>) -> Result<T>,
    ) -> Result<T> {
        self.append(nfs3::PROGRAM, nfs3::VERSION, procedure.number(), arguments);
        self.one(take)
    }

    /// Asks for as long as this, with so many calls in flight, and waits for the last answer.
    pub(crate) fn run(
        &mut self,
        load: &mut dyn Load,
        in_flight: usize,
        time: Duration,
    ) -> Result<Had> {
        let (started, mut waiting, mut had) = (Instant::now(), 0, Had::default());
        loop {
            if started.elapsed() < time {
                while waiting < in_flight {
                    let procedure = load.procedure().number();
                    self.append(nfs3::PROGRAM, nfs3::VERSION, procedure, |e| load.ask(e));
                    waiting += 1;
                }
            }
            if waiting == 0 {
                had.seconds = started.elapsed().as_secs_f64();
                return Ok(had);
            }
            self.send()?;
            self.receive()?;
            while let Some(units) = self.answer(|results| load.take(results))? {
                had.units += units;
                waiting -= 1;
            }
        }
    }

    fn append(
        &mut self,
        program: u32,
        version: u32,
        procedure: u32,
        arguments: impl FnOnce(&mut Encoder<'_>),
    ) {
        self.xid = self.xid.wrapping_add(1);
        let (xid, credential) = (self.xid, self.credential);
        append_record(&mut self.asked, |encoder| {
            CallHead { xid, program, version, procedure, credential }.encode(encoder);
            arguments(encoder);
        });
    }

    fn one<T>(&mut self, take: impl FnOnce(&mut Decoder<'_>) -> Result<T>) -> Result<T> {
        self.send()?;
        let mut take = Some(take);
        loop {
            self.receive()?;
            let answer = self.answer(|results| {
                let take = take.take().context("one call had two answers")?;
                take(results)
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.asked)?;
        self.asked.clear();
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.received.len() - self.start < RECORD_BYTES_MAX + 4 {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.received[self.end..])? {
            0 => bail!("the server closed the connection"),
            len => self.end += len,
        }
        Ok(())
    }

    /// Takes one answer, if a whole one has come.
    fn answer<T>(&mut self, take: impl FnOnce(&mut Decoder<'_>) -> Result<T>) -> Result<Option<T>> {
        let waiting = &mut self.received[self.start..self.end];
        let Framed::Whole { record, consumed } = next_record(waiting, RECORD_BYTES_MAX)? else {
            return Ok(None);
        };
        let mut decoder = Decoder::new(&waiting[record]);
        let (_, outcome) = decode_reply(&mut decoder)?;
        outcome.map_err(|refusal| anyhow!("the call was refused: {refusal:?}"))?;
        let taken = take(&mut decoder)?;
        self.start += consumed;
        Ok(Some(taken))
    }
}

/// Reads the results of a procedure; what failed is an error.
pub(crate) fn results<'a, T: Wire<'a>, F: Wire<'a>>(decoder: &mut Decoder<'a>) -> Result<T> {
    let reply: Reply<T, F> = decoder.value()?;
    reply.map_err(|Failure { status, .. }| anyhow!("the server says {status:?}"))
}
