//! What `keepshare scrub` is told.

use clap::Subcommand;

use keepshare_base::SetName;

#[derive(Debug, Subcommand)]
pub(crate) enum Scrub {
    /// Show how far the look for damage is, and what it found
    Status {
        /// Only of this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
    /// Look at everything at once, and wait for it; fails where versions are damaged
    Now {
        /// Only in this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
    /// Stop looking, also after a restart, until it is resumed
    Pause {
        /// Only in this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
    /// Go on where it was paused
    Resume {
        /// Only in this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
}
