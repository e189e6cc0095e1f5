//! Attacks on the doors of a running station: its memory stays about what it was, and honest users are served all along.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use keepshare_control::login::LoginQuestion;
use keepshare_identity::tls::{SeenStation, web_client};
use keepshare_nfs_wire::{
    Decoder, Encoder, mount,
    nfs3::{self, Attributes, Call, DirOpArgs, Handle, LookupOk, ReadArgs, Reply},
    record::append_record,
    rpc::{CallHead, Credential, decode_reply},
};
use keepshare_support::{Demo, Scratch, process, tools};
use keepshare_web::client::probe;

/// How long each attack goes on, in seconds.
const SECONDS_ENV: &str = "KEEPSHARE_E2E_ATTACK_SECONDS";

/// By how much an attack may make the station grow, in MiB.
const GROWTH_MAX_MIB: u64 = 50;

/// How long an honest request may take on a machine that is busy with other things too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the user has the drive mounted.
const AT_HOME: [u8; 4] = [127, 0, 0, 1];

const PASSWORD_HEADER: &str = "Content-Type: application/json\r\n";

#[test]
fn attacks_take_no_memory_and_keep_nobody_out() -> Result<()> {
    let scratch = Scratch::new("attacks")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("big"), vec![7; 8 << 20])?;
    let demo = Demo::start(&scratch, Some(&source))?;
    // Before tickets of later logins take this one's place.
    let mut own = Drive::connect(&demo)?;
    let root = own.mount(demo.ready["mount_path"].as_str().context("the demo tells it")?)?;
    let file = own.lookup(&root, b"big")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let house = runtime.block_on(House::of(&demo))?;
    let for_seconds = Duration::from_secs(tools::param(SECONDS_ENV, 60));
    // What is taken once and kept is no growth: both buffers that passwords are hashed in.
    runtime.block_on(house.log_in_together(8))?;
    runtime.block_on(async {
        let attack = Attack::begin("guessing from everywhere", demo.id());
        house.guess_from_everywhere(for_seconds).await?;
        attack.end()?;
        let attack = Attack::begin("a valid user's questions", demo.id());
        house.ask_again_and_again(for_seconds).await?;
        attack.end()?;
        let attack = Attack::begin("silent connections", demo.id());
        house.say_nothing().await?;
        attack.end()
    })?;
    let attack = Attack::begin("reads that nobody takes", demo.id());
    read_and_take_nothing(&demo, (&root, &file), for_seconds)?;
    attack.end()
}

/// Looks at how much memory a process takes until it is over.
struct Attack {
    what: &'static str,
    before_mib: u64,
    most_mib: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    looking: thread::JoinHandle<()>,
}

impl Attack {
    fn begin(what: &'static str, pid: u32) -> Self {
        let resident_mib =
            move || process::usage(pid).map_or(0, |usage| usage.resident_bytes >> 20);
        let before_mib = resident_mib();
        let most_mib = Arc::new(AtomicU64::new(before_mib));
        let is_over = Arc::new(AtomicBool::new(false));
        let looking = {
            let (most_mib, is_over) = (most_mib.clone(), is_over.clone());
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    most_mib.fetch_max(resident_mib(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            })
        };
        Self { what, before_mib, most_mib, is_over, looking }
    }

    fn end(self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        ensure!(self.looking.join().is_ok(), "nobody looked");
        let (what, before) = (self.what, self.before_mib);
        let most = self.most_mib.load(Ordering::Relaxed);
        eprintln!("{what}: {before} MiB before, {most} MiB at most");
        ensure!(most <= before + GROWTH_MAX_MIB, "{what} took {} MiB", most - before);
        Ok(())
    }
}

/// The HTTPS door, and who may log in there.
#[derive(Clone)]
struct House {
    address: SocketAddr,
    station: SeenStation,
    user: String,
    password: String,
}

impl House {
    async fn of(demo: &Demo) -> Result<Self> {
        let text =
            |key: &str| demo.ready[key].as_str().map(str::to_owned).context("the demo tells it");
        let https = text("https")?;
        let address = https.strip_prefix("https://").context("https begins so")?;
        let station = probe(address).await?;
        let (user, password) = (text("user")?, text("password")?);
        Ok(Self { address: address.parse()?, station, user, password })
    }

