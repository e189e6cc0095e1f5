//! What `keepshare session` is told.

use clap::{ArgGroup, Args, Subcommand};

use keepshare_auth::{HostRange, UserName};
use keepshare_base::SetName;

use super::examples::GRANT_EXAMPLES;

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List the sessions, those used last first
    List,
    /// Trust machines: all their users are believed who they say they are
    #[command(after_help = GRANT_EXAMPLES)]
    Grant(Grant),
    /// End a session, or all of a user, at once
    #[command(group = ArgGroup::new("which").required(true).args(["id", "user"]))]
    Revoke {
        /// Which, as keepshare session list shows it
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// All of this user
        #[arg(long, value_name = "NAME")]
        user: Option<UserName>,
        /// Only say what would end
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Grant {
    /// Which machines: an address, or a network as ADDRESS/BITS
    #[arg(value_name = "ADDRESS[/BITS]")]
    pub(crate) range: HostRange,
    /// What they may mount
    #[arg(long)]
    pub(crate) set: SetName,
    /// Their users may also have old versions restored
    #[arg(long)]
    pub(crate) write: bool,
    /// Take calls from ports above 1023 too, which any of their users may have
    #[arg(long)]
    pub(crate) any_port: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
