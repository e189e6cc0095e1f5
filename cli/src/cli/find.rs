//! What `keepshare find` is told.

use std::ffi::OsString;

use clap::Args;

use keepshare_base::SetName;

#[derive(Args, Debug)]
pub(crate) struct Find {
    /// The name: * is anything, ? one character; without either, a part of the name is enough. Case does not matter
    pub(crate) name: String,
    /// Look in this set only
    #[arg(long, conflicts_with = "within")]
    pub(crate) set: Option<SetName>,
    /// Look below this folder only: SET:folder, or a local folder in a source or a live tree
    #[arg(long = "in", id = "within", value_name = "FOLDER")]
    pub(crate) within: Option<OsString>,
    /// Only what is deleted
    #[arg(long)]
    pub(crate) deleted: bool,
    /// Only what was made, saved, renamed or deleted since then
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Stop after so many
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
    /// Go on after what was found before: what --json has as "after" of the last one
    #[arg(long, value_name = "WHERE")]
    pub(crate) after: Option<String>,
}
