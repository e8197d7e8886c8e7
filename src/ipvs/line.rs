//! From a command line to what it asks for.

use std::net::Ipv4Addr;

use super::address::{self, Named};
use super::command::{
    Command, Counted, ListWhat, Listing, Netmask, ServerOptions, ServiceFlags, ServiceOptions, Timeouts,
};
use super::legal;
use super::popt::{Given, Opt, Scanned, scan};
use super::{Refusal, SCHEDULERS};
use crate::config::{MAX_THRESHOLD, MAX_TIMEOUT_S, MAX_WEIGHT};
use crate::service::{Protocol, ServiceKey};

/// Timeout of `-p` without one, in seconds.
const DEFAULT_PERSISTENCE_S: u32 = 360;
/// The scheduler where none is named.
const DEFAULT_SCHEDULER: &str = "wlc";

/// Reads a command line, given without the program's name; `program` is that name.
///
/// # Errors
/// A line that ipvsadm refuses, or one that asks for what pointsman does not have.
pub fn parse(program: &str, arguments: &[String]) -> Result<Command, Refusal> {
    if arguments.is_empty() {
        return Ok(Command::List(Listing::default()));
    }
    let Scanned { options, words, bad } = scan(arguments);
    let Some((command, options)) = options.split_first() else { return Err(Refusal::try_help(program)) };
    match command.option {
        Opt::Help => return Ok(Command::Help),
        Opt::Version => return Ok(Command::Version),
        Opt::StartDaemon | Opt::StopDaemon if !matches!(command.argument, Some("master" | "backup")) => {
            let what = if command.option == Opt::StartDaemon { "start-daemon parameter" } else { "start_daemon" };
            return Err(Refusal::line(format!("illegal {what} specified")));
        }
        option if option.kind().is_some() || matches!(option, Opt::Sort | Opt::Ipv6) => {
            return Err(Refusal::try_help(program));
        }
        _ => {}
    }
    let mut line = Line::default();
    for given in options {
        line.take(given)?;
    }
    if let Some(bad) = bad {
        return Err(Refusal::by_ipvs(bad.to_string()));
    }
    let mut words = words.as_slice();
    let timeouts = if command.option == Opt::Set { Some(timeouts(&mut words)?) } else { None };
    if let Some(word) = words.first() {
        return Err(Refusal::line(format!("unexpected argument {word}")));
    }
    let flags = line.scheduler_flags()?;
    legal::check(command.option, &line.kinds)?;
    line.command(command.option, flags, timeouts)
}

fn timeouts(words: &mut &[&str]) -> Result<Timeouts, Refusal> {
    let [tcp, tcp_fin, udp, rest @ ..] = words else {
        return Err(Refusal::line("--set option requires 3 timeout values"));
    };
    let read = Timeouts { tcp_s: timeout(tcp, 0)?, tcp_fin_s: timeout(tcp_fin, 0)?, udp_s: timeout(udp, 0)? };
    *words = rest;
    Ok(read)
}

fn timeout(text: &str, least: i64) -> Result<u32, Refusal> {
    let number = address::number(text, least, MAX_TIMEOUT_S.into()).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| Refusal::line(format!("invalid timeout value `{text}' specified")))
}

/// What the options of a line have said so far.
#[derive(Debug, Default)]
struct Line {
    kinds: Vec<Opt>,
    service: Option<(Target, Named)>,
    scheduler: Option<String>,
    flags: Option<String>,
    persistence_s: Option<u32>,
    netmask: Option<Netmask>,
    one_packet: bool,
    engine: Option<String>,
    server: Option<Named>,
    forward: Option<Opt>,
    tunnel: Option<String>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    listing: Listing,
}

/// What kind of service is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Of(Protocol),
    Sctp,
    Fwmark,
}

