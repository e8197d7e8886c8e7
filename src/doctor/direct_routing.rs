//! Direct routing itself: who answers for the VIPs, and whether the real servers can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::finding::{Check, Finding, Severity};
use super::probe::{self, Claim, Question};
use super::system::System;
use crate::announce::Role;
use crate::config::Announce;
use crate::network::{Link, NetworkError, RouteKind, local_addresses, neighbors, on_link, route_to};
use crate::wire::MacAddress;

/// A real server of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerDemand {
    /// Its address.
    pub address: IpAddr,
    /// The MAC address that the configuration has for it.
    pub mac: Option<MacAddress>,
}

/// A VIP of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VipDemand {
    /// The VIP.
    pub vip: IpAddr,
    /// Who is to answer for it.
    pub announce: Announce,
    /// What the running director makes of it, if one runs that is to answer.
    pub role: Option<Role>,
}

/// What the segment says.
#[derive(Clone, Debug, Default)]
pub struct SegmentFacts {
    /// The VIPs.
    pub vips: Vec<VipFacts>,
    /// The real servers.
    pub real_servers: Vec<RealServerFacts>,
    /// MAC addresses of this machine.
    pub own_macs: BTreeSet<MacAddress>,
    /// Interface and sentence for each question that could not be asked.
    pub problems: Vec<(String, String)>,
}

/// One VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipFacts {
    /// The VIP.
    pub vip: IpAddr,
    /// The interfaces of this machine that have it.
    pub local_on: Vec<String>,
    /// The configured interfaces on which this machine's kernel does not answer for it, though it has it.
    pub silent_on: Vec<String>,
    /// The interfaces on which it was asked for.
    pub asked_on: Vec<String>,
    /// Who answered: interface and MAC address.
    pub answers: Vec<(String, MacAddress)>,
    /// Who is to answer for it on this machine.
    pub announce: Announce,
    /// What the running director makes of it, if one runs that is to answer.
    pub role: Option<Role>,
    /// Whether this machine's kernel would forward what it gets for it.
    pub forwarded: bool,
}

/// One real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerFacts {
    /// Its address and what the configuration says of it.
    pub demand: RealServerDemand,
    /// The interface on whose link it is, or why direct routing cannot reach it.
    pub device: Result<String, String>,
    /// Whether it could be asked for.
    pub asked: bool,
    /// The MAC addresses that answered for it.
    pub answers: BTreeSet<MacAddress>,
    /// The MAC address in the kernel's neighbour table.
    pub neighbor: Option<MacAddress>,
}

impl RealServerFacts {
    /// All MAC addresses that it may be known by.
    fn macs(&self) -> impl Iterator<Item = MacAddress> {
        self.answers.iter().copied().chain(self.neighbor).chain(self.demand.mac)
    }
}

/// Asks the segments behind the interfaces called `names`. Takes half a second.
pub fn read(
    system: &System,
    names: &[&str],
    demands: &[VipDemand],
    real_servers: &[RealServerDemand],
    links: &[Link],
) -> SegmentFacts {
    let vips = &demands.iter().map(|demand| demand.vip).collect::<Vec<_>>()[..];
    let configured: Vec<&Link> = names.iter().filter_map(|name| links.iter().find(|link| link.name == *name)).collect();
    let allowed: Vec<u32> = configured.iter().map(|link| link.index).collect();
    let local = local_addresses();
    let devices: Vec<Result<u32, NetworkError>> =
        real_servers.iter().map(|server| Ok(on_link(server.address, &allowed)?.device_index)).collect();
    let indices: BTreeSet<u32> = allowed.iter().copied().chain(devices.iter().flatten().copied()).collect();
    let questions: Vec<Question> = links
        .iter()
        .filter(|link| indices.contains(&link.index) && link.up && !link.mac.is_zero())
        .map(|link| Question {
            device_index: link.index,
            device: link.name.clone(),
            mac: link.mac,
            source: ipv6_source(&local, &link.name, vips),
            addresses: vips
                .iter()
                .copied()
                .chain(real_servers.iter().zip(&devices).filter_map(|(server, device)| {
                    (device.as_ref().ok() == Some(&link.index)).then_some(server.address)
                }))
                .collect(),
        })
        .collect();
    let (claims, problems) = probe::ask(&questions, probe::PATIENCE);
    let table = neighbors().unwrap_or_default();
    let own_macs = links.iter().map(|link| link.mac).filter(|mac| !mac.is_zero()).collect();
    let vips =
        demands.iter().map(|demand| vip_facts(system, *demand, &configured, &local, &questions, &claims)).collect();
    let real_servers = real_servers
        .iter()
        .zip(devices)
        .map(|(demand, device)| {
            let index = device.as_ref().ok().copied();
            let question = questions.iter().find(|question| Some(question.device_index) == index);
            let answer = |claim: &&Claim| claim.address == demand.address && Some(claim.device_index) == index;
            let entry = table.iter().find(|n| n.address == demand.address && Some(n.device_index) == index);
            RealServerFacts {
                demand: demand.clone(),
                device: device.map(|index| name_of(links, index)).map_err(|error| error.to_string()),
                asked: question.is_some_and(|question| demand.address.is_ipv4() || question.source.is_some())
                    && problems.is_empty(),
                answers: claims.iter().filter(answer).map(|claim| claim.mac).collect(),
                neighbor: entry.and_then(|entry| entry.usable_mac()),
            }
        })
        .collect();
    SegmentFacts { vips, real_servers, own_macs, problems }
}

