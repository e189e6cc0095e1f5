//! The one file a person edits: `station.toml`.
//!
//! It is read, never rewritten (`init` and `join` create it once), so comments stay. What the station itself keeps,
//! sets and members, is in the state folder. A key nobody knows is an error: a setting that is silently ignored is a
//! promise silently broken.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use chrono_tz::Tz;
use serde::Deserialize;

use keepshare_base::{AddressError, StationAddress, StationName};
use keepshare_control::{Code, Failure, Outcome};
use keepshare_host::{files, folders};
use keepshare_sets::{
    orders::{Orders, OrdersTable},
    schedule::{RetentionTable, ScanTable, Schedules},
    scrub::ScrubTable,
};
use keepshare_versioning::when::machine_zone;

/// The port of station to station links.
pub const DEFAULT_PORT: u16 = 7846;

/// The port of the HTTPS door.
pub const HTTPS_PORT: u16 = 7443;

/// The port of the NFS door.
pub const NFS_PORT: u16 = 2049;

/// A station's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What this station is called.
    pub name: StationName,
    /// Where it listens for other stations.
    pub listen: SocketAddr,
    /// What others dial to reach it, where that is not `listen`.
    pub address: Option<String>,
    /// Where it keeps everything.
    pub state: PathBuf,
    /// Where commands reach it.
    pub socket: PathBuf,
    /// In which zone times without an offset are.
    pub zone: Tz,
    /// The most each link sends, in bytes per second.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Where users come in.
    pub doors: Doors,
    /// When sources are compared whole.
    pub schedules: Schedules,
    /// What other stations may have done in the sets that this one masters.
    pub orders: Arc<Orders>,
}

/// Where the doors for users listen; none for a door that is off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doors {
    /// The network drive.
    pub nfs: Option<SocketAddr>,
    /// Logging in.
    pub https: Option<SocketAddr>,
    /// Where the drive lists `@versions`.
    pub show: Shown,
}

/// Where the drive lists `@versions`; it answers by name everywhere.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// At its top.
    #[default]
    Root,
    /// Nowhere.
    Never,
    /// In every folder.
    Everywhere,
}

impl From<Shown> for keepshare_namespace::Show {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Root => Self::Root,
            Shown::Never => Self::Never,
            Shown::Everywhere => Self::Everywhere,
        }
    }
}

impl Default for Doors {
    fn default() -> Self {
        let at = |port| Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        Self { nfs: at(NFS_PORT), https: at(HTTPS_PORT), show: Shown::default() }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: StationName,
    listen: Option<String>,
    address: Option<String>,
    state: Option<PathBuf>,
    socket: Option<PathBuf>,
    zone: Option<String>,
    bandwidth_bytes_per_s: Option<u64>,
    doors: Option<DoorsTable>,
    scan: Option<ScanTable>,
    retention: Option<RetentionTable>,
    scrub: Option<ScrubTable>,
    orders: Option<OrdersTable>,
}

/// The table `[doors]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DoorsTable {
    nfs: Option<String>,
    https: Option<String>,
    #[serde(default)]
    show: Shown,
}

/// What switches a door off, in place of an address.
const OFF: &str = "off";

