//! A master that was taken over: it has a certificate that every station accepts, and means harm.
//!
//! Whatever it sends, the station keeps what it has, leaves its own folder alone, stays small and goes on serving.

use std::{collections::BTreeSet, fs, future::Future, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use keepshare_base::{
    Change, Content, ContentHash, Epoch, Event, Extent, FileId, FileRow, FileTime, Kind, Meta,
    Name, NameRow, OriginId, Owner, Position, RunningHash, Seq, Stamp,
};
use keepshare_control::questions;
use keepshare_identity::{Revocations, StationIdentity, tls::StationTls};
use keepshare_proto::{
    Frame, Hello, Message, SetSettings, Step, Welcome,
    codec::{Decoder, encode},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustls::{
    pki_types::ServerName,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use keepshare_e2e::{SOON, contents};
use keepshare_support::{
    Aspects, Cluster, Scratch, Station, Wiring, cluster::SET, in_scratch, tools,
};

/// How much a station may grow under attack, in bytes.
const GROWTH_MAX: u64 = 50 << 20;

/// What a connection is answered with once the certificate was taken.
const READY_BYTES: usize = 9;

/// The bytes that stand for a hostile name until the frame is encoded.
const MARK: u8 = 0xf7;

/// Every promise about hostile masters, on one station that has something to lose.
#[test]
fn a_master_that_means_harm_changes_nothing() -> Result<()> {
    in_scratch("hostile", mean_harm)
}

fn mean_harm(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("kept"), "first")?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    fs::write(source.join("kept"), "second")?;
    cluster.equal_within(SOON, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;

    let before = contents(&cluster.store, "kept")?;
    ensure!(before.len() >= 2, "there is a history to lose: {before:?}");
    let outside = outside_of(scratch, &cluster)?;
    let attacker = Attacker::new(&cluster)?;
    let resident = cluster.store.usage()?.resident_bytes;

    attacker.attack()?;

    let grown = cluster.store.usage()?.resident_bytes.saturating_sub(resident);
    ensure!(grown < GROWTH_MAX, "the station grew by {grown} bytes");
    ensure!(contents(&cluster.store, "kept")? == before, "the history is another");
    ensure!(outside_of(scratch, &cluster)? == outside, "something came to be outside");
    let live = cluster.live()?;
    let names: Vec<_> =
        fs::read_dir(&live)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(names == ["kept"], "the live tree holds {names:?}");

    // And the true master goes on where it was.
    cluster.office.start()?;
    fs::write(source.join("kept"), "third")?;
    cluster.equal_within(SOON, Aspects::ours())?;
    ensure!(contents(&cluster.store, "kept")?[0] == "third");
    Ok(())
}

/// Who may order is not who may send: a station's certificate asks, and nothing that it asks changes anything.
#[test]
fn no_question_of_a_station_that_joined_changes_anything() -> Result<()> {
    let scratch = Scratch::new("questions")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("kept"), "first")?;
    let cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    let password = "correct horse battery\n";
    let add = ["user", "add", "anna", "--uid", "1000", "--gid", "1000", "--password-stdin"];
    cluster.office.call_with_input(add, password)?.ok()?;
    cluster.in_sync_within(SOON)?;
    // Of the primary, which has users, tokens and the document, and of who keeps the set that the other one masters.
    for (asking, asked, may_read) in
        [(&cluster.store, &cluster.office, false), (&cluster.office, &cluster.store, true)]
    {
        let member = Attacker::between(asking, asked)?;
        let before = everything_of(asked)?;
        for question in questions::ALL {
            let bodies = question_bodies(question.name);
            ensure!(!bodies.is_empty(), "there is no example of the question {}", question.name);
            for body in bodies {
                let (status, answer) =
                    member.runtime.block_on(member.question(asked.name(), question.name, &body))?;
                let told = format!("{} of {}: {status} {answer}", question.name, asking.name());
                let is_for_members = question.callers.word().contains("members");
                ensure!((status == 403) != is_for_members, "{told}");
                ensure!(status != 200 || !question.changes, "{told}");
                let is_of_set =
                    matches!(question.name, "versions" | "show" | "export" | "point-list");
                ensure!(!is_of_set || (status == 200) == may_read, "{told}");
            }
        }
        let after = everything_of(asked)?;
        ensure!(before == after, "it was\n{before:#}\nand is\n{after:#}");
    }
    Ok(())
}

/// Examples of a question that would do something, had an admin asked.
fn question_bodies(name: &str) -> Vec<Value> {
    let place = json!({ "set": { "set": SET, "path": b"kept" } });
    let user = json!({
        "name": "eve", "uid": 0, "gid": 0, "groups": [], "may_write": true, "sets": null,
    });
    match name {
        "status" | "zone" | "token-create" | "token-list" | "user-list" | "session-list" => {
            vec![json!({})]
        }
        "versions" => vec![json!({ "place": place, "limit": 9 })],
        "show" | "export" | "restore" => vec![json!({ "place": place, "when": "latest" })],
        "find" => vec![json!({ "pattern": "*", "limit": 9 })],
        "passwd" => vec![json!({ "old": "correct horse battery", "new": "another horse battery" })],
        "fsck" => vec![json!({}), json!({ "set": SET, "repair_clock": true })],
        "scrub-status" => vec![json!({})],
        "scrub-now" | "scrub-pause" | "scrub-resume" => vec![json!({ "set": SET })],
        "retention-show" => vec![json!({})],
        "retention-set" => vec![json!({
            "set": SET, "said": ["protect_days=0", "min_age=0", "deleted=0"], "less": true,
        })],
        "retention-plan" => vec![json!({ "set": SET, "limit": 9 })],
        "retention-explain" => vec![json!({ "place": place, "limit": 9 })],
        "retention-apply" => vec![json!({ "set": SET, "plan": "0123456789abcdef" })],
        "retention-undo" => vec![json!({ "set": SET, "all": true, "sure": true })],
        "rollback" => vec![json!({ "place": place, "when": "latest", "sure": true, "limit": 0 })],
        "rollback-undo" => vec![json!({ "set": SET, "rollback": "0", "sure": true, "limit": 0 })],
        "rollback-stop" => vec![json!({ "set": SET, "rollback": "0" })],
        "rollback-list" => vec![json!({})],
        "point-create" => vec![json!({ "set": SET, "name": "evil" })],
        "point-list" => vec![json!({ "set": SET })],
        "point-times" => vec![json!({ "set": SET })],
        "point-every" => vec![json!({ "set": SET, "every": "1h", "keep": 24 })],
        "point-hold" => vec![json!({ "set": SET, "point": "first", "here": true })],
        "point-release" => vec![json!({ "set": SET, "point": "first", "here": true })],
        "point-remove" => vec![json!({ "set": SET, "point": "first", "here": true })],
        "point-mark" => vec![json!({ "set": SET, "point": "first", "verdict": "good" })],
        "alarm-list" => vec![json!({})],
        "alarm-close" => vec![json!({ "alarm": "00000000", "release": true })],
        "alarm-set" => vec![json!({ "set": SET, "said": ["watch=off"] })],
        "audit-show" => vec![json!({ "limit": 9 })],
        "audit-verify" | "audit-heads" | "station-backup" => vec![json!({})],
        "station-address" => vec![json!({ "name": "store", "address": "127.0.0.1:9" })],
        "set-add" => vec![json!({ "name": "evil", "source": "/tmp", "to": [] })],
        "set-mirror" => vec![json!({ "name": SET, "to": null, "new_epoch": true })],
        "user-add" => vec![json!({ "user": user, "password": "correct horse battery" })],
        "user-remove" => vec![json!({ "name": "anna" })],
        "user-password" => vec![json!({ "name": "anna", "password": "another horse battery" })],
        "session-grant" => vec![json!({
            "host": "127.0.0.1", "set": SET, "may_write": true, "any_port": true,
        })],
        "session-revoke" => {
            vec![json!({ "which": { "user": "anna" } }), json!({ "which": "this" })]
        }
        "ticket" => vec![json!({
            "user": "anna", "password": "correct horse battery", "client_address": "127.0.0.1",
            "client_uid": null,
        })],
        _ => Vec::new(),
    }
}

/// Returns all of a station that a question could change, but for what goes up by itself.
fn everything_of(station: &Station) -> Result<Value> {
    let mut status = station.status()?;
    for set in status["sets"].as_array_mut().into_iter().flatten() {
        // How full the disk is changes by itself.
        if let Some(retention) = set["retention"].as_object_mut() {
            retention.remove("forecast");
        }
        for to in set["destinations"].as_array_mut().into_iter().flatten() {
            to["sent_bytes"] = Value::Null;
            to["received_bytes"] = Value::Null;
        }
    }
    let mut kept = station.versions(SET, Path::new("kept"))?;
    for version in &mut kept {
        // And time passes.
        version.as_object_mut().map(|version| version.remove("kept_until"));
    }
    let list = |what: &[&str]| station.call([what, &["list", "--json"]].concat())?.json();
    Ok(json!({
        "status": status,
        "document": fs::read(station.state().join("cluster.doc"))?,
        "sets": fs::read(station.state().join("parts.toml"))?,
        "users": list(&["user"])?,
        "sessions": list(&["session"])?,
        "tokens": station.call(["token", "list", "--json"])?.json().ok(),
        "kept": kept,
        "points": list(&["point"])?,
        "policies": station.call(["retention", "show", "--json"])?.json()?[0]["policy"],
    }))
}

/// Returns the names beside the folders that the two stations own.
fn outside_of(scratch: &Scratch, cluster: &Cluster) -> Result<BTreeSet<std::ffi::OsString>> {
    let list = |folder: &Path| -> Result<Vec<std::ffi::OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let mut names: BTreeSet<_> = list(scratch.path())?.into_iter().collect();
    names.extend(list(&cluster.store.state().join("sets"))?);
    Ok(names)
}

/// Speaks to a replica with the primary's own certificate.
struct Attacker {
    tls: StationTls,
    address: String,
    runtime: tokio::runtime::Runtime,
}

/// A connection on which bytes are sent as they are.
struct RawLink {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    welcome: Option<Welcome>,
}

impl Attacker {
    fn new(cluster: &Cluster) -> Result<Self> {
        Self::between(&cluster.office, &cluster.store)
    }

    /// Returns one that speaks to a station with the certificate of another.
    fn between(own: &Station, other: &Station) -> Result<Self> {
        let identity = StationIdentity::load(&own.state().join("identity"))?;
        let clock: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
        let tls = StationTls::new(&identity, Revocations::default(), clock)?;
        let status = other.status()?;
        let address = status["listen"].as_str();
        let address = address.with_context(|| format!("it listens: {status}"))?.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { tls, address, runtime })
    }

    fn attack(&self) -> Result<()> {
        self.runtime.block_on(async {
            let welcome = self.welcome().await?;
            let place = welcome.place.context("the station has something already")?;
            let next = Position { origin: OriginId(1), epoch: place.epoch, seq: place.seq.next() };
            let running = place.running;
            for name in hostile_names() {
                let frame = with_hostile_name(next, running, &name)?;
                self.is_hung_up_on(&[frame], &format!("the name {name:?}")).await?;
            }
            for (what, change) in hostile_changes() {
                let frame = change_frame(next, running, Step::Next, change)?;
                self.is_hung_up_on(&[frame], what).await?;
            }
            let harmless = || plain_change(b"harmless", FileId { counter: 999_999, ..own(1) });
            let far = Position { seq: Seq(next.seq.0 + 5), ..next };
            let gap = change_frame(far, running, Step::Next, harmless())?;
            self.is_hung_up_on(&[gap.clone(), gap.clone(), gap], "a gap again and again").await?;
            let epoch = Position { epoch: next.epoch.next(), ..next };
            let frame = change_frame(epoch, running, Step::Next, harmless())?;
            self.is_hung_up_on(&[frame], "another epoch than was agreed").await?;
            let origin = Position { origin: OriginId(2), ..next };
            let frame = change_frame(origin, running, Step::Next, harmless())?;
            self.is_hung_up_on(&[frame], "another origin than was agreed").await?;
            let part = change_frame(next, running, Step::Part { number: 1 }, harmless())?;
            self.is_hung_up_on(&[part], "a part of a mirror that nobody began").await?;
            let old = Position { seq: place.seq, ..next };
            let replay = change_frame(old, running, Step::Next, harmless())?;
            self.is_not_taken(&[replay], "a change that is there already").await?;
            self.lies_about_lengths().await?;
            // So far away that no flipped byte makes it the next change.
            let never = Position { seq: Seq(u64::MAX / 2), ..next };
            self.random_bytes(&change_frame(never, running, Step::Next, harmless())?).await
        })
    }

    async fn lies_about_lengths(&self) -> Result<()> {
        let lies: [&[u8]; 6] = [
            &[0xff; 8],
            &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
            &[0, 0, 16, 0, 0xff, 0xff, 0xff, 0x7f],
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            &[1, 0, 0, 0, 1, 0, 0, 0, 0xee],
        ];
        for lie in lies {
            self.is_hung_up_on(&[lie.to_vec()], &format!("the lengths {lie:?}")).await?;
        }
        for block in
            [[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [7, 8, 0, 0, 0, 8, 0, 0, 0]]
        {
            let mut link = self.connect().await?;
            link.stream.write_all(&block).await?;
            link.ends("a block that lies").await?;
        }
        Ok(())
    }

    /// Frames with flipped, cut and added bytes, each on a link of its own.
    async fn random_bytes(&self, frame: &[u8]) -> Result<()> {
        let mut random = StdRng::seed_from_u64(tools::seed("hostile_master"));
        for _ in 0..300 {
            let mut bytes = frame.to_vec();
            for _ in 0..random.random_range(1..8) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..3) {
                    0 => bytes[at] ^= 1 << random.random_range(0..8),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.random()),
                }
            }
            let mut link = self.greet().await?;
            let sent = link.block(&bytes).await;
            sent.and(link.stream.shutdown().await.map_err(Into::into)).ok();
        }
        // The station still answers, and what it answers is what it was.
        self.welcome().await.map(drop)
    }

    async fn is_hung_up_on(&self, frames: &[Vec<u8>], what: &str) -> Result<()> {
        let mut link = self.greet().await?;
        for frame in frames {
            // It may hang up before the last one is written.
            if link.block(frame).await.is_err() {
                return Ok(());
            }
        }
        link.ends(what).await
    }

    async fn is_not_taken(&self, frames: &[Vec<u8>], what: &str) -> Result<()> {
        let before = self.welcome().await?;
        let mut link = self.greet().await?;
        for frame in frames {
            link.block(frame).await?;
        }
        link.stream.shutdown().await?;
        ensure!(self.welcome().await?.place == before.place, "{what} moved the station");
        Ok(())
    }

    /// Greets and returns what the station has.
    async fn welcome(&self) -> Result<Welcome> {
        self.greet().await?.welcome.context("a link that was welcomed")
    }

    async fn greet(&self) -> Result<RawLink> {
        // The station may still be busy hanging up on the link before.
        let mut last = None;
        for _ in 0..50 {
            let mut link = self.connect().await?;
            let hello = Hello {
                set: SET.parse()?,
                origin: OriginId(1),
                epoch: Epoch::FIRST,
                head: Seq(1_000_000),
                settings: SetSettings::default(),
            };
            link.block(&encode(&Message::Hello(hello), &[])?).await?;
            let frame = link.frame().await;
            match frame {
                Ok(Frame { message: Message::Welcome(welcome), .. }) => {
                    link.welcome = Some(welcome);
                    return Ok(link);
                }
                other => last = Some(format!("{other:?}")),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the station does not welcome its master: {last:?}")
    }

    /// Asks a question on the port of links, and returns the status and the answer.
    async fn question(&self, station: &str, name: &str, body: &Value) -> Result<(u16, String)> {
        let config = self.tls.control_client(&station.parse()?)?;
        let stream = TcpStream::connect(&self.address).await?;
        let to = ServerName::try_from("station.keepshare")?;
        let mut stream = within("TLS", TlsConnector::from(config).connect(to, stream)).await?;
        let body = body.to_string();
        let request = format!(
            "POST /api/v1/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // It may hang up without a farewell.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.with_context(|| format!("no status: {answer:?}"))?, answer))
    }

    async fn connect(&self) -> Result<RawLink> {
        let config = self.tls.link_client(&"store".parse()?)?;
        let stream = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from("station.keepshare")?;
        let mut stream = within("TLS", TlsConnector::from(config).connect(name, stream)).await?;
        let mut ready = [1; READY_BYTES];
        within("the opening", stream.read_exact(&mut ready)).await?;
        ensure!(ready == [0; READY_BYTES], "the link opens as described");
        Ok(RawLink { stream, decoder: Decoder::new(), welcome: None })
    }
}

impl RawLink {
    /// Sends bytes as one block, as if they were frames.
    async fn block(&mut self, frames: &[u8]) -> Result<()> {
        let len = u32::try_from(frames.len())?.to_le_bytes();
        let block = [&[1][..], &len, &len, frames].concat();
        within("sending", self.stream.write_all(&block)).await?;
        within("sending", self.stream.flush()).await
    }

    /// Returns the next frame.
    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let mut head = [0; 9];
            within("an answer", self.stream.read_exact(&mut head)).await?;
            ensure!(head[0] == 1, "short answers are not compressed");
            let len = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
            ensure!(len < 1 << 20, "an answer of {len} bytes");
            let mut frames = vec![0; usize::try_from(len)?];
            within("an answer", self.stream.read_exact(&mut frames)).await?;
            self.decoder.feed(&frames);
        }
    }

    /// Returns when the station has hung up; an error where it does not.
    async fn ends(&mut self, what: &str) -> Result<()> {
        let mut sink = vec![0; 64 * 1024];
        let hung_up =
            async { while self.stream.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
        timeout(SOON, hung_up).await.with_context(|| format!("the station goes on after {what}"))
    }
}

async fn within<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    timeout(SOON, work)
        .await
        .with_context(|| format!("{what} takes too long"))?
        .context(what.to_owned())
}

