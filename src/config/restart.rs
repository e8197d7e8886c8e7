//! Which settings a running director cannot take over from a new file.
//!
//! Virtual services, real servers, weights, MACs, the secret, timeouts, virtual MACs, who answers for VIPs and `replay`'s MTU are
//! published while packets flow. All else shapes sockets, threads and the XDP program, and stays as it was until a restart.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, DirectorConfig, InterfaceConfig, size};

/// A setting that the new file changes and that stays as it was until the director is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartNeeded {
    /// Full path of the key; an interface goes by its name: `interface[eth0].rx_ring`.
    pub key: String,
    /// The value that stays in force.
    pub old: String,
    /// The value in the new file.
    pub new: String,
}

impl fmt::Display for RestartNeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        write!(f, "{key}: stays {old}; restart the director to make it {new}")
    }
}

impl Config {
    /// What `new` changes that only a restart can apply, in the order of `self`; empty = a reload applies all of it.
    #[must_use]
    pub fn restart_differences(&self, new: &Self) -> Vec<RestartNeeded> {
        let mut differences =
            differences("director", restart_director(&self.director), restart_director(&new.director));
        let mut added: BTreeMap<&str, &InterfaceConfig> =
            new.interfaces.iter().map(|interface| (interface.name.as_str(), interface)).collect();
        for old in &self.interfaces {
            let path = format!("interface[{}]", old.name);
            match added.remove(old.name.as_str()) {
                Some(new) => {
                    differences.extend(self::differences(&path, restart_interface(old), restart_interface(new)))
                }
                None => differences.push(RestartNeeded { key: path, old: "there".into(), new: "absent".into() }),
            }
        }
        differences.extend(added.into_keys().map(|name| RestartNeeded {
            key: format!("interface[{name}]"),
            old: "absent".into(),
            new: "there".into(),
        }));
        differences
    }
}

type Settings = Vec<(&'static str, String)>;

fn differences(path: &str, old: Settings, new: Settings) -> Vec<RestartNeeded> {
    old.into_iter()
        .zip(new)
        .filter(|((_, old), (_, new))| old != new)
        .map(|((name, old), (_, new))| RestartNeeded { key: format!("{path}.{name}"), old, new })
        .collect()
}

// Both functions name every field, so that a new one cannot be forgotten here.

fn restart_director(director: &DirectorConfig) -> Settings {
    let DirectorConfig {
        secret: _,
        control_socket,
        control_socket_mode,
        control_socket_owner,
        control_socket_group,
        no_socket,
        flows_per_worker,
        stats_file,
        stats_interval,
        stats_format,
        stats_rotate,
        stats_keep,
        prometheus_listen,
        stats_softirq,
        announce: _,
        announce_at_start: _,
        tcp_timeout_s: _,
        tcp_fin_timeout_s: _,
        udp_timeout_s: _,
    } = director;
    vec![
        ("control_socket", as_json(control_socket)),
        ("control_socket_mode", format!("\"{control_socket_mode:04o}\"")),
        ("control_socket_owner", as_json(control_socket_owner)),
        ("control_socket_group", as_json(control_socket_group)),
        ("no_socket", as_json(no_socket)),
        ("flows_per_worker", flows_per_worker.to_string()),
        ("stats_file", as_json(stats_file)),
        ("stats_interval_ms", stats_interval.as_millis().to_string()),
        ("stats_format", as_json(stats_format)),
        ("stats_rotate", format!("\"{}\"", size::format(*stats_rotate))),
        ("stats_keep", stats_keep.to_string()),
        ("prometheus_listen", as_json(prometheus_listen)),
        ("stats_softirq", as_json(stats_softirq)),
    ]
}

fn restart_interface(interface: &InterfaceConfig) -> Settings {
    let InterfaceConfig {
        name: _,
        queues,
        cores,
        receive,
        mode,
        copy,
        poll,
        idle_spin,
        busy_poll,
        rx_ring,
        tx_ring,
        fill_ring,
        completion_ring,
        frames,
        frame_size,
        batch,
        huge_pages,
        tx_hold,
        virtual_macs: _,
        mtu: _,
    } = interface;
    vec![
        ("queues", as_json(queues)),
        ("cores", as_json(cores)),
        ("receive", receive.to_string()),
        ("mode", as_json(mode)),
        ("copy", as_json(copy)),
        ("poll", as_json(poll)),
        ("idle_spin_us", idle_spin.as_micros().to_string()),
        ("busy_poll", as_json(busy_poll)),
        ("rx_ring", rx_ring.to_string()),
        ("tx_ring", tx_ring.to_string()),
        ("fill_ring", fill_ring.to_string()),
        ("completion_ring", completion_ring.to_string()),
        ("frames", as_json(frames)),
        ("frame_size", as_json(frame_size)),
        ("batch", batch.to_string()),
        ("huge_pages", huge_pages.to_string()),
        ("tx_hold_us", tx_hold.as_micros().to_string()),
    ]
}

/// A value as the control socket shows it; what is not set reads "not set".
fn as_json<T: Serialize + fmt::Debug>(value: &T) -> String {
    match serde_json::to_string(value) {
        Ok(text) if text == "null" => "not set".to_owned(),
        Ok(text) => text,
        // A path that is not UTF-8, which no file can hold.
        Err(_) => format!("{value:?}"),
    }
}