impl Config {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Outcome<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::not_found(format!("there is no config {}", path.display()))
                    .hint(
                        "keepshare init --name NAME makes a first station, keepshare join adds one",
                    ));
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                return Err(error.context(format!("cannot read {}", path.display())).into());
            }
        };
        Self::of_text(&text)
            .map_err(|failure| failure.context(format!("{} is not usable", path.display())))
    }

    /// Reads the text of a file.
    pub fn of_text(text: &str) -> Outcome<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let hint = meant(error.message());
            Failure::usage(toml_error(text, &error))
                .hint(hint.unwrap_or_else(|| "correct it there, then start again".to_owned()))
        })?;
        let state = file.state.unwrap_or_else(folders::station_state);
        let zone = file.zone.as_deref().map_or_else(|| Ok(machine_zone()), parse_zone)?;
        Ok(Self {
            name: file.name,
            listen: file.listen.as_deref().map_or(Ok(default_listen()), parse_listen)?,
            address: file.address,
            socket: file.socket.unwrap_or_else(|| socket_in(&state)),
            state,
            zone,
            bandwidth_bytes_per_s: file.bandwidth_bytes_per_s,
            doors: file.doors.map_or_else(|| Ok(Doors::default()), DoorsTable::parse)?,
            schedules: Schedules::parse(
                file.scan.unwrap_or_default(),
                file.retention.unwrap_or_default(),
                file.scrub.unwrap_or_default(),
            )?,
            orders: Arc::new(Orders::parse(file.orders.unwrap_or_default())?),
        })
    }

    /// Returns where others reach this station, where the config says so: by its address, or by listening in one place.
    pub fn own_address(&self) -> Outcome<Option<StationAddress>> {
        if let Some(address) = &self.address {
            return parse_address(address).map(Some);
        }
        if self.listen.ip().is_unspecified() {
            return Ok(None);
        }
        parse_address(&self.listen.to_string()).map(Some)
    }

    /// Writes a first config, with comments, where there is none yet.
    pub fn create(&self, path: &Path) -> Outcome<()> {
        if path.exists() {
            return Err(Failure::refused(format!("there is a config {} already", path.display()))
                .hint("remove it to start over, or give another with --config"));
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir)
                .with_context(|| format!("cannot create the folder {}", dir.display()))?;
        }
        let written = files::write_synced(path, self.render().as_bytes(), 0o644);
        Ok(written.map_err(anyhow::Error::new)?)
    }

    fn render(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut text = String::from("# What this station is called in its cluster.\n");
        text += &format!("name = {}\n", quoted(self.name.as_str()));
        text += "\n# Where it listens for other stations.\n";
        text += &format!("listen = {}\n", quoted(&self.listen.to_string()));
        if let Some(address) = &self.address {
            text += "\n# What other stations dial to reach it.\n";
            text += &format!("address = {}\n", quoted(address));
        }
        text += "\n# Where it keeps its identity, its sets and every version.\n";
        text += &format!("state = {}\n", quoted(&self.state.to_string_lossy()));
        text +=
            "\n# The zone of times that are typed without an offset; without it, the machine's.\n";
        text += &format!("# zone = {}\n", quoted(self.zone.name()));
        text += "\n# The most that each link sends, in bytes per second; without it, no limit.\n";
        text += "# bandwidth_bytes_per_s = 12500000\n";
        let door = |at: Option<SocketAddr>| at.map_or_else(|| OFF.to_owned(), |at| at.to_string());
        text += "\n# Where users log in and where their drive is served; \"off\" for a door that is not wanted.\n";
        text += &format!("[doors]\nhttps = {}\n", quoted(&door(self.doors.https)));
        text += &format!("nfs = {}\n", quoted(&door(self.doors.nfs)));
        text += "\n# Where the drive lists @versions: root, never or everywhere; it answers by name everywhere.\n";
        text += "# show = \"root\"\n";
        text += "\n# When sources are compared whole, whatever was told of them: HH:MM, or a day and that.\n";
        text += "[scan]\n# at = \"03:00\"\n";
        text += "# And every so many seconds where others write to the source's file system: NFS, SMB, FUSE.\n";
        text += "# shared_every_s = 300\n";
        text += "\n# When versions are thinned by what keepshare retention show says.\n";
        text += "[retention]\n# at = \"01:00\"\n";
        text += "\n# In how many days what is kept is read to look for damage, and how much in a second at most.\n";
        text += "[scrub]\n# days = 30\n# mib_per_s = 8\n";
        text += "\n# What other stations may have done in the sets that this one masters: nothing, restore or roll-back.\n";
        text += "[orders]\n# default = \"roll-back\"\n";
        text
    }
}

impl DoorsTable {
    fn parse(self) -> Outcome<Doors> {
        let Doors { nfs, https, .. } = Doors::default();
        let door = |text: Option<String>, default, port| match text.as_deref() {
            None => Ok(default),
            Some(OFF) => Ok(None),
            Some(text) => parse_listen_at(text, Ipv4Addr::UNSPECIFIED.into(), port).map(Some),
        };
        let nfs = door(self.nfs, nfs, NFS_PORT)?;
        Ok(Doors { nfs, https: door(self.https, https, HTTPS_PORT)?, show: self.show })
    }
}

/// Returns a hint where a key is unknown: the one that was meant, of those that the error lists in backticks.
fn meant(error: &str) -> Option<String> {
    let mut words = error.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let (key, known) = (words.next()?, words.collect::<Vec<_>>());
    Some(format!("did you mean '{}'?", nearest(key, &known)?))
}