fn own(origin: u32) -> FileId {
    FileId { origin: OriginId(origin), epoch: Epoch::FIRST, counter: 1 }
}

fn row(file: FileId, meta: Meta, content: Content) -> FileRow {
    FileRow { file, event: Event::Created, meta, content, hash: None, cut: true, fuzzy: false }
}

fn meta(kind: Kind, size: u64) -> Meta {
    Meta {
        kind,
        size,
        mode: 0o644,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: FileTime::default(),
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

fn name_row(name: &[u8], target: FileId, kind: Kind) -> NameRow {
    let name = Name::new(name).expect("a good name");
    NameRow { parent: FileId::ROOT, name, target: Some((target, kind)) }
}

/// A new empty file.
fn plain_change(name: &[u8], file: FileId) -> Change {
    Change {
        stamp: Stamp(1_763_649_127_000_000),
        names: vec![name_row(name, file, Kind::File)],
        files: vec![row(file, meta(Kind::File, 0), Content::whole(b""))],
        ..Change::default()
    }
}

fn change_frame(
    position: Position,
    running: RunningHash,
    step: Step,
    change: Change,
) -> Result<Vec<u8>> {
    let payload = vec![0; usize::try_from(change.payload_len().min(1000))?];
    Ok(encode(&Message::Change { position, running, step, change }, &payload)?)
}

/// Names that no station may ever make, as bytes on the wire.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b""[..],
        b".",
        b"..",
        b"/",
        b"/etc/passwd",
        b"../../../../outside",
        b"a/b",
        b"..\0",
        b"nul\0inside",
        b"@versions",
        b"@Versions",
        b"@GMT-2026.11.20-14.32.07",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.push(vec![b'x'; 256]);
    names.push(vec![b'x'; 100_000]);
    names
}

/// Encodes a change with a good name and puts a hostile one in its place.
fn with_hostile_name(next: Position, running: RunningHash, name: &[u8]) -> Result<Vec<u8>> {
    let mark = [MARK; 20];
    let file = FileId { counter: 999_999, ..own(1) };
    let bytes = change_frame(next, running, Step::Next, plain_change(&mark, file))?;
    let at = bytes.windows(mark.len()).position(|w| w == mark).context("the mark is there")?;
    // A name's length stands before it, in seven bits a byte.
    let mut header = bytes[8..at - 1].to_vec();
    let mut len = name.len();
    while len > 127 {
        header.push(u8::try_from(len % 128)? | 128);
        len /= 128;
    }
    header.push(u8::try_from(len)?);
    header.extend(name);
    header.extend(&bytes[at + mark.len()..]);
    let len = u32::try_from(header.len())?.to_le_bytes();
    Ok([&len[..], &len, &header].concat())
}

/// Changes that are well formed and must not be kept.
fn hostile_changes() -> Vec<(&'static str, Change)> {
    let mine = FileId { counter: 999_999, ..own(1) };
    let with_file = |file: FileRow| Change {
        names: vec![name_row(b"evil", file.file, file.meta.kind)],
        files: vec![file],
        ..plain_change(b"evil", mine)
    };
    let with_content = |size, extents, hash| {
        with_file(row(
            mine,
            meta(Kind::File, size),
            Content::Extents { fresh: true, extents, hash },
        ))
    };
    let data = |offset, len| Extent { offset, len, zero: false };
    let link = Meta { symlink: b"/etc\0x".to_vec(), ..meta(Kind::Symlink, 0) };
    let powers = Meta {
        xattrs: vec![(b"security.capability".to_vec(), vec![1; 20])],
        ..meta(Kind::File, 0)
    };
    let nothing = ContentHash::of(b"");
    vec![
        ("a file of another origin", plain_change(b"evil", own(2))),
        (
            "a folder of another origin",
            Change {
                names: vec![NameRow { parent: own(2), ..name_row(b"evil", mine, Kind::File) }],
                ..plain_change(b"evil", mine)
            },
        ),
        (
            "a folder that is not there",
            Change {
                names: vec![NameRow {
                    parent: FileId { counter: 888_888, ..own(1) },
                    ..name_row(b"evil", mine, Kind::File)
                }],
                ..plain_change(b"evil", mine)
            },
        ),
        (
            "a name for a file that is not there",
            Change { files: vec![], ..plain_change(b"evil", mine) },
        ),
        (
            "the root under a name",
            Change {
                names: vec![name_row(b"evil", FileId::ROOT, Kind::Dir)],
                files: vec![],
                ..Change::default()
            },
        ),
        ("the root as a file", with_file(row(FileId::ROOT, meta(Kind::File, 0), Content::Same))),
        (
            "a mode beyond modes",
            with_file(row(mine, Meta { mode: 0o107_777, ..meta(Kind::File, 0) }, Content::Same)),
        ),
        ("powers as an attribute", with_file(row(mine, powers, Content::Same))),
        ("a symlink with a NUL", with_file(row(mine, link, Content::Same))),
        (
            "more content than a change may bring",
            with_content(u64::MAX, vec![data(0, u64::MAX)], nothing),
        ),
        ("content beyond the end", with_content(10, vec![data(5, 100)], nothing)),
        ("content that overflows", with_content(10, vec![data(u64::MAX, 2)], nothing)),
        ("content that overlaps", with_content(10, vec![data(0, 5), data(3, 5)], nothing)),
        ("content of another hash", with_content(10, vec![data(0, 10)], nothing)),
        ("a payload that is not there", with_content(5000, vec![data(0, 5000)], nothing)),
    ]
}
