//! Who logs in, and at which station, as it is typed: `USER@STATION`.

use std::net::Ipv6Addr;

use keepshare_control::{Failure, Outcome};
use keepshare_station::config::HTTPS_PORT;

/// Who logs in, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Who {
    pub(crate) user: String,
    /// `HOST:PORT`; none for the station of this machine.
    pub(crate) station: Option<String>,
}

impl Who {
    /// Tells whether it is at a station that was named.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.station.is_some()
    }

    /// Returns the host to mount from.
    pub(crate) fn host(&self) -> &str {
        match &self.station {
            None => "127.0.0.1",
            Some(station) => station.rsplit_once(':').map_or(station.as_str(), |(host, _)| host),
        }
    }
}

impl std::str::FromStr for Who {
    type Err = Failure;

    fn from_str(text: &str) -> Outcome<Self> {
        let (user, station) = match text.split_once('@') {
            None => (text, None),
            Some((user, station)) => (user, Some(with_port(station)?)),
        };
        if user.is_empty() {
            return Err(Failure::usage("there is no user in it").hint("write it like anna@store"));
        }
        Ok(Self { user: user.to_owned(), station })
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.station {
            None => f.write_str(&self.user),
            Some(station) => write!(f, "{}@{station}", self.user),
        }
    }
}

/// Reads `HOST:PORT` or `HOST`.
fn with_port(text: &str) -> Outcome<String> {
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{v6}]:{HTTPS_PORT}"));
    }
    let candidates = [text.to_owned(), format!("{text}:{HTTPS_PORT}")];
    let usable =
        candidates.iter().find_map(|text| text.parse::<keepshare_base::StationAddress>().ok());
    usable.map(String::from).ok_or_else(|| {
        Failure::usage(format!("'{text}' is not the address of a station"))
            .hint(format!("write it like store.example or 10.0.0.2:{HTTPS_PORT}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_may_be_named_in_short() {
        for (text, station, host) in [
            ("anna", None, "127.0.0.1"),
            ("anna@store", Some("store:7443"), "store"),
            ("anna@store:1", Some("store:1"), "store"),
            ("anna@10.0.0.2", Some("10.0.0.2:7443"), "10.0.0.2"),
            ("anna@[::1]:9", Some("[::1]:9"), "[::1]"),
            ("anna@::1", Some("[::1]:7443"), "[::1]"),
        ] {
            let who: Who = text.parse().unwrap();
            assert_eq!((who.station.as_deref(), who.host()), (station, host), "{text}");
            assert_eq!(who.user, "anna");
        }
        for wrong in ["", "@store", "anna@", "anna@a b", "anna@a:0", "anna@\x1b[m"] {
            assert!(wrong.parse::<Who>().is_err(), "{wrong} was taken");
        }
    }
}
