//! What `keepshare alarm` is told.

use clap::Subcommand;

use keepshare_base::SetName;

#[derive(Debug, Subcommand)]
pub(crate) enum Alarm {
    /// List alarms of the sets that are kept here, newest first
    List {
        /// Only of this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
        /// Closed ones, too
        #[arg(long)]
        all: bool,
    },
    /// Show an alarm: which files, who wrote them, the last good moment and how to go back to it
    Show {
        /// Which, as keepshare alarm list shows it
        #[arg(value_name = "ID")]
        alarm: String,
    },
    /// Say that somebody has looked at it: status tells of it no more
    Close {
        /// Which, as keepshare alarm list shows it
        #[arg(value_name = "ID")]
        alarm: String,
        /// Hold the moment before it no longer either
        #[arg(long)]
        release: bool,
    },
    /// Show from how much on there is an alarm, or say it
    Set {
        /// The set
        #[arg(value_name = "SET")]
        set: SetName,
        /// What is said, as files=2000
        #[arg(value_name = "KEY=VALUE")]
        said: Vec<String>,
    },
}