fn name_of(links: &[Link], index: u32) -> String {
    links.iter().find(|link| link.index == index).map_or_else(|| index.to_string(), |link| link.name.clone())
}

fn vip_facts(
    system: &System,
    VipDemand { vip, announce, role }: VipDemand,
    configured: &[&Link],
    local: &[(String, IpAddr)],
    questions: &[Question],
    claims: &[Claim],
) -> VipFacts {
    let local_on: Vec<String> =
        local.iter().filter(|(_, address)| *address == vip).map(|(interface, _)| interface.clone()).collect();
    let device = |index: u32| questions.iter().find(|question| question.device_index == index);
    VipFacts {
        vip,
        announce,
        role,
        forwarded: announce == Announce::Arp && forwards(system, vip),
        silent_on: configured
            .iter()
            .filter(|link| !local_on.is_empty() && !kernel_answers(system, vip, &link.name, &local_on))
            .map(|link| link.name.clone())
            .collect(),
        local_on,
        asked_on: questions
            .iter()
            .filter(|question| vip.is_ipv4() || question.source.is_some())
            .map(|question| question.device.clone())
            .collect(),
        answers: claims
            .iter()
            .filter(|claim| claim.address == vip)
            .filter_map(|claim| Some((device(claim.device_index)?.device.clone(), claim.mac)))
            .collect(),
    }
}

/// Whether this machine's kernel would forward what it gets for `vip`: it forwards, and has no blackhole route for it.
fn forwards(system: &System, vip: IpAddr) -> bool {
    let file = if vip.is_ipv4() { "proc/sys/net/ipv4/ip_forward" } else { "proc/sys/net/ipv6/conf/all/forwarding" };
    let kind = || route_to(vip).map(|route| route.kind);
    system.value::<u32>(file).unwrap_or(0) != 0 && matches!(kind(), Ok(RouteKind::Unicast))
}

/// Whether this machine's kernel answers on `interface` for an address that it has on the interfaces `local_on`: by
/// neighbour discovery only for those of the interface itself, by ARP for any unless `arp_ignore` is set.
fn kernel_answers(system: &System, vip: IpAddr, interface: &str, local_on: &[String]) -> bool {
    let arp_ignore = |of: &str| system.value::<u32>(&format!("proc/sys/net/ipv4/conf/{of}/arp_ignore")).unwrap_or(0);
    local_on.iter().any(|has| has == interface) || (vip.is_ipv4() && arp_ignore("all").max(arp_ignore(interface)) == 0)
}

/// An address of the interface to ask from: link-local if there is one, and never a VIP.
fn ipv6_source(local: &[(String, IpAddr)], interface: &str, vips: &[IpAddr]) -> Option<Ipv6Addr> {
    let own = local.iter().filter(|(name, address)| name == interface && !vips.contains(address));
    let own = own.filter_map(|(_, address)| if let IpAddr::V6(v6) = address { Some(*v6) } else { None });
    own.min_by_key(|address| !address.is_unicast_link_local())
}

/// Judges what the segment says.
pub fn judge(facts: &SegmentFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (device, problem) in &facts.problems {
        findings.push(Finding::new(Check::Probe, Severity::Warning, device, format!("not asked: {problem}")));
    }
    let mut known: BTreeMap<MacAddress, BTreeSet<IpAddr>> = BTreeMap::new();
    for server in &facts.real_servers {
        for mac in server.macs() {
            known.entry(mac).or_default().insert(server.demand.address);
        }
    }
    for vip in &facts.vips {
        findings.extend(judge_vip(vip, &known, &facts.own_macs));
    }
    for server in &facts.real_servers {
        findings.extend(judge_real_server(server));
    }
    findings
}