    async fn connect(&self, from: [u8; 4]) -> Result<tokio::net::TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((from, 0)))?;
        Ok(socket.connect(self.address).await?)
    }

    async fn tls(&self, from: [u8; 4]) -> Result<TlsStream<tokio::net::TcpStream>> {
        let config = web_client(&self.station, &(Arc::new(DefaultTimeProvider) as _))?;
        let stream = self.connect(from).await?;
        Ok(TlsConnector::from(config).connect("any".try_into()?, stream).await?)
    }

    /// Posts a login and returns the status; fails where the connection does.
    async fn post_login(&self, from: [u8; 4], user: &str, password: &str) -> Result<u16> {
        let question = LoginQuestion {
            user: user.to_owned(),
            password: password.to_owned(),
            set: None,
            any_set: false,
            client_address: None,
            client_uid: None,
            shared: true,
            any_port: false,
        };
        let body = serde_json::to_string(&question)?;
        let request = format!(
            "POST /api/v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{PASSWORD_HEADER}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.tls(from).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        status(&answer)
    }

    /// Logs in as an honest user does: once more, where the station says that it is busy. Tells how long it took, and how
    /// often the station said so.
    async fn log_in(&self, from: [u8; 4]) -> Result<(Duration, usize)> {
        let (began, mut refused) = (Instant::now(), 0);
        loop {
            match timeout(PATIENCE, self.post_login(from, &self.user, &self.password)).await?? {
                200 => return Ok((began.elapsed(), refused)),
                503 if began.elapsed() < PATIENCE => refused += 1,
                status => bail!("a login was answered {status}"),
            }
        }
    }

    async fn log_in_together(&self, count: u8) -> Result<()> {
        let mut all = JoinSet::new();
        for n in 0..count {
            let house = self.clone();
            all.spawn(async move { house.log_in([127, 2, 0, n + 1]).await });
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Logs in where the user is at home, again and again, and from a network that nobody knows; the first is hardly ever
    /// told to come again, and both are served in the end.
    async fn honest_logins(&self, what: &str, during: Duration) -> Result<()> {
        let began = Instant::now();
        let (mut took, mut refused) = (Vec::new(), 0);
        while took.len() < 5 || began.elapsed() < during {
            let (elapsed, busy) = self.log_in(AT_HOME).await.with_context(|| what.to_owned())?;
            took.push(elapsed);
            refused += busy;
        }
        let (elapsed, busy) = self.log_in([127, 9, 9, 9]).await.with_context(|| what.to_owned())?;
        eprintln!(
            "{what}: told {refused} times to come again; elsewhere {busy} times, {elapsed:?}"
        );
        // On a machine that is busy with other things a hash may take as long as the station lets anybody wait.
        ensure!(refused * 10 <= took.len(), "{refused} refusals, {} logins", took.len());
        print_times(what, took);
        Ok(())
    }

    /// Names and passwords that nobody has, from thousands of addresses.
    async fn guess_from_everywhere(&self, during: Duration) -> Result<()> {
        let mut guessers = JoinSet::new();
        for guesser in 0..60_u8 {
            let house = self.clone();
            guessers.spawn(async move {
                for n in 0_u32.. {
                    let from = [127, 1, guesser + 1, u8::try_from(n % 250).unwrap_or(0) + 1];
                    let user = format!("user{guesser}-{n}");
                    let _ = house.post_login(from, &user, "wrong password").await;
                }
            });
        }
        self.honest_logins("logins while others guess", during).await
    }

    /// One user who may log in, and makes the station check the password without end.
    async fn ask_again_and_again(&self, during: Duration) -> Result<()> {
        let who = base64(&format!("{}:{}", self.user, self.password));
        let request = format!(
            "GET /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {who}\r\nConnection: close\r\n\r\n"
        );
        let mut askers = JoinSet::new();
        for _ in 0..12 {
            let (house, request) = (self.clone(), request.clone());
            askers.spawn(async move {
                loop {
                    let Ok(mut stream) = house.tls([127, 0, 0, 3]).await else { continue };
                    let _ = stream.write_all(request.as_bytes()).await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
        self.honest_logins("logins beside them", during).await
    }

    /// Connections that say nothing, or half a word, from many addresses and from the honest user's own.
    async fn say_nothing(&self) -> Result<()> {
        let mut held = Vec::new();
        for n in 0..400_u32 {
            let address = if n % 4 == 0 { [127, 0, 0, 1] } else { [127, 0, 5, (n % 20) as u8 + 1] };
            let mut stream = self.connect(address).await?;
            let half: &[u8] = if n % 2 == 0 { b"" } else { b"\x16\x03\x01\x02\x00\x01" };
            // It may have made room already.
            let _ = stream.write_all(half).await;
            held.push(stream);
        }
        self.honest_logins("logins beside the silent", Duration::ZERO).await
    }
}

fn status(answer: &[u8]) -> Result<u16> {
    let text = String::from_utf8_lossy(answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.context("the door closed without a word")
}

fn print_times(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let count = took.len();
    eprintln!("{what}: {count}, median {:?}, p99 {:?}", took[count / 2], took[count * 99 / 100]);
}

/// A connection to the drive.
struct Drive {
    stream: TcpStream,
    xid: u32,
}

impl Drive {
    fn connect(demo: &Demo) -> Result<Self> {
        let port = demo.ready["nfs_port"].as_u64().context("the demo has a drive")?;
        let stream = TcpStream::connect(("127.0.0.1", u16::try_from(port)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, xid: 0 })
    }

    fn record(&mut self, program: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.xid += 1;
        let (xid, credential) = (self.xid, Credential::None);
        let head = CallHead { xid, program, version: 3, procedure, credential };
        let mut record = Vec::new();
        append_record(&mut record, |encoder| {
            head.encode(encoder);
            encoder.array(args);
        });
        record
    }

    fn nfs_record(&mut self, call: Call<'_>) -> Vec<u8> {
        let mut args = Vec::new();
        let procedure = call.encode(&mut Encoder::new(&mut args)).number();
        self.record(nfs3::PROGRAM, procedure, &args)
    }

    fn ask(&mut self, record: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(record)?;
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let len = u32::from_be_bytes(mark) & 0x7fff_ffff;
        let mut answer = vec![0; usize::try_from(len)?];
        self.stream.read_exact(&mut answer)?;
        let mut decoder = Decoder::new(&answer);
        let (_, outcome) = decode_reply(&mut decoder)?;
        ensure!(outcome.is_ok(), "refused: {outcome:?}");
        Ok(decoder.rest().to_vec())
    }

    fn mount(&mut self, path: &str) -> Result<Vec<u8>> {
        let mut args = Vec::new();
        Encoder::new(&mut args).opaque(path.as_bytes());
        let record = self.record(mount::PROGRAM, 1, &args);
        let answer = self.ask(&record)?;
        let mounted = mount::decode_mounted(&mut Decoder::new(&answer))?;
        let root = mounted.map_err(|error| anyhow::anyhow!("not mounted: {error:?}"))?;
        Ok(root.as_bytes().to_vec())
    }

    fn lookup(&mut self, dir: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        let dir = Handle::new(dir).context("a handle")?;
        let record = self.nfs_record(Call::Lookup(DirOpArgs { dir, name }));
        let answer = self.ask(&record)?;
        let mut decoder = Decoder::new(&answer);
        let found: Reply<LookupOk<'_>, Option<Attributes>> = decoder.value()?;
        let found = found.map_err(|failure| anyhow::anyhow!("{:?}", failure.status))?;
        Ok(found.object.as_bytes().to_vec())
    }

    fn read_record(&mut self, file: &[u8], count: u32) -> Result<Vec<u8>> {
        let file = Handle::new(file).context("a handle")?;
        Ok(self.nfs_record(Call::Read(ReadArgs { file, offset: 0, count })))
    }
}

/// As many connections as there are places ask for as much as they can, and take none of it.
fn read_and_take_nothing(
    demo: &Demo,
    (root, file): (&[u8], &[u8]),
    during: Duration,
) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..255 {
        let mut drive = Drive::connect(demo)?;
        drive.stream.set_write_timeout(Some(Duration::from_millis(200)))?;
        let reads: Vec<_> = (0..8).map(|_| drive.read_record(file, 1 << 20)).collect();
        // It may have made room already.
        let _ = drive.stream.write_all(&reads.into_iter().collect::<Result<Vec<_>>>()?.concat());
        // And a half of the longest record.
        let _ = drive.stream.write_all(&[0x80, 0x10, 0, 0]);
        let _ = drive.stream.write_all(&[0; 300_000]);
        held.push(drive);
    }
    let began = Instant::now();
    let mut took = Vec::new();
    while took.len() < 50 || began.elapsed() < during {
        let began = Instant::now();
        // All come from one address, and who makes room among them is nobody's choice: like a kernel, it connects again.
        while let Err(error) = read_honestly(demo, root) {
            ensure!(error.is::<std::io::Error>() && began.elapsed() < PATIENCE, "{error:#}");
        }
        took.push(began.elapsed());
    }
    print_times("reads beside them", took);
    drop(held);
    Ok(())
}

/// Reads as a client does that means no harm.
fn read_honestly(demo: &Demo, root: &[u8]) -> Result<()> {
    let mut honest = Drive::connect(demo)?;
    let file = honest.lookup(root, b"big")?;
    let record = honest.read_record(&file, 4096)?;
    ensure!(honest.ask(&record)?.len() > 4096, "the bytes are there");
    let record = honest.read_record(&file, 1 << 20)?;
    ensure!(honest.ask(&record)?.len() >= 32 << 10, "a part at least");
    Ok(())
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    let group = |bytes: &[u8]| {
        let at = |n: usize| u32::from(bytes.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digits = [bits >> 18, bits >> 12, bits >> 6, bits].map(digit);
        let used = bytes.len() + 1;
        digits.into_iter().take(used).chain(std::iter::repeat_n('=', 4 - used)).collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}
