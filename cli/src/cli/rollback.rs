//! What `keepshare rollback` and `keepshare undelete` are told.

use std::ffi::OsString;

use clap::Args;

use keepshare_base::SetName;

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// SET:folder@TIME, or a local folder in a source or a live tree with @TIME; SET:@TIME is the whole set
    #[arg(value_name = "FOLDER@TIME", required_unless_present_any = ["undo", "stop", "list"])]
    pub(crate) folder: Option<OsString>,
    #[command(flatten)]
    pub(crate) how: How,
    /// Replace what changed since the preview, too; what it was is a version
    #[arg(long)]
    pub(crate) over: bool,
    /// Write files that have names outside of the folder, too
    #[arg(long)]
    pub(crate) links: bool,
    /// Take this roll-back back, where things still are as it left them
    #[arg(long, value_name = "ID", conflicts_with_all = ["folder", "stop", "list"], requires = "set")]
    pub(crate) undo: Option<String>,
    /// End this roll-back, which goes on; what it did stays
    #[arg(long, value_name = "ID", conflicts_with_all = ["folder", "list"], requires = "set")]
    pub(crate) stop: Option<String>,
    /// List roll-backs that can be undone, and the one that goes on
    #[arg(long, conflicts_with = "folder")]
    pub(crate) list: bool,
    /// The set, for --undo, --stop and --list
    #[arg(long, value_name = "SET", conflicts_with = "folder")]
    pub(crate) set: Option<SetName>,
}

#[derive(Args, Debug)]
pub(crate) struct Undelete {
    /// SET:folder, or a local folder in a source or a live tree
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: OsString,
    /// Since when; what went before stays away
    #[arg(long, value_name = "TIME")]
    pub(crate) since: String,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Args, Debug)]
pub(crate) struct How {
    /// Do it without asking
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Though of some files only an older version is kept, or none
    #[arg(long)]
    pub(crate) nearest: bool,
    /// Show so many steps, and as many of what stays
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
}