impl Line {
    fn take(&mut self, given: &Given<'_>) -> Result<(), Refusal> {
        if let Some(kind) = given.option.kind() {
            if self.kinds.contains(&kind) {
                return Err(Refusal::line(format!("multiple '{}' options specified", kind.name())));
            }
            self.kinds.push(kind);
        }
        let argument = given.argument.unwrap_or_default();
        match given.option {
            Opt::TcpService => self.take_service(Target::Of(Protocol::Tcp), argument)?,
            Opt::UdpService => self.take_service(Target::Of(Protocol::Udp), argument)?,
            Opt::SctpService => self.take_service(Target::Sctp, argument)?,
            Opt::FwmarkService => {
                let mark = address::number(argument, 1, u32::MAX.into());
                mark.ok_or_else(|| Refusal::line(format!("invalid fwmark value `{argument}' specified")))?;
                self.service = Some((Target::Fwmark, Named { address: Ipv4Addr::UNSPECIFIED.into(), port: None }));
            }
            Opt::Ipv6 if !matches!(self.service, Some((Target::Fwmark, _))) => {
                return Err(Refusal::line("-6 used before -f"));
            }
            Opt::Scheduler => self.scheduler = Some(argument.chars().take(15).collect()),
            Opt::SchedFlags => self.flags = Some(argument.to_owned()),
            Opt::Persistent => {
                let read = given.argument.map(|text| timeout(text, 1)).transpose()?;
                self.persistence_s = Some(read.unwrap_or(DEFAULT_PERSISTENCE_S));
            }
            Opt::Netmask => self.take_netmask(argument)?,
            Opt::Ops => self.one_packet = true,
            Opt::PersistenceEngine => self.engine = Some(argument.to_owned()),
            Opt::RealServer => {
                let protocol = match self.service {
                    Some((Target::Of(protocol), _)) => Some(protocol),
                    _ => None,
                };
                let named = address::parse(argument, protocol);
                self.server = Some(named.ok_or_else(|| illegal("real server address[:port]"))?);
            }
            Opt::Masquerading | Opt::Ipip | Opt::Gatewaying => self.forward = Some(given.option),
            Opt::Weight => {
                let weight =
                    address::number(argument, 0, MAX_WEIGHT.into()).and_then(|weight| u32::try_from(weight).ok());
                self.weight = Some(weight.ok_or_else(|| illegal("weight"))?);
            }
            Opt::UThreshold => self.upper_threshold = threshold(argument, "u_threshold")?,
            Opt::LThreshold => self.lower_threshold = threshold(argument, "l_threshold")?,
            Opt::TunType if !matches!(argument, "ipip" | "gue" | "gre") => return Err(illegal("tunnel type")),
            Opt::TunType => self.tunnel = Some(argument.to_owned()),
            Opt::TunPort if address::number(argument, 1, 65_535).is_none() => return Err(illegal("tunnel port")),
            Opt::Syncid if address::number(argument, 0, 255).is_none() => return Err(illegal("syncid")),
            Opt::McastPort if address::number(argument, 1, 65_535).is_none() => return Err(illegal("mcast-port")),
            Opt::McastTtl if address::number(argument, 1, 255).is_none() => return Err(illegal("mcast-ttl")),
            Opt::SyncMaxlen if address::number(argument, 1, 65_535 - 20 - 8).is_none() => {
                return Err(illegal("sync-maxlen"));
            }
            option if option.kind().is_some() || matches!(option, Opt::Sort | Opt::Ipv6) => self.take_listing(option),
            // A second command; of one with an argument ipvsadm names that.
            _ => return Err(Refusal::line(format!("invalid option `{}'", given.argument.unwrap_or(given.word)))),
        }
        Ok(())
    }

    fn take_service(&mut self, target: Target, text: &str) -> Result<(), Refusal> {
        let protocol = if let Target::Of(protocol) = target { Some(protocol) } else { None };
        let named = address::parse(text, protocol).ok_or_else(|| illegal("virtual server address[:port]"))?;
        // The mask of another family that was given before is forgotten, as it is in ipvsadm.
        if named.address.is_ipv6() {
            self.netmask = None;
        }
        self.service = Some((target, named));
        Ok(())
    }

    fn take_netmask(&mut self, text: &str) -> Result<(), Refusal> {
        let is_v6 = self.service.is_some_and(|(_, named)| named.address.is_ipv6());
        self.netmask = if is_v6 {
            let bits = address::number(text, 1, 128).and_then(|bits| u8::try_from(bits).ok());
            let bits = bits.ok_or_else(|| Refusal::line("illegal ipv6 netmask specified"))?;
            (bits != 128).then_some(Netmask::V6(bits))
        } else {
            let mask = address::parse_ipv4(text).ok_or_else(|| illegal("virtual server persistent mask"))?;
            (mask != Ipv4Addr::BROADCAST).then_some(Netmask::V4(mask))
        };
        Ok(())
    }

    fn take_listing(&mut self, option: Opt) {
        match option {
            Opt::Numeric => self.listing.numeric = true,
            Opt::Exact => self.listing.exact = true,
            Opt::NoSort => self.listing.unsorted = true,
            Opt::TunInfo => self.listing.tunnels = true,
            Opt::Connection => self.listing.what = ListWhat::Connections,
            Opt::Timeout => self.listing.what = ListWhat::Timeouts,
            Opt::Daemon => self.listing.what = ListWhat::Daemon,
            _ => {}
        }
    }

