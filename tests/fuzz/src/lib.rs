//! Whatever comes from a peer, a client, a person or a disk: none of it makes a program panic, and what is read is what
//! was written.
//!
//! A [`Target`] is a function of bytes, which panics where a promise is broken. `corpus/` has files for each of them: what
//! the real encoders write, which the program `corpora` makes anew, and what once was a way to break something. The test
//! `replay` runs them all, with seeded mutations; `fuzz/` hands the same functions to libFuzzer.

mod mutations;
mod targets;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use mutations::Mutator;

/// One kind of bytes that come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Reads the bytes and tells whether they were of use; panics where a promise is broken.
    pub run: fn(&[u8]) -> bool,
    /// What the real encoders write, each with a name. All of it is of use.
    pub examples: fn() -> Vec<(String, Vec<u8>)>,
    /// What is worth putting somewhere into the bytes.
    pub words: &'static [&'static [u8]],
    /// How many inputs of other targets one of this costs.
    pub cost: u32,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::rpc::TARGET,
    targets::frames::TARGET,
    targets::records::TARGET,
    targets::paths::TARGET,
    targets::times::TARGET,
    targets::config::TARGET,
    targets::tokens::TARGET,
    targets::questions::TARGET,
];

impl Target {
    /// Returns the target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Returns where its corpus is.
    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }

    /// Returns its corpus, each file with its name, in the order of names.
    pub fn corpus(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
        }
        files.sort();
        Ok(files)
    }
}
