//! What `keepshare retention` is told.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use keepshare_base::SetName;

use super::examples::RETENTION_KEYS;

#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Show by what policy sets are thinned here, when that is done next and what was done last
    Show {
        /// Only of this set
        #[arg(value_name = "SET")]
        set: Option<SetName>,
    },
    /// Set the policy of a set
    #[command(after_help = RETENTION_KEYS)]
    Set(RetentionSet),
    /// Show what would go; removes nothing
    #[command(after_help = RETENTION_KEYS)]
    Plan(RetentionPlan),
    /// Remove what a plan says, as far as it still goes
    Apply {
        /// The set
        #[arg(value_name = "SET")]
        set: SetName,
        /// The plan, as keepshare retention plan called it
        #[arg(long, value_name = "ID")]
        plan: String,
    },
    /// Bring back what the last run removed; a station then waits for a plan to be applied before it removes by itself
    Undo {
        /// The set
        #[arg(value_name = "SET")]
        set: SetName,
        /// Everything that can still come back
        #[arg(long)]
        all: bool,
        /// Do it; without, it is said what would come back
        #[arg(long)]
        yes: bool,
    },
    /// Show why each version of a file is kept, or goes
    Explain {
        /// SET:path/inside, or a path in a folder of this station
        #[arg(value_name = "PATH")]
        path: OsString,
        /// Stop after so many
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
    },
}

#[derive(Args, Debug)]
pub(crate) struct RetentionSet {
    /// The set
    #[arg(value_name = "SET")]
    pub(crate) set: SetName,
    /// What is to be otherwise
    #[arg(value_name = "KEY=VALUE", required_unless_present = "reset")]
    pub(crate) said: Vec<String>,
    /// Begin with the policy that sets have at first
    #[arg(long)]
    pub(crate) reset: bool,
    /// Though the set keeps less from now on
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RetentionPlan {
    /// The set
    #[arg(value_name = "SET")]
    pub(crate) set: SetName,
    /// What would go, were this said of the policy; such a plan cannot be applied
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) said: Vec<String>,
    /// List so many of the versions that go
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
}
