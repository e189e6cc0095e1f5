//! What `keepshare audit` is told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use keepshare_auth::{UserName, audit::Head};
use keepshare_base::SetName;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Show who did what: logins, mounts, restores, what admins did, and what was refused; the newest last
    Show(AuditShow),
    /// Check that nothing of the log was changed, cut or put in; ends with 1 where something was, and says where
    Verify {
        /// Check this head, too, that was kept elsewhere, as audit show --head prints it
        #[arg(long, value_name = "COUNT:HASH")]
        head: Option<Head>,
        /// Check the log in this folder, such as a copy, and ask no station
        #[arg(long = "in", value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct AuditShow {
    /// Only of this set
    #[arg(long)]
    pub(crate) set: Option<SetName>,
    /// Only what this user did, or was refused
    #[arg(long)]
    pub(crate) user: Option<UserName>,
    /// Only what came after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only this event: login, mount, restore, …
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// The newest ones, at most so many
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
    /// Print the log's head alone, COUNT:HASH: kept elsewhere, it shows later that nothing before it was changed
    #[arg(long, conflicts_with_all = ["set", "user", "since", "event", "limit"])]
    pub(crate) head: bool,
}
