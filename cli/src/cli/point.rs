//! What `keepshare point` is told.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use keepshare_base::SetName;

use super::rollback::How;

#[derive(Debug, Subcommand)]
pub(crate) enum Point {
    /// Make a point of all that was saved in a set until now, on every station that keeps it
    Create(PointCreate),
    /// List the points of a set, or of all that are kept here
    List {
        /// Only of this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
    /// Show how often a set's master makes points by itself, or say it
    Every {
        /// The set
        #[arg(value_name = "SET")]
        set: SetName,
        /// The time between two, as 1h or 1d; those of other times stay as they are
        #[arg(value_name = "SPAN", requires = "keep")]
        every: Option<String>,
        /// How many of the last ones stay; 0: none are made any more
        #[arg(long, value_name = "N", requires = "every")]
        keep: Option<u32>,
    },
    /// Keep a point whatever else ends it
    Hold {
        #[command(flatten)]
        point: Which,
        /// For so long, as 30d [default: until it is released]
        #[arg(long, value_name = "SPAN", conflicts_with = "here")]
        lasts: Option<String>,
        /// At this station, which keeps it then whatever the set's master says
        #[arg(long)]
        here: bool,
    },
    /// Hold a point no longer, from a day later on
    Release {
        #[command(flatten)]
        point: Which,
        /// Leave the point to the set's master again, which this station kept by itself
        #[arg(long)]
        here: bool,
    },
    /// Give a command what a point has, and note whether it finds that good
    Check(PointCheck),
    /// Note whether a point is good, where you looked yourself
    Mark {
        #[command(flatten)]
        point: Which,
        /// What it is
        #[arg(value_name = "VERDICT")]
        verdict: Said,
    },
    /// Show the newest point that was found good
    LastGood {
        /// The set
        #[arg(value_name = "SET")]
        set: SetName,
    },
    /// Roll a whole set back to a point, with a preview and an undo
    Restore {
        #[command(flatten)]
        point: Which,
        #[command(flatten)]
        how: How,
    },
    /// End a point, from a day later on: versions that it alone kept may go then
    Remove {
        #[command(flatten)]
        point: Which,
        /// At this station alone, and at once
        #[arg(long)]
        here: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The set
    #[arg(value_name = "SET")]
    pub(crate) set: SetName,
    /// The point: its name, or its id where several are called so
    #[arg(value_name = "POINT")]
    pub(crate) point: String,
}

#[derive(Args, Debug)]
pub(crate) struct PointCheck {
    /// The set
    #[arg(value_name = "SET")]
    pub(crate) set: SetName,
    /// The point: its name or its id [default: the newest]
    #[arg(value_name = "POINT")]
    pub(crate) point: Option<String>,
    /// Only this file or folder of it
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<OsString>,
    /// The folder in which a copy is made for the command, and removed afterwards [default: TMPDIR, or /tmp]
    #[arg(long = "in", value_name = "DIR")]
    pub(crate) within: Option<PathBuf>,
    /// What looks at it, and its arguments: it is run in the copy, and ends with 0 where that is good
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What somebody says of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Said {
    /// What it has can be used
    Good,
    /// It cannot
    Bad,
    /// Nobody knows any more
    Unknown,
}

#[derive(Args, Debug)]
pub(crate) struct PointCreate {
    /// The set
    #[arg(value_name = "SET")]
    pub(crate) set: SetName,
    /// What it is called: A-Z a-z 0-9 - _ . +
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The programs that write there were told, and have written everything
    #[arg(long)]
    pub(crate) app: bool,
    /// Let it end by itself after so long, as 30d [default: it stays until it is removed]
    #[arg(long, value_name = "SPAN")]
    pub(crate) lasts: Option<String>,
    /// Hold it, too: it cannot be removed before it is released, or so long has passed
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub(crate) hold: Option<String>,
}