/// Judges who answers for one VIP. `known` are the MAC addresses of real servers.
fn judge_vip(
    facts: &VipFacts,
    known: &BTreeMap<MacAddress, BTreeSet<IpAddr>>,
    own: &BTreeSet<MacAddress>,
) -> Vec<Finding> {
    let finding = |check, severity, what| Finding::new(check, severity, facts.vip.to_string(), what);
    let mut findings = Vec::new();
    let mut others = BTreeSet::new();
    for (device, mac) in facts.answers.iter().filter(|(_, mac)| !own.contains(mac)) {
        match known.get(mac) {
            Some(servers) => findings.push(real_server_answers(facts.vip, device, *mac, servers)),
            None => _ = others.insert(*mac),
        }
    }
    let macs = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let protocol = if facts.vip.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let local = !facts.local_on.is_empty();
    if local && !others.is_empty() {
        let what = format!("it is an address of this machine, and {macs} answers {protocol} for it, too");
        findings.push(
            finding(Check::VipAnsweredTwice, Severity::Error, what)
                .mend(format!("find the machine ({}) and take the VIP off it", find(facts.vip, &others)))
                .mend("if it is the other director of a pair, only one of the two may have the VIP: see its VRRP log"),
        );
    } else if others.len() > 1 {
        let what = format!("{} machines answer {protocol} for it: {macs}", others.len());
        findings.push(
            finding(Check::VipAnsweredTwice, Severity::Error, what)
                .mend(format!("find the machines ({}) and take the VIP off all but one", find(facts.vip, &others))),
        );
    } else if !others.is_empty() && facts.role == Some(Role::Active) {
        let what = format!("the running director answers for it, and {macs} answers {protocol} for it, too");
        findings.push(
            finding(Check::VipAnsweredTwice, Severity::Error, what)
                .mend(format!("pointsman announce release {} (on one of the two)", facts.vip))
                .mend(format!("or find the machine ({}) and take the VIP off it", find(facts.vip, &others))),
        );
    } else if !others.is_empty() {
        let what = format!("it is no address of this machine; {macs} answers {protocol} for it");
        findings.push(
            finding(Check::VipElsewhere, Severity::Info, what).mend("nothing on a standby; else take it off there"),
        );
    } else if !local && facts.announce == Announce::Arp {
        findings.push(announced(facts, findings.is_empty()));
    } else if !local && findings.is_empty() && !facts.asked_on.is_empty() {
        let what = format!("it is no address of this machine, and nobody answers {protocol} for it");
        findings.push(
            finding(Check::VipUnanswered, Severity::Info, what)
                .mend(address_command(facts.vip, facts.asked_on.first().map_or("eth0", String::as_str)))
                .mend("or announce = \"arp\", and the director answers itself")
                .mend("or have a router send it here by a route"),
        );
    }
    findings.extend(local.then(|| own_address(facts)));
    if facts.announce == Announce::Arp && !local {
        findings.push(forwarded(facts));
    }
    findings
}

/// The director itself is to answer, and nobody else does. `quiet` = not even a real server.
fn announced(facts: &VipFacts, quiet: bool) -> Finding {
    let vip = facts.vip;
    match facts.role {
        Some(Role::Active) => Finding::new(
            Check::VipAddress,
            Severity::Ok,
            vip.to_string(),
            "the running director answers for it".to_owned(),
        ),
        Some(Role::Standby) if quiet && !facts.asked_on.is_empty() => {
            let what = "the running director is a standby for it, and nobody else answers for it".to_owned();
            Finding::new(Check::VipUnanswered, Severity::Warning, vip.to_string(), what)
                .mend(format!("pointsman announce take {vip}"))
        }
        Some(Role::Standby) => {
            let what = "the running director is a standby for it".to_owned();
            Finding::new(Check::VipUnanswered, Severity::Info, vip.to_string(), what)
        }
        None => {
            let what = "a director with announce = \"arp\" answers for it, and none runs".to_owned();
            Finding::new(Check::VipUnanswered, Severity::Info, vip.to_string(), what)
                .mend("start the director; with announce_at_start = false also: pointsman announce take")
        }
    }
}

