//! The drive's door beside nfs-ganesha, which serves the same live tree.
//!
//! Both are asked the same by the same client, in turns: every load goes to one and then to the other, and all of that
//! again, so that a busy machine is busy for both. What counts is the median.

mod client;
mod ganesha;
mod loads;

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_nfs_wire::{
    Decoder,
    nfs3::{Attributes, DirEntryPlus, DirOk, LookupOk, Procedure, ReadOk, decode_entries},
};
use keepshare_support::{Demo, Scratch, process, tree, wait_for};

use self::{
    client::{Client, Load, results},
    ganesha::Ganesha,
    loads::{GetAttributes, List, Lookup, Read, ask_bytes, ask_name, name},
};
use crate::{
    report::{Report, Row, Unit},
    rig::{PATIENCE, Place},
};

/// How often every load goes to every server.
const ROUNDS: usize = 3;

/// How long one load runs: processor time is counted in hundredths of a second.
const LOAD_TIME: Duration = Duration::from_millis(1500);

/// Who asks. Our drive shows everything to everyone of this machine; root alone gets less.
const OUR_UID: u32 = 1000;

const SMALL: &str = "many";
const LARGE: &str = "large";
const KEPT: &str = "kept";

const PAGE: u32 = 4096;
const MIB: u32 = 1 << 20;

/// How many versions the file has whose past is read, and how many pages change from one to the next.
const VERSIONS: usize = 6;
const PAGES_CHANGED: usize = 64;

/// The part of a file that many want: it fits in what any server keeps in memory.
const HOT_BYTES: u64 = 16 << 20;

/// How many files' attributes are asked for.
const FILES_ASKED: usize = 1000;

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("nfs")?;
    let tree = Tree::grow(&scratch, place)?;
    let demo = Demo::start(&scratch, Some(&tree.source))?;
    tree.edit(&demo)?;
    let live = demo.path("live")?;
    let ganesha = Ganesha::start(&scratch, &live)?;
    let mut servers = vec![ours(&demo)?];
    if let Some(ganesha) = &ganesha {
        servers.push(theirs(ganesha)?);
    }
    for server in &mut servers {
        server.open(&tree)?;
        server.check(&tree)?;
    }
    servers[0].open_version(&tree)?;
    for work in WORKS {
        let mut had = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, had) in servers.iter_mut().zip(&mut had) {
                had.push(server.run(&tree, work)?);
            }
        }
        let median = |of: fn(&Measured) -> f64, server: usize| {
            let mut numbers: Vec<f64> = had.get(server)?.iter().map(of).collect();
            numbers.sort_by(f64::total_cmp);
            numbers.get(numbers.len() / 2).copied()
        };
        let rows: [Taken; 2] = [
            (work.rate, work.unit(), |measured| measured.rate),
            (work.cpu, Unit::Seconds, |measured| measured.cpu_seconds),
        ];
        for (measure, unit, of) in rows {
            let ours = median(of, 0).unwrap_or(f64::NAN);
            report.row(Row { work: "nfs", measure, unit, ours, peer: median(of, 1) })?;
        }
    }
    Ok(())
}

/// What is served.
struct Tree {
    source: PathBuf,
    names: usize,
    large_bytes: u64,
    kept_bytes: u64,
}

impl Tree {
    fn grow(scratch: &Scratch, place: &Place) -> Result<Self> {
        let source = scratch.make_dir("source")?;
        let names = place.files(100_000).max(FILES_ASKED);
        fs::create_dir(source.join(SMALL))?;
        for number in 0..names {
            File::create(source.join(SMALL).join(name(number)))?;
        }
        let whole = |bytes: u64| place.scaled(bytes).next_multiple_of(u64::from(MIB));
        let large_bytes = whole(512 << 20).max(HOT_BYTES);
        let kept_bytes = whole(64 << 20);
        tree::write_random(&source.join(LARGE), large_bytes, 1)?;
        tree::write_random(&source.join(KEPT), kept_bytes, 2)?;
        Ok(Self { source, names, large_bytes, kept_bytes })
    }

    /// Gives one file a past.
    fn edit(&self, demo: &Demo) -> Result<()> {
        let mut random = StdRng::seed_from_u64(3);
        for version in 2..=VERSIONS {
            let file = OpenOptions::new().write(true).open(self.source.join(KEPT))?;
            for _ in 0..PAGES_CHANGED {
                let page = random.random_range(0..self.kept_bytes / u64::from(PAGE));
                file.write_all_at(&[0; 4096].map(|_: u8| random.random()), page * 4096)?;
            }
            drop(file);
            wait_for(PATIENCE, "a version is kept", || {
                let versions = demo.versions(Path::new(KEPT))?;
                Ok((versions.len() >= version).then_some(()))
            })?;
        }
        Ok(())
    }
}