    /// The flags of `-b`, which are those of one scheduler, or the bits that they stand for.
    fn scheduler_flags(&self) -> Result<ServiceFlags, Refusal> {
        let mut flags = ServiceFlags::default();
        let Some(text) = self.flags.as_deref().filter(|text| !text.is_empty()) else { return Ok(flags) };
        let scheduler = self.scheduler.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SCHEDULER);
        let mut names = text.split(',').filter(|name| !name.is_empty()).peekable();
        if names.peek().is_none() {
            return Err(Refusal::line(format!("invalid scheduler flag `{text}'")));
        }
        for name in names {
            let of = match name {
                "flag-1" | "flag-2" | "flag-3" => scheduler,
                "mh-fallback" | "mh-port" => "mh",
                "sh-fallback" | "sh-port" => "sh",
                _ => return Err(Refusal::line(format!("invalid scheduler flag `{name}'"))),
            };
            if of != scheduler {
                return Err(Refusal::line(format!("incompatible scheduler flag `{name}'")));
            }
            let means_something = matches!(scheduler, "mh" | "sh");
            flags.fallback |= means_something && matches!(name, "flag-1" | "mh-fallback" | "sh-fallback");
            flags.port |= means_something && matches!(name, "flag-2" | "mh-port" | "sh-port");
        }
        Ok(flags)
    }

    /// The whole of it. The options are known to go with the command.
    fn command(self, command: Opt, flags: ServiceFlags, set: Option<Timeouts>) -> Result<Command, Refusal> {
        if matches!(command, Opt::AddService | Opt::EditService) {
            self.check_service()?;
        }
        if matches!(command, Opt::AddServer | Opt::EditServer) {
            self.check_server()?;
        }
        let service = self.service()?;
        Ok(match (command, service) {
            (Opt::AddService, Some(service)) => Command::AddService(service, self.service_options(flags)?),
            (Opt::EditService, Some(service)) => Command::EditService(service, self.service_options(flags)?),
            (Opt::DeleteService, Some(service)) => Command::DeleteService(service),
            (Opt::AddServer, Some(service)) => Command::AddServer(service, self.server_options(service)?),
            (Opt::EditServer, Some(service)) => Command::EditServer(service, self.server_options(service)?),
            (Opt::DeleteServer, Some(service)) => {
                let server = self.server.ok_or_else(|| illegal("real server address[:port]"))?;
                if server.port.is_some_and(|port| port != service.port) {
                    return Err(Refusal::by_ipvs("No such destination"));
                }
                Command::DeleteServer(service, server.address)
            }
            (Opt::Clear, _) => Command::Clear,
            (Opt::Set, _) => Command::SetTimeouts(set.unwrap_or(Timeouts { tcp_s: 0, tcp_fin_s: 0, udp_s: 0 })),
            (Opt::Zero, service) => Command::Zero(service),
            (Opt::List, service) => Command::List(self.listing(service)),
            (Opt::Save, _) => Command::Save { numeric: self.listing.numeric },
            (Opt::Restore, _) => Command::Restore,
            (Opt::StopDaemon, _) => return Err(Refusal::by_ipvs("No daemon is running")),
            _ => {
                return Err(Refusal::line(
                    "pointsman has no connection sync daemon; directors with the same secret and the same real servers \
                     choose the same real server for each flow (schedulers mh and sh)",
                ));
            }
        })
    }

    fn check_service(&self) -> Result<(), Refusal> {
        let Some((target, named)) = self.service else { return Ok(()) };
        if target != Target::Fwmark && named.port.unwrap_or(0) == 0 && self.persistence_s.is_none() {
            return Err(Refusal::line("Zero port specified for non-persistent service"));
        }
        if self.one_packet && !matches!(target, Target::Fwmark | Target::Of(Protocol::Udp)) {
            return Err(Refusal::line("One-Packet Scheduling is only for UDP virtual services"));
        }
        Ok(())
    }

    fn check_server(&self) -> Result<(), Refusal> {
        let (Some((_, service)), Some(server)) = (self.service, self.server) else { return Ok(()) };
        if service.address.is_ipv4() != server.address.is_ipv4() && self.forward != Some(Opt::Ipip) {
            return Err(Refusal::line("Different address family is allowed only for tunneling servers"));
        }
        if self.forward != Some(Opt::Ipip) && self.kinds.iter().any(|kind| *kind >= Opt::TunType) {
            return Err(Refusal::line("Tunnel options conflict with forward method"));
        }
        let of_gue = |kind: &&Opt| **kind > Opt::TunType;
        if self.forward == Some(Opt::Ipip)
            && self.tunnel.as_deref().is_none_or(|tunnel| tunnel == "ipip")
            && let Some(option) = self.kinds.iter().filter(of_gue).min()
        {
            let option = option.name();
            return Err(Refusal::line(format!("Illegal '{option}' option with the 'ipip' tunnel type")));
        }
        let (option, method) = match self.forward {
            Some(Opt::Ipip) => ("-i", "tunneling"),
            Some(Opt::Masquerading) => ("-m", "masquerading"),
            _ => return Ok(()),
        };
        Err(Refusal::line(format!(
            "pointsman forwards by direct routing (-g) alone: it has no {method} ({option}); give the real server the VIP \
             on its loopback interface and leave {option} out"
        )))
    }

    /// The service that is named, if it is one that pointsman can have.
    fn service(&self) -> Result<Option<ServiceKey>, Refusal> {
        let Some((target, named)) = self.service else { return Ok(None) };
        let lacks = |what| {
            Err(Refusal::line(format!(
                "pointsman has no {what}; name the service by its address and port, with -t (TCP) or -u (UDP)"
            )))
        };
        match target {
            Target::Of(protocol) => {
                Ok(Some(ServiceKey { vip: named.address, protocol, port: named.port.unwrap_or(0) }))
            }
            Target::Sctp => lacks("SCTP services (--sctp-service)"),
            Target::Fwmark => lacks("services by firewall mark (-f)"),
        }
    }

    fn service_options(&self, flags: ServiceFlags) -> Result<ServiceOptions, Refusal> {
        let scheduler = self.scheduler.clone().filter(|name| !name.is_empty());
        let scheduler = scheduler.unwrap_or_else(|| DEFAULT_SCHEDULER.to_owned());
        if !SCHEDULERS.contains(&scheduler.as_str()) {
            return Err(Refusal::by_ipvs(format!(
                "Scheduler or persistence engine not found: pointsman has no {scheduler}; it has {}",
                SCHEDULERS.join(", ")
            )));
        }
        if let Some(engine) = &self.engine {
            return Err(Refusal::by_ipvs(format!(
                "Scheduler or persistence engine not found: pointsman has no {engine} (--pe), nor any other"
            )));
        }
        if self.one_packet {
            return Err(Refusal::line(
                "pointsman has no one-packet scheduling (-o): it remembers every flow; leave -o out and set a short udp \
                 timeout with --set",
            ));
        }
        let netmask = self.netmask.filter(|_| self.persistence_s.is_some());
        Ok(ServiceOptions { scheduler, flags, persistence_s: self.persistence_s, netmask })
    }

    fn server_options(&self, service: ServiceKey) -> Result<ServerOptions, Refusal> {
        let server = self.server.ok_or_else(|| illegal("real server address[:port]"))?;
        if let Some(port) = server.port.filter(|port| *port != service.port) {
            return Err(Refusal::line(format!(
                "illegal real server address[:port] specified: direct routing cannot change the port {} to {port}; leave \
                 the port of {} out",
                service.port, server.address
            )));
        }
        let (upper_threshold, lower_threshold) = (self.upper_threshold, self.lower_threshold);
        if lower_threshold > upper_threshold {
            return Err(Refusal::by_ipvs(format!(
                "Numerical result out of range: the lower threshold (-y {lower_threshold}) is above the upper one (-x \
                 {upper_threshold})"
            )));
        }
        let weight = self.weight.unwrap_or(1);
        Ok(ServerOptions { address: server.address, weight, upper_threshold, lower_threshold })
    }

    fn listing(&self, service: Option<ServiceKey>) -> Listing {
        let has = |kind| self.kinds.contains(&kind);
        // The first of these holds, as in ipvsadm.
        let order = [
            (Opt::Stats, Counted::Stats),
            (Opt::Rate, Counted::Rate),
            (Opt::Thresholds, Counted::Thresholds),
            (Opt::PersistentConn, Counted::Persistent),
        ];
        let counted = order.iter().find(|(kind, _)| has(*kind)).map_or(Counted::Weights, |(_, counted)| *counted);
        let what = service.map_or_else(|| self.listing.what.clone(), ListWhat::Service);
        Listing { what, counted, ..self.listing.clone() }
    }
}

fn threshold(text: &str, name: &str) -> Result<u32, Refusal> {
    let read = address::number(text, 0, MAX_THRESHOLD.into()).and_then(|limit| u32::try_from(limit).ok());
    read.ok_or_else(|| illegal(name))
}

fn illegal(what: &str) -> Refusal {
    Refusal::line(format!("illegal {what} specified"))
}
