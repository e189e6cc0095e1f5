//! `keepshare station`.

use std::path::Path;

use keepshare_base::StationName;

use crate::{
    api::{MemberStatus, Request, client},
    config::parse_address,
    failure::Outcome,
    output::Screen,
};

/// Has a station dialled at another address.
pub(crate) fn set_address(
    socket: &Path,
    name: &StationName,
    address: &str,
    screen: &Screen,
) -> Outcome<()> {
    let (name, address) = (name.clone(), parse_address(address)?);
    let member: MemberStatus = client::ask_one(socket, &Request::StationAddress { name, address })?;
    screen.value(&member, |MemberStatus { name, address, .. }| {
        format!("{name} is dialled at {address} from now on; keepshare status shows whether it answers.\n")
    })
}
