//! What `keepshare station` is told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use keepshare_base::StationName;

use super::examples::*;

#[derive(Debug, Subcommand)]
pub(crate) enum Station {
    /// Dial a station at another address from now on
    #[command(after_help = ADDRESS_EXAMPLES)]
    SetAddress {
        /// Which
        name: StationName,
        /// Where it is reached, HOST or HOST:PORT
        #[arg(value_name = "ADDRESS")]
        address: String,
    },
    /// Write what makes this station this station into one encrypted file: keys, users, sets and policies, not the sets' files
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(Backup),
    /// Bring a station back from its backup, on a machine where there is none
    #[command(after_help = STATION_RESTORE_EXAMPLES)]
    Restore(Restore),
}

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Put it in the place of a backup that is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The file that keepshare station backup wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Only tell what is in it: of which station, of when, which files
    #[arg(long)]
    pub(crate) list: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "list")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) passphrase: Passphrase,
}

/// Where the passphrase of a backup comes from, if nobody is asked.
#[derive(Args, Debug)]
pub(crate) struct Passphrase {
    /// Read the passphrase from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_stdin")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from standard input
    #[arg(long)]
    pub(crate) passphrase_stdin: bool,
}
