//! What a command line can ask for.

use std::net::{IpAddr, Ipv4Addr};

use crate::service::ServiceKey;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`
    AddService(ServiceKey, ServiceOptions),
    /// `-E`: all options are set, those that are not given to their defaults.
    EditService(ServiceKey, ServiceOptions),
    /// `-D`
    DeleteService(ServiceKey),
    /// `-C`
    Clear,
    /// `-a`
    AddServer(ServiceKey, ServerOptions),
    /// `-e`: the weight is set, to 1 if it is not given.
    EditServer(ServiceKey, ServerOptions),
    /// `-d`
    DeleteServer(ServiceKey, IpAddr),
    /// `--set`; a timeout of 0 stays what it is.
    SetTimeouts(Timeouts),
    /// `-Z`: of one service, or of all.
    Zero(Option<ServiceKey>),
    /// `-L`
    List(Listing),
    /// `-S`
    Save {
        /// `-n`
        numeric: bool,
    },
    /// `-R`
    Restore,
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// Options of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// `-s`, the name of a scheduler that the director has.
    pub scheduler: String,
    /// `-b`, as far as it means something for the scheduler.
    pub flags: ServiceFlags,
    /// `-p`, in seconds.
    pub persistence_s: Option<u32>,
    /// `-M`, unless it is that of a single address.
    pub netmask: Option<Netmask>,
}

/// Flags of the schedulers `mh` and `sh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFlags {
    /// `mh-fallback`, `sh-fallback`, `flag-1`.
    pub fallback: bool,
    /// `mh-port`, `sh-port`, `flag-2`: the source port is hashed, too.
    pub port: bool,
}

/// Which clients persistence takes for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// The bits of an IPv4 address that count.
    V4(Ipv4Addr),
    /// The leading bits of an IPv6 address that count, 1 to 127.
    V6(u8),
}

/// A real server that is added or edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Its address.
    pub address: IpAddr,
    /// `-w`, 0 to 2147483647.
    pub weight: u32,
    /// `-x`; 0 is no limit.
    pub upper_threshold: u32,
    /// `-y`; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
}

/// `--set tcp tcpfin udp`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of an established TCP connection.
    pub tcp_s: u32,
    /// Of one whose client has sent FIN.
    pub tcp_fin_s: u32,
    /// Of a UDP flow.
    pub udp_s: u32,
}

/// What `-L` lists, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What.
    pub what: ListWhat,
    /// Which columns.
    pub counted: Counted,
    /// `-n`
    pub numeric: bool,
    /// `--exact`
    pub exact: bool,
    /// `--nosort`
    pub unsorted: bool,
    /// `--tun-info`
    pub tunnels: bool,
}

/// What is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListWhat {
    /// All services.
    #[default]
    Table,
    /// One service.
    Service(ServiceKey),
    /// `-c`
    Connections,
    /// `--timeout`
    Timeouts,
    /// `--daemon`
    Daemon,
}

/// The columns of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// Weight and connections.
    #[default]
    Weights,
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    Persistent,
}
