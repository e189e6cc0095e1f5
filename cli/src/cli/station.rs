//! What `keepshare station` is told.

use clap::Subcommand;

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
}