/// Returns on one line what is wrong with the TOML in `text`, and where.
pub fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().lines().collect::<Vec<_>>().join(", ");
    let before = error.span().and_then(|span| text.get(..span.start));
    // A key that is missing is nowhere.
    let Some(before) = before.filter(|_| !what.starts_with("missing field")) else { return what };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {what}")
}

/// Returns the socket to talk to when none is named: that of the default config, or of the default state.
pub fn default_socket() -> PathBuf {
    Config::load(&folders::station_config())
        .map_or_else(|_| socket_in(&folders::station_state()), |config| config.socket)
}

/// Returns the socket of a station that keeps its state here, where its config names no other.
pub fn socket_in(state: &Path) -> PathBuf {
    state.join("keepshare.sock")
}

/// Returns where a station listens when nobody says.
pub fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))
}

/// Reads `HOST:PORT` or `HOST`.
pub fn parse_address(text: &str) -> Outcome<StationAddress> {
    let with_port = format!("{text}:{DEFAULT_PORT}");
    text.parse().or_else(|error| {
        let bare_v6 = format!("[{text}]:{DEFAULT_PORT}");
        with_port.parse().or_else(|_| bare_v6.parse()).map_err(|_: AddressError| {
            Failure::because(Code::Usage, error).hint("write it like store.example:7846")
        })
    })
}

/// Reads `ADDRESS:PORT`, `ADDRESS`, `:PORT` or `PORT`.
pub fn parse_listen(text: &str) -> Outcome<SocketAddr> {
    parse_listen_at(text, Ipv6Addr::UNSPECIFIED.into(), DEFAULT_PORT)
}

/// Reads `ADDRESS:PORT`, `ADDRESS`, `:PORT` or `PORT`, with what stands for the part that is left out.
fn parse_listen_at(text: &str, everywhere: IpAddr, default_port: u16) -> Outcome<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::from((everywhere, port)));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, default_port))).map_err(|_| {
        Failure::usage(format!("'{text}' is not an address to listen on"))
            .hint(format!("write it like 0.0.0.0:{default_port} or [::1]:{default_port}"))
    })
}

fn parse_zone(name: &str) -> Outcome<Tz> {
    name.parse().map_err(|_| {
        let names: Vec<&str> = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
        let failure = Failure::usage(format!("'{name}' is not a time zone"));
        match nearest(name, &names) {
            Some(known) => failure.hint(format!("did you mean '{known}'?")),
            None => failure.hint("zones have names like Europe/Berlin"),
        }
    })
}