fn forwarded(facts: &VipFacts) -> Finding {
    let vip = facts.vip;
    let finding = |severity, what: &str| Finding::new(Check::VipForwarded, severity, vip.to_string(), what.to_owned());
    if !facts.forwarded {
        return finding(Severity::Ok, "this machine's kernel does not forward what comes for it");
    }
    let bits = if vip.is_ipv4() { 32 } else { 128 };
    finding(Severity::Warning, "this machine's kernel forwards what comes for it and is not for the director")
        .mend(format!("ip route add blackhole {vip}/{bits}"))
        .mend("or do not forward: sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
}

fn real_server_answers(vip: IpAddr, device: &str, mac: MacAddress, servers: &BTreeSet<IpAddr>) -> Finding {
    // A server of both families is called by its address of the VIP's.
    let of_family = || servers.iter().filter(|server| server.is_ipv4() == vip.is_ipv4());
    let shown: Vec<&IpAddr> =
        if of_family().next().is_some() { of_family().collect() } else { servers.iter().collect() };
    let who = shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let protocol = if vip.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let what = format!("real server {who} answers {protocol} for it on {device}, with MAC address {mac}");
    let finding = Finding::new(Check::VipRealServerAnswers, Severity::Error, vip.to_string(), what)
        .mend(format!("on {who}: scripts/real-server {vip}"));
    match vip {
        IpAddr::V4(_) => finding
            .mend("or there: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
            .mend(format!("and there, if ip address shows it elsewhere than on lo: ip address add {vip}/32 dev lo"))
            .mend(format!("and there: ip address del {vip}/PREFIX dev INTERFACE (where ip address shows it besides)")),
        IpAddr::V6(_) => finding
            .mend(format!("or there: ip address add {vip}/128 dev lo nodad preferred_lft 0"))
            .mend(format!("and there: ip address del {vip}/PREFIX dev INTERFACE (where ip address shows it besides)")),
    }
    .mend(format!("then, on clients and routers: ip neighbour flush to {vip}"))
}

fn find(vip: IpAddr, macs: &BTreeSet<MacAddress>) -> String {
    let macs = macs.iter().map(ToString::to_string).collect::<Vec<_>>();
    match vip {
        IpAddr::V4(_) => format!("arping -D {vip}, and the switch's table of MAC addresses"),
        IpAddr::V6(_) => format!("the switch's table of MAC addresses for {}", macs.join(", ")),
    }
}

/// The command that makes `vip` an address of an interface.
pub fn address_command(vip: IpAddr, device: &str) -> String {
    match vip {
        IpAddr::V4(_) => format!("ip address add {vip}/32 dev {device}"),
        IpAddr::V6(_) => format!("ip address add {vip}/128 dev {device} nodad"),
    }
}

/// The VIP is an address of this machine: does its kernel answer for it?
fn own_address(facts: &VipFacts) -> Finding {
    let on = facts.local_on.join(", ");
    let finding = |severity, what| Finding::new(Check::VipAddress, severity, facts.vip.to_string(), what);
    if facts.announce == Announce::Arp {
        let what = format!("an address of {on}, and announce = \"arp\": kernel and director both answer for it");
        let prefix = if facts.vip.is_ipv4() { 32 } else { 128 };
        return finding(Severity::Warning, what)
            .mend(format!(
                "ip address del {}/{prefix} dev {}",
                facts.vip,
                facts.local_on.first().map_or("", String::as_str)
            ))
            .mend("or announce = \"kernel\"");
    }
    match facts.silent_on.first() {
        None => finding(Severity::Ok, format!("an address of {on}: this machine's kernel answers for it")),
        Some(device) => {
            let silent = facts.silent_on.join(", ");
            finding(Severity::Warning, format!("an address of {on}: the kernel does not answer for it on {silent}"))
                .mend(address_command(facts.vip, device))
        }
    }
}

fn judge_real_server(facts: &RealServerFacts) -> Vec<Finding> {
    let address = facts.demand.address;
    let finding = |check, severity, what: String| Finding::new(check, severity, address.to_string(), what);
    let device = match &facts.device {
        Err(problem) => {
            return vec![
                finding(Check::RealServerOnLink, Severity::Error, problem.clone())
                    .mend(format!("ip route get {address} (must say: dev INTERFACE, and no via)")),
            ];
        }
        Ok(device) => device,
    };
    let mut findings = vec![finding(Check::RealServerOnLink, Severity::Ok, format!("on the link of {device}"))];
    let macs = facts.answers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    findings.push(match facts.answers.len() {
        1 => finding(Check::RealServerReachable, Severity::Ok, format!("answers with MAC address {macs}")),
        0 if !facts.asked => finding(Check::RealServerReachable, Severity::Info, "could not be asked".to_owned()),
        0 => finding(Check::RealServerReachable, Severity::Warning, format!("does not answer on {device}")).mend(
            if address.is_ipv4() { format!("arping -I {device} {address}") } else { format!("ping -c 1 {address}") }
                + " (is it up, in this VLAN, and is the address right?)",
        ),
        _ => finding(Check::RealServerReachable, Severity::Error, format!("several machines have its address: {macs}"))
            .mend("take the address off all but one"),
    });
    if let Some(configured) = facts.demand.mac {
        findings.push(if facts.answers.is_empty() || facts.answers.contains(&configured) {
            finding(Check::RealServerMac, Severity::Ok, format!("{configured}, by the configuration"))
        } else {
            let what = format!("the configuration has {configured}, and it answers with {macs}");
            finding(Check::RealServerMac, Severity::Error, what)
                .mend(format!("mac = \"{macs}\" in its real_server table, or no mac at all"))
        });
    }
    findings
}
