//! What `keepshare diff` is told.

use std::ffi::OsString;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// What it was: SET:path@TIME, or a local path in a source or a live tree with @TIME; without a time, as it is now
    #[arg(value_name = "PATH[@TIME]")]
    pub(crate) then: OsString,
    /// What it is compared with: another path, with or without a time, or @TIME of the same path [default: the present state of
    /// the same path]
    #[arg(value_name = "PATH[@TIME]|@TIME")]
    pub(crate) now: Option<OsString>,
    /// Show so many lines around each change of a text
    #[arg(short = 'U', long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=CONTEXT_MAX))]
    pub(crate) unified: u32,
    /// End with exit code 1 where they differ; without, with 0
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// The most lines around a change: more than any text has that is compared line by line.
const CONTEXT_MAX: i64 = 1_000_000;