/// Returns the word that is nearest to `word`, if one is near enough to be what was meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = word.len() / 3 + 1;
    let (distance, best) =
        known.iter().map(|known| (strsim::levenshtein(word, known), *known)).min()?;
    (distance <= near).then_some(best)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keepshare_sets::schedule::Weekly;

    use super::*;

    #[test]
    fn a_config_reads_back_what_was_created() {
        let config = Config {
            name: "store".parse().unwrap(),
            listen: "10.0.0.1:7000".parse().unwrap(),
            address: Some("store.example:7000".to_owned()),
            state: PathBuf::from("/srv/a \"quoted\" folder"),
            socket: PathBuf::from("/srv/a \"quoted\" folder/keepshare.sock"),
            zone: machine_zone(),
            bandwidth_bytes_per_s: None,
            doors: Doors {
                nfs: None,
                https: Some("127.0.0.1:1234".parse().unwrap()),
                show: Shown::default(),
            },
            schedules: Schedules::default(),
            orders: Arc::default(),
        };
        assert_eq!(Config::of_text(&config.render()).unwrap(), config);
    }

    #[test]
    fn a_key_nobody_knows_is_an_error_with_a_suggestion() {
        let failure = Config::of_text("name = \"a\"\nlisten_ = \"1\"\n").unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.to_string().starts_with("line 2, column 1: unknown field `listen_`"));
        assert_eq!(failure.hint.as_deref(), Some("did you mean 'listen'?"));
        let failure = Config::of_text("name = \"a\"\nxyzzyxyzzy = 1\n").unwrap_err();
        assert!(failure.to_string().contains("expected one of `name`, `listen`"), "{failure}");
        let failure = Config::of_text("name = \"a\"\n[scan]\nshared_every = 60\n").unwrap_err();
        assert!(failure.to_string().starts_with("line 3, column 1: unknown field `shared_every`"));
        assert_eq!(failure.hint.as_deref(), Some("did you mean 'shared_every_s'?"));
    }

    #[test]
    fn work_is_done_when_the_config_says() {
        let read =
            |text: &str| Config::of_text(&format!("name = \"a\"\n{text}")).map(|c| c.schedules);
        assert_eq!(read("").unwrap(), Schedules::default());
        let text = "[scan]\nat = \"sun 04:30\"\nshared_every_s = 60\n[retention]\nat = \"22:00\"";
        let at = |text: &str| Weekly::parse(text).unwrap();
        let (scan_at, thin_at) = (at("sun 04:30"), at("22:00"));
        let shared_every = Duration::from_secs(60);
        assert_eq!(
            read(text).unwrap(),
            Schedules { scan_at, shared_every, thin_at, ..Schedules::default() }
        );
        for text in [
            "[scan]\nat = \"25:00\"",
            "[scan]\nshared_every_s = 0",
            "[scan]\nshared_every_s = 29",
            "[scan]\nevery = 1",
            "[retention]\nat = \"tomorrow\"",
        ] {
            assert_eq!(read(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("name = ", "line 1"),
            ("name = \"a\"\nlisten = [", "line 2"),
            ("name = \"a\"\n\n  zone = 5", "line 3, column 10: invalid type"),
            ("listen = \"1\"", "name"),
            ("name = \"A b\"", "'A b'"),
            ("name = \"a\"\nlisten = \"everywhere\"", "'everywhere'"),
            ("name = \"a\"\nzone = \"Europe/Berlim\"", "'Europe/Berlim'"),
            ("name = \"a\"\nstate = 3", "string"),
        ] {
            let failure = Config::of_text(text).unwrap_err();
            assert!(failure.to_string().contains(word), "{text}: {failure}");
            assert!(!failure.to_string().contains('\n'), "{text}: {failure}");
        }
        let failure = Config::of_text("name = \"a\"\nzone = \"Europe/Berlim\"").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean 'Europe/Berlin'?"));
    }

    #[test]
    fn orders_are_read_and_a_wrong_word_is_named() {
        let read = |text: &str| Config::of_text(&format!("name = \"a\"\n{text}"));
        let config =
            read("[orders]\ndefault = \"restore\"\n\"plans.attic\" = \"nothing\"").unwrap();
        let may = |station: &str| {
            config.orders.of(&"plans".parse().unwrap(), &station.parse().unwrap()).word()
        };
        assert_eq!([may("attic"), may("store")], ["nothing", "restore"]);
        for (text, word) in [
            ("[orders]\nattic = \"all\"", "'all'"),
            ("[orders]\nattic = 1", "invalid type"),
            ("[orders]\nplans.attic = \"nothing\"", "invalid type"),
        ] {
            let failure = read(text).unwrap_err();
            assert!(failure.to_string().contains(word), "{text}: {failure}");
        }
    }

    #[test]
    fn doors_are_open_unless_they_are_switched_off() {
        let doors = |text: &str| Config::of_text(&format!("name = \"a\"\n{text}")).map(|c| c.doors);
        assert_eq!(doors("").unwrap(), Doors::default());
        let all = Doors::default();
        assert_eq!(all.https.unwrap().to_string(), "0.0.0.0:7443");
        assert_eq!(all.nfs.unwrap().to_string(), "0.0.0.0:2049");
        let some = doors("[doors]\nnfs = \"off\"\nhttps = \"127.0.0.1\"").unwrap();
        assert_eq!((some.nfs, some.https), (None, Some("127.0.0.1:7443".parse().unwrap())));
        assert_eq!(doors("[doors]\nnfs = \":1\"").unwrap().nfs.unwrap().to_string(), "0.0.0.0:1");
        for (text, word) in [
            ("[doors]\nhttp = \"1\"", "line 3, column 1: unknown field `http`"),
            ("[doors]\nnfs = \"on\"", "'on' is not an address"),
            ("doors = 5", "invalid type"),
        ] {
            let failure = doors(text).unwrap_err();
            assert!(failure.to_string().contains(word), "{text}: {failure}");
        }
    }

    #[test]
    fn addresses_to_listen_on_may_be_short() {
        for (text, expected) in [
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("127.0.0.1", "127.0.0.1:7846"),
            ("[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:7846"),
            ("::1", "[::1]:7846"),
            (":8", "[::]:8"),
            ("8", "[::]:8"),
        ] {
            assert_eq!(parse_listen(text).unwrap().to_string(), expected, "{text}");
        }
        assert!(parse_listen("host.example").is_err());
    }
}
