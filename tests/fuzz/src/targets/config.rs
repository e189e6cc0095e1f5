//! The one file that a person edits.

use std::{fs, path::PathBuf};

use keepshare_sets::schedule::Schedules;
use keepshare_station::config::{Config, Doors, Shown};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "config",
    run,
    examples,
    words: &[
        b"\n",
        b"name = ",
        b"listen = ",
        b"[doors]\n",
        b"[scan]\n",
        b"\"off\"",
        b"\"",
        b"= 1\n",
        b"[::]:1",
        b"\0",
        b"\xc3\xa9",
        b"0x",
        b"3:00",
        b"'''",
        b"[[",
    ],
    cost: 40,
};

fn run(bytes: &[u8]) -> bool {
    let dir = tempfile::tempdir().expect("a folder for a config");
    let path = dir.path().join("station.toml");
    fs::write(&path, bytes).expect("a config can be written");
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(failure) => {
            // Whoever is to put it right is told what is wrong.
            assert!(!failure.one_line().is_empty());
            return false;
        }
    };
    let _ = config.own_address();
    // What a first config says is what it was made of.
    let again = dir.path().join("again.toml");
    config.create(&again).expect("a config can be written");
    let again = Config::load(&again).expect("a config that was written is read");
    let said = |config: &Config| {
        let Config { name, listen, address, state, doors, .. } = config.clone();
        (name, listen, address, state, (doors.nfs, doors.https))
    };
    assert_eq!(said(&again), said(&config));
    true
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let config = Config {
        name: "store".parse().expect("a name"),
        listen: "10.0.0.1:7000".parse().expect("an address"),
        address: Some("store.example:7000".to_owned()),
        state: PathBuf::from("/srv/a \"quoted\" folder"),
        socket: PathBuf::from("/srv/a \"quoted\" folder/keepshare.sock"),
        zone: chrono_tz::Tz::Europe__Berlin,
        bandwidth_bytes_per_s: None,
        doors: Doors {
            nfs: None,
            https: Some("127.0.0.1:1234".parse().expect("an address")),
            show: Shown::default(),
        },
        schedules: Schedules::default(),
        orders: std::sync::Arc::default(),
    };
    let dir = tempfile::tempdir().expect("a folder for a config");
    let path = dir.path().join("station.toml");
    config.create(&path).expect("a config can be written");
    let written = fs::read(&path).expect("it was written");
    let all = "name = \"a\"\nlisten = \"7846\"\naddress = \"a.example\"\nstate = \"/s\"\nsocket = \"/s/k\"\n\
        zone = \"Europe/Berlin\"\nbandwidth_bytes_per_s = 12500000\n[doors]\nhttps = \"off\"\nnfs = \":2049\"\n\
        show = \"everywhere\"\n[scan]\nat = \"sunday 03:00\"\nshared_every_s = 300\n[orders]\ndefault = \"restore\"\n\"a.b\" = \"nothing\"\n";
    let texts = [("least", "name = \"a\"\n"), ("all", all)];
    let texts = texts.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    texts.into_iter().chain([("written".to_owned(), written)]).collect()
}
