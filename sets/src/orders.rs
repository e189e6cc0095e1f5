//! What other stations may order this one to do in the sets that it masters: `[orders]` in its `station.toml`.
//!
//! Who may send is not who may order: each destination of a set holds a certificate and receives, and what it may have written into
//! the folder that people work in is for that machine's own admins to say. The cluster's document does not say it: whoever holds
//! the primary holds a station, too.

use std::collections::BTreeMap;

use keepshare_base::{SetName, StationName};
use keepshare_control::{Failure, Outcome};
use keepshare_replication::drivers::restores::May;

/// The key of what holds for all that nothing else is said of.
const DEFAULT: &str = "default";

/// The table as it is written.
pub type OrdersTable = BTreeMap<String, String>;

/// What other stations may order; the most exact line holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Orders {
    default: May,
    stations: BTreeMap<StationName, May>,
    sets: BTreeMap<(SetName, StationName), May>,
}

impl Orders {
    /// Reads the table.
    pub fn parse(table: OrdersTable) -> Outcome<Self> {
        let mut orders = Self::default();
        for (key, word) in table {
            let may = May::of_word(&word).ok_or_else(|| {
                let words = May::WORDS.join(", ");
                Failure::usage(format!("orders: '{word}' of '{key}' is none of {words}"))
            })?;
            let wrong = || {
                Failure::usage(format!("orders: '{key}' is no station and no SET.STATION")).hint(
                    "write attic = \"nothing\", or \"projects.attic\" = \"restore\" in quotes",
                )
            };
            match key.split_once('.') {
                None if key == DEFAULT => orders.default = may,
                None => {
                    let station = key.parse().map_err(|_| wrong())?;
                    orders.stations.insert(station, may);
                }
                Some((set, station)) => {
                    let set = set.parse().map_err(|_| wrong())?;
                    let station = station.parse().map_err(|_| wrong())?;
                    orders.sets.insert((set, station), may);
                }
            }
        }
        Ok(orders)
    }

    /// Returns what a station may order in a set.
    pub fn of(&self, set: &SetName, station: &StationName) -> May {
        let exact = self.sets.get(&(set.clone(), station.clone()));
        exact.or_else(|| self.stations.get(station)).copied().unwrap_or(self.default)
    }

    /// Refuses lines about what is not there: one that protects nothing must not look as if it did.
    pub fn check(
        &self,
        here: &StationName,
        is_set: impl Fn(&SetName) -> bool,
        is_station: impl Fn(&StationName) -> bool,
    ) -> Outcome<()> {
        let of_sets = self.sets.keys().map(|(_, station)| station);
        for station in self.stations.keys().chain(of_sets) {
            if station == here {
                return Err(Failure::usage(format!(
                    "orders: '{station}' is this station, and it asks itself nothing"
                ))
                .hint("name the stations that receive its sets"));
            }
            if !is_station(station) {
                return Err(Failure::usage(format!("orders: no station '{station}' is known here"))
                    .hint("keepshare status lists those that are; a line about one that joins later is written then"));
            }
        }
        match self.sets.keys().find(|(set, _)| !is_set(set)) {
            Some((set, _)) => Err(Failure::usage(format!("orders: this station masters no set '{set}'"))
                .hint("keepshare set list shows the sets of this station; nobody orders a master that it is not")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[(&str, &str)]) -> Outcome<Orders> {
        let line = |(key, word): &(&str, &str)| ((*key).to_owned(), (*word).to_owned());
        Orders::parse(lines.iter().map(line).collect())
    }

    fn may(orders: &Orders, set: &str, station: &str) -> May {
        orders.of(&set.parse().unwrap(), &station.parse().unwrap())
    }

    #[test]
    fn the_most_exact_line_holds() {
        let orders = parse(&[]).unwrap();
        assert_eq!(may(&orders, "projects", "attic"), May::RollBack, "as without the table");
        let lines = [
            ("default", "restore"),
            ("attic", "nothing"),
            ("vault", "roll-back"),
            ("projects.vault", "nothing"),
            ("plans.attic", "roll-back"),
        ];
        let orders = parse(&lines).unwrap();
        for (set, station, word) in [
            ("projects", "store", May::Restore),
            ("projects", "attic", May::Nothing),
            ("projects", "vault", May::Nothing),
            ("plans", "vault", May::RollBack),
            ("plans", "attic", May::RollBack),
        ] {
            assert_eq!(may(&orders, set, station), word, "{set} {station}");
        }
    }

    /// A slip of the finger would else leave a station what it was to be denied.
    #[test]
    fn a_line_that_protects_nothing_is_refused() {
        for lines in [("attic", "none"), ("attic", ""), ("a b", "restore"), ("a.b.c", "restore")] {
            assert!(parse(&[lines]).is_err(), "{lines:?}");
        }
        let here: StationName = "office".parse().unwrap();
        let check = |key: &str| {
            let orders = parse(&[("default", "nothing"), (key, "restore")]).unwrap();
            let is_set = |set: &SetName| set.as_str() == "projects";
            let is_station = |station: &StationName| station.as_str() == "attic";
            orders.check(&here, is_set, is_station).map_err(|failure| failure.to_string())
        };
        check("attic").unwrap();
        check("projects.attic").unwrap();
        for (key, word) in [
            ("atic", "'atic'"),
            ("project.attic", "'project'"),
            ("projects.atic", "'atic'"),
            ("office", "this station"),
        ] {
            assert!(check(key).unwrap_err().contains(word), "{key}");
        }
    }
}
