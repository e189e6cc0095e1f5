//! Machines of our own: network namespaces on one wire.
//!
//! Every namespace hangs by a veth pair on a bridge that lives in a namespace of its own, so the machine's network is
//! not touched. The wire of one host can be pulled and its bytes counted. There is no loss or delay here: that is what
//! the relay is for. Root only.

use std::{
    path::PathBuf,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

use crate::tools;

/// Hosts on one wire; the namespaces are removed on drop.
#[derive(Debug)]
pub struct Network {
    hub: String,
    hosts: Vec<String>,
}

/// Bytes that went over one host's wire, as the host sees them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// To the host.
    pub received: u64,
    /// From the host.
    pub sent: u64,
}

impl Traffic {
    /// Returns the bytes of both directions since an earlier count.
    pub fn since(self, earlier: Self) -> u64 {
        self.received + self.sent - earlier.received - earlier.sent
    }
}

impl Network {
    /// Tells why no network can be made here, if so.
    pub fn hindrance() -> Option<&'static str> {
        if !tools::is_root() {
            Some("network namespaces need root")
        } else if tools::installed("ip").is_none() || tools::installed("nsenter").is_none() {
            Some("ip (iproute2) or nsenter (util-linux) is not installed")
        } else {
            None
        }
    }

    /// Makes a network with so many hosts, at most 200.
    pub fn new(hosts: usize) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(reason) = Self::hindrance() {
            bail!("{reason}");
        }
        assert!(hosts <= 200, "{hosts} hosts do not fit one small network");
        let stem = format!("ks{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { hub: format!("{stem}-hub"), hosts: Vec::new() };
        ip(&["netns", "add", &network.hub])?;
        ip(&["-n", &network.hub, "link", "add", "wire", "type", "bridge"])?;
        ip(&["-n", &network.hub, "link", "set", "wire", "up"])?;
        for index in 0..hosts {
            network.add_host(format!("{stem}-{index}"))?;
        }
        Ok(network)
    }

    /// Returns the address of a host.
    pub fn address(&self, host: usize) -> String {
        format!("10.99.0.{}", host + 1)
    }

    /// Returns the words before a command line that make it run on a host.
    pub fn enter(&self, host: usize) -> Vec<String> {
        let path = PathBuf::from("/run/netns").join(&self.hosts[host]);
        vec!["nsenter".to_owned(), format!("--net={}", path.display()), "--".to_owned()]
    }

    /// Pulls a host's plug: no packet gets through, and nobody is told.
    pub fn unplug(&self, host: usize) -> Result<()> {
        ip(&["-n", &self.hub, "link", "set", &port(host), "down"])
    }

    /// Puts a host's plug back.
    pub fn plug(&self, host: usize) -> Result<()> {
        ip(&["-n", &self.hub, "link", "set", &port(host), "up"])
    }

    /// Returns the bytes on a host's wire so far, headers of the link included.
    pub fn traffic(&self, host: usize) -> Result<Traffic> {
        let wrapper = self.enter(host);
        let output = tools::run(
            Command::new(&wrapper[0]).args(&wrapper[1..]).args(["cat", "/proc/net/dev"]),
        )?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let fields: Vec<u64> =
            line.unwrap_or_default().split_whitespace().filter_map(|f| f.parse().ok()).collect();
        match fields.as_slice() {
            [received, _, _, _, _, _, _, _, sent, ..] => {
                Ok(Traffic { received: *received, sent: *sent })
            }
            _ => bail!("/proc/net/dev has no counters of eth0:\n{text}"),
        }
    }

    fn add_host(&mut self, name: String) -> Result<()> {
        let host = self.hosts.len();
        let (port, address) = (port(host), format!("{}/24", self.address(host)));
        ip(&["netns", "add", &name])?;
        self.hosts.push(name.clone());
        let hub = self.hub.clone();
        let pair = ["type", "veth", "peer", "name"];
        let link = ["link", "add", "eth0", "netns", &name];
        ip(&[&link[..], &pair[..], &[&port, "netns", &hub]].concat())?;
        ip(&["-n", &hub, "link", "set", &port, "master", "wire"])?;
        ip(&["-n", &hub, "link", "set", &port, "up"])?;
        ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.hub]) {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("the namespace {name} is left over: {error:#}");
            }
        }
    }
}

fn port(host: usize) -> String {
    format!("port{host}")
}

fn ip(args: &[&str]) -> Result<()> {
    let program = tools::installed("ip").context("ip (iproute2) is not installed")?;
    tools::run(Command::new(program).args(args)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait::wait_until;

    fn reaches(network: &Network, from: usize, to: usize) -> bool {
        let script = format!("exec 3<>/dev/tcp/{}/7", network.address(to));
        let wrapper = network.enter(from);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(["timeout", "1", "bash", "-c", &script]);
        // Nobody listens there: a refusal is an answer, silence is none.
        command.output().unwrap().status.code() == Some(1)
    }

    /// A cut must cut, a heal must heal, and both must be counted.
    #[test]
    fn hosts_meet_until_a_plug_is_pulled() {
        if let Some(reason) = Network::hindrance() {
            return tools::skip("hosts_meet_until_a_plug_is_pulled", reason);
        }
        let network = Network::new(2).unwrap();
        let before = network.traffic(0).unwrap();
        wait_until(Duration::from_secs(10), "the hosts meet", || reaches(&network, 0, 1)).unwrap();
        assert!(network.traffic(0).unwrap().since(before) > 0);
        network.unplug(1).unwrap();
        assert!(!reaches(&network, 0, 1));
        network.plug(1).unwrap();
        wait_until(Duration::from_secs(10), "they meet again", || reaches(&network, 0, 1)).unwrap();
        let names: Vec<_> = network.hosts.clone();
        drop(network);
        assert!(names.iter().all(|n| !PathBuf::from("/run/netns").join(n).exists()));
    }
}
