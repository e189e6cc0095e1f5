//! What the servers are asked.

use anyhow::{Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_nfs_wire::{
    Decoder, Encoder,
    nfs3::{
        Attributes, DirEntryPlus, DirOk, DirOpArgs, Handle, LookupOk, Procedure, ReadArgs,
        ReadDirPlusArgs, ReadOk, decode_entries,
    },
};

use super::client::{Load, results};

/// The seed of all choices: every server is asked the same.
const SEED: u64 = 7;

/// Attributes of one file after the other, each as likely as others. Counts calls.
pub(crate) struct GetAttributes {
    files: Vec<Vec<u8>>,
    random: StdRng,
}

/// Names of one folder, each as likely as others. Counts calls.
pub(crate) struct Lookup {
    dir: Vec<u8>,
    names: usize,
    random: StdRng,
}

/// Parts of one file, anywhere or one after the other. Counts bytes.
pub(crate) struct Read {
    file: Vec<u8>,
    size: u64,
    len: u32,
    next: u64,
    random: Option<StdRng>,
}

/// A folder from its beginning to its end, again and again. Counts entries.
pub(crate) struct List {
    dir: Vec<u8>,
    reply_bytes: u32,
    cookie: u64,
    verifier: [u8; 8],
}

impl GetAttributes {
    pub(crate) fn new(files: Vec<Vec<u8>>) -> Self {
        Self { files, random: StdRng::seed_from_u64(SEED) }
    }
}

impl Load for GetAttributes {
    fn procedure(&self) -> Procedure {
        Procedure::GetAttributes
    }

    fn ask(&mut self, encoder: &mut Encoder<'_>) {
        let file = self.random.random_range(0..self.files.len());
        encoder.opaque(&self.files[file]);
    }

    fn take(&mut self, decoder: &mut Decoder<'_>) -> Result<u64> {
        results::<Attributes, ()>(decoder).map(|_| 1)
    }
}

impl Lookup {
    pub(crate) fn new(dir: Vec<u8>, names: usize) -> Self {
        Self { dir, names, random: StdRng::seed_from_u64(SEED) }
    }
}

impl Load for Lookup {
    fn procedure(&self) -> Procedure {
        Procedure::Lookup
    }

    fn ask(&mut self, encoder: &mut Encoder<'_>) {
        let name = name(self.random.random_range(0..self.names));
        encoder.opaque(&self.dir);
        encoder.opaque(name.as_bytes());
    }

    fn take(&mut self, decoder: &mut Decoder<'_>) -> Result<u64> {
        results::<LookupOk<'_>, Option<Attributes>>(decoder).map(|_| 1)
    }
}

impl Read {
    pub(crate) fn anywhere(file: Vec<u8>, size: u64, len: u32) -> Self {
        Self { file, size, len, next: 0, random: Some(StdRng::seed_from_u64(SEED)) }
    }

    pub(crate) fn in_order(file: Vec<u8>, size: u64, len: u32) -> Self {
        Self { file, size, len, next: 0, random: None }
    }
}

impl Load for Read {
    fn procedure(&self) -> Procedure {
        Procedure::Read
    }

    fn ask(&mut self, encoder: &mut Encoder<'_>) {
        let parts = (self.size / u64::from(self.len)).max(1);
        let part = match &mut self.random {
            Some(random) => random.random_range(0..parts),
            None => self.next % parts,
        };
        self.next += 1;
        encoder.opaque(&self.file);
        encoder.u64(part * u64::from(self.len));
        encoder.u32(self.len);
    }

    fn take(&mut self, decoder: &mut Decoder<'_>) -> Result<u64> {
        let read = results::<ReadOk<'_>, Option<Attributes>>(decoder)?;
        ensure!(read.count == self.len, "{} bytes for {}", read.count, self.len);
        Ok(u64::from(read.count))
    }
}

impl List {
    pub(crate) fn new(dir: Vec<u8>, reply_bytes: u32) -> Self {
        Self { dir, reply_bytes, cookie: 0, verifier: [0; 8] }
    }
}

impl Load for List {
    fn procedure(&self) -> Procedure {
        Procedure::ReadDirPlus
    }

    fn ask(&mut self, encoder: &mut Encoder<'_>) {
        let Some(dir) = Handle::new(&self.dir) else { return };
        let Self { cookie, verifier, reply_bytes: max_count, .. } = *self;
        encoder.value(&ReadDirPlusArgs { dir, cookie, verifier, dir_count: max_count, max_count });
    }

    fn take(&mut self, decoder: &mut Decoder<'_>) -> Result<u64> {
        let head = results::<DirOk, Option<Attributes>>(decoder)?;
        let (entries, is_end) = decode_entries::<DirEntryPlus<'_>>(decoder)?;
        let Some(last) = entries.last() else { bail!("a part of a folder without entries") };
        (self.cookie, self.verifier) = match is_end {
            true => (0, [0; 8]),
            false => (last.cookie, head.verifier),
        };
        Ok(entries.len() as u64)
    }
}

/// Returns what the small file of this number is called.
pub(crate) fn name(number: usize) -> String {
    format!("f{number:06}")
}

/// Appends the arguments of LOOKUP.
pub(crate) fn ask_name(encoder: &mut Encoder<'_>, dir: &[u8], name: &str) {
    if let Some(dir) = Handle::new(dir) {
        encoder.value(&DirOpArgs { dir, name: name.as_bytes() });
    }
}

/// Appends the arguments of READ.
pub(crate) fn ask_bytes(encoder: &mut Encoder<'_>, file: &[u8], offset: u64, count: u32) {
    if let Some(file) = Handle::new(file) {
        encoder.value(&ReadArgs { file, offset, count });
    }
}