/// What one load is, and what its measures are called.
#[derive(Clone, Copy)]
struct Work {
    rate: &'static str,
    cpu: &'static str,
    in_flight: usize,
    /// How many of the load's units the processor time is told for.
    per: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    GetAttributes,
    Lookup,
    Page,
    HotPage,
    InOrder,
    List(u32),
    OldPage,
    OldInOrder,
}

const WORKS: [Work; 9] = [
    Work {
        rate: "getattr, 16 in flight",
        cpu: "getattr, server CPU per call",
        in_flight: 16,
        per: 1,
        kind: Kind::GetAttributes,
    },
    Work {
        rate: "lookup, 16 in flight",
        cpu: "lookup, server CPU per call",
        in_flight: 16,
        per: 1,
        kind: Kind::Lookup,
    },
    Work {
        rate: "read 4 KiB, 16 in flight",
        cpu: "read 4 KiB, server CPU per call",
        in_flight: 16,
        per: 4 << 10,
        kind: Kind::Page,
    },
    Work {
        rate: "read 4 KiB of 16 MiB, 16 in flight",
        cpu: "read 4 KiB of 16 MiB, server CPU",
        in_flight: 16,
        per: 4 << 10,
        kind: Kind::HotPage,
    },
    Work {
        rate: "read 1 MiB in order, 8 in flight",
        cpu: "read 1 MiB, server CPU per GiB",
        in_flight: 8,
        per: 1 << 30,
        kind: Kind::InOrder,
    },
    Work {
        rate: "list, 64 KiB replies",
        cpu: "list 64 KiB, server CPU per entry",
        in_flight: 1,
        per: 1,
        kind: Kind::List(64 << 10),
    },
    Work {
        rate: "list, 1 MiB replies",
        cpu: "list 1 MiB, server CPU per entry",
        in_flight: 1,
        per: 1,
        kind: Kind::List(MIB),
    },
    Work {
        rate: "old 4 KiB, 16 in flight",
        cpu: "old 4 KiB, server CPU per call",
        in_flight: 16,
        per: 4 << 10,
        kind: Kind::OldPage,
    },
    Work {
        rate: "old 1 MiB in order, 8 in flight",
        cpu: "old 1 MiB, server CPU per GiB",
        in_flight: 8,
        per: 1 << 30,
        kind: Kind::OldInOrder,
    },
];

impl Work {
    fn unit(&self) -> Unit {
        match self.kind {
            Kind::InOrder | Kind::OldInOrder => Unit::ByteRate,
            _ => Unit::Rate,
        }
    }

    /// Returns what one of the rate's units is in the load's.
    fn a_rate(&self) -> u64 {
        match self.kind {
            Kind::Page | Kind::HotPage | Kind::OldPage => u64::from(PAGE),
            _ => 1,
        }
    }
}

/// One load at one server.
#[derive(Clone, Copy, Debug)]
struct Measured {
    rate: f64,
    cpu_seconds: f64,
}

/// A server and what of it is used.
struct Server {
    pid: u32,
    address: SocketAddr,
    client: Client,
    root: Vec<u8>,
    small: Vec<u8>,
    files: Vec<Vec<u8>>,
    large: Vec<u8>,
    /// The file with a past, and what of it is read: a version where there are some, else what it is now.
    kept: Vec<u8>,
}

fn ours(demo: &Demo) -> Result<Server> {
    let text = |key: &str| demo.ready[key].as_str().with_context(|| format!("no {key}"));
    let port = demo.ready["nfs_port"].as_u64().context("the demo has no drive")?;
    let address = SocketAddr::new(text("nfs_addr")?.parse()?, u16::try_from(port)?);
    let mut client = Client::connect(address, OUR_UID)?;
    let root = client.mount(text("mount_path")?)?;
    Ok(Server::new(demo.id(), address, client, root))
}

fn theirs(ganesha: &Ganesha) -> Result<Server> {
    let root = Client::connect(ganesha.mount, 0)?.mount(ganesha::EXPORT)?;
    let client = Client::connect(ganesha.address, 0)?;
    Ok(Server::new(ganesha.process.id(), ganesha.address, client, root))
}

impl Server {
    fn new(pid: u32, address: SocketAddr, client: Client, root: Vec<u8>) -> Self {
        let none = Vec::new;
        let (small, large, kept) = (none(), none(), none());
        Self { pid, address, client, root, small, files: Vec::new(), large, kept }
    }

    /// Looks up what the loads need.
    fn open(&mut self, tree: &Tree) -> Result<()> {
        let root = self.root.clone();
        self.small = self.lookup(&root, SMALL)?;
        self.large = self.lookup(&root, LARGE)?;
        self.kept = self.lookup(&root, KEPT)?;
        let small = self.small.clone();
        let step = tree.names / FILES_ASKED;
        let files = (0..FILES_ASKED).map(|file| self.lookup(&small, &name(file * step)));
        self.files = files.collect::<Result<_>>()?;
        Ok(())
    }

