//! `keepshare station`.

use keepshare_base::StationName;
use keepshare_control::{
    Outcome, answers::MemberStatus, client::Client, questions::SetStationAddress,
};
use keepshare_station::config::parse_address;

use crate::output::Screen;

/// Has a station dialled at another address.
pub(crate) fn set_address(
    station: &Client,
    name: &StationName,
    address: &str,
    screen: &Screen,
) -> Outcome<()> {
    let (name, address) = (name.clone(), parse_address(address)?);
    let member: MemberStatus = station.ask_one(&SetStationAddress { name, address })?;
    screen.value(&member, |MemberStatus { name, address, .. }| {
        format!("{name} is dialled at {address} from now on; keepshare status shows whether it answers.\n")
    })
}
