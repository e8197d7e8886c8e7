//! Directors on machines whose kernels do not have the VIPs, and what is said of them.

use std::net::IpAddr;
use std::process::Output;

use serde_json::Value;

use super::director::{Config, Director, pointsman};
use super::{Host, Lab, Shape};

/// A laboratory in which no kernel of a director has the VIPs.
pub fn without_vips(shape: Shape) -> Option<Lab> {
    let lab = Lab::up(shape)?;
    for vip in ["192.168.88.15/32", "fd00:88::15/128"] {
        lab.ip(Host::Director, &format!("address del {vip} dev eth0"));
    }
    Some(lab)
}

pub fn by_arp() -> Config {
    Config::usual().director("announce = \"arp\"").director("flows_per_worker = 16384")
}

/// `pointsman announce` with these words.
pub fn announce(lab: &Lab, director: &Director, words: &[&str]) -> Output {
    let mut command = lab.command(Host::Client, pointsman());
    command.arg("announce").args(words).arg("--socket").arg(director.control_socket()).output().unwrap()
}

/// What it says of a VIP.
pub fn vip_status(lab: &Lab, director: &Director, vip: IpAddr) -> Value {
    let output = announce(lab, director, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let found = status["vips"].as_array().unwrap().iter().find(|found| found["vip"] == vip.to_string());
    found.unwrap_or_else(|| panic!("{vip} in {status:#}")).clone()
}

/// Whether a host has an answer to a ping.
pub fn pings(lab: &Lab, from: Host, vip: IpAddr) -> bool {
    ping(lab, from, vip, &["-c", "1", "-W", "2"]).status.success()
}

pub fn ping(lab: &Lab, from: Host, vip: IpAddr, options: &[&str]) -> Output {
    lab.command(from, "ping").args(options).arg(vip.to_string()).output().unwrap()
}

/// The MAC address that a host has for an address.
pub fn neighbor(lab: &Lab, host: Host, address: IpAddr) -> Option<String> {
    let shown = lab.ip(host, &format!("neighbour show to {address} dev eth0"));
    shown.split_once("lladdr ").map(|(_, rest)| rest.split_whitespace().next().unwrap().to_owned())
}