    /// Takes a version from the middle of a file's past for what is read of it.
    fn open_version(&mut self, tree: &Tree) -> Result<()> {
        let root = self.root.clone();
        let versions = self.lookup(&root, "@versions")?;
        let past = self.lookup(&versions, &format!("{KEPT}@"))?;
        let names = self.names(&past)?;
        let mut names: Vec<_> = names.into_iter().filter(|name| name.starts_with("20")).collect();
        names.sort_unstable();
        ensure!(names.len() >= VERSIONS, "{} of {VERSIONS} versions: {names:?}", names.len());
        self.kept = self.lookup(&past, &names[names.len() / 2])?;
        // It is another one than the present, and as long.
        let last = tree.kept_bytes - u64::from(PAGE);
        ensure!(self.bytes(&self.kept.clone(), last, PAGE)?.len() == 4096, "a version is short");
        Ok(())
    }

    /// An error unless what is read is what the file holds.
    fn check(&mut self, tree: &Tree) -> Result<()> {
        let (file, large) = (File::open(tree.source.join(LARGE))?, self.large.clone());
        for (offset, len) in [(0, MIB), (tree.large_bytes - u64::from(PAGE), PAGE)] {
            let mut held = vec![0; usize::try_from(len)?];
            file.read_exact_at(&mut held, offset)?;
            ensure!(self.bytes(&large, offset, len)? == held, "{} gives wrong bytes", self.address);
        }
        Ok(())
    }

    fn run(&mut self, tree: &Tree, work: Work) -> Result<Measured> {
        let mut load = self.load(tree, work.kind);
        let before = process::usage(self.pid)?.cpu_seconds;
        let had = self.client.run(&mut *load, work.in_flight, LOAD_TIME)?;
        let cpu_seconds = process::usage(self.pid)?.cpu_seconds - before;
        if had.units == 0 {
            bail!("nothing was had of {}", work.rate);
        }
        let units = had.units as f64;
        Ok(Measured {
            rate: units / work.a_rate() as f64 / had.seconds,
            cpu_seconds: cpu_seconds / units * work.per as f64,
        })
    }

    fn load(&self, tree: &Tree, kind: Kind) -> Box<dyn Load> {
        let (large, kept) = (self.large.clone(), self.kept.clone());
        match kind {
            Kind::GetAttributes => Box::new(GetAttributes::new(self.files.clone())),
            Kind::Lookup => Box::new(Lookup::new(self.small.clone(), tree.names)),
            Kind::Page => Box::new(Read::anywhere(large, tree.large_bytes, PAGE)),
            Kind::HotPage => Box::new(Read::anywhere(large, HOT_BYTES, PAGE)),
            Kind::InOrder => Box::new(Read::in_order(large, tree.large_bytes, MIB)),
            Kind::List(bytes) => Box::new(List::new(self.small.clone(), bytes)),
            Kind::OldPage => Box::new(Read::anywhere(kept, tree.kept_bytes, PAGE)),
            Kind::OldInOrder => Box::new(Read::in_order(kept, tree.kept_bytes, MIB)),
        }
    }

    fn lookup(&mut self, dir: &[u8], name: &str) -> Result<Vec<u8>> {
        let take = |decoder: &mut Decoder<'_>| {
            let found = results::<LookupOk<'_>, Option<Attributes>>(decoder)?;
            Ok(found.object.as_bytes().to_vec())
        };
        let found = self.client.call(Procedure::Lookup, |e| ask_name(e, dir, name), take);
        found.with_context(|| format!("cannot look up {name}"))
    }

    fn bytes(&mut self, file: &[u8], offset: u64, len: u32) -> Result<Vec<u8>> {
        let take = |decoder: &mut Decoder<'_>| {
            let read = results::<ReadOk<'_>, Option<Attributes>>(decoder)?;
            Ok(read.data.to_vec())
        };
        self.client.call(Procedure::Read, |e| ask_bytes(e, file, offset, len), take)
    }

    /// Returns the names of a small folder.
    fn names(&mut self, dir: &[u8]) -> Result<Vec<String>> {
        let mut list = List::new(dir.to_vec(), MIB);
        let take = |decoder: &mut Decoder<'_>| {
            results::<DirOk, Option<Attributes>>(decoder)?;
            let (entries, _) = decode_entries::<DirEntryPlus<'_>>(decoder)?;
            Ok(entries.iter().map(|e| String::from_utf8_lossy(e.name).into_owned()).collect())
        };
        self.client.call(Procedure::ReadDirPlus, |e| list.ask(e), take)
    }
}
/// What a figure is called, its unit, and how it is taken from what was measured.
type Taken = (&'static str, Unit, fn(&Measured) -> f64);
