//! Rows of workers, virtual services, real servers and causes of drops.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::columns::{Cell, Column};
use super::interval::{Changes, Load, Window};
use super::tone::Tone;
use crate::control::api::RealServerHealth;
use crate::service::ServiceKey;
use crate::stats::report::{RealServerReport, Report, StandingReport, VirtualServiceReport, WorkerReport};
use crate::text::{count, per_second};

/// Characters of a bar of load.
const BAR: u32 = 20;

/// What there are tables of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Workers,
    Services,
    RealServers,
    Drops,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Workers, Self::Services, Self::RealServers, Self::Drops];

    pub(crate) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Workers => WORKERS,
            Self::Services => SERVICES,
            Self::RealServers => REAL_SERVERS,
            Self::Drops => DROPS,
        }
    }
}

const WORKERS: &[Column] = &[
    Column::right("worker", 0),
    Column::right("core", 4),
    Column::left("load", 3),
    Column::right("user", 0),
    Column::right("system", 0),
    Column::right("idle", 0),
    Column::right("softirq", 5),
    Column::right("received", 1),
    Column::right("dropped", 9),
    Column::right("receive", 11),
    Column::right("forward", 12),
    Column::right("send", 13),
    Column::right("complete", 14),
    Column::right("refill", 15),
    Column::right("other", 16),
];

const SERVICES: &[Column] = &[
    Column::left("virtual service", 0),
    Column::left("sched", 3),
    Column::right("servers", 1),
    Column::right("sent", 0),
    Column::right("bits", 5),
    Column::right("new flows", 2),
    Column::right("active", 0),
    Column::right("dropped", 4),
];

const REAL_SERVERS: &[Column] = &[
    Column::left("service", 0),
    Column::left("real server", 0),
    Column::right("weight", 0),
    Column::right("share", 2),
    Column::right("sent", 0),
    Column::right("active", 1),
    Column::left("state", 0),
    Column::left("next hop", 5),
    Column::right("new flows", 6),
    Column::right("bits", 7),
    Column::left("egress", 8),
];

const DROPS: &[Column] =
    &[Column::left("drops by cause", 0), Column::right("a second", 0), Column::right("since the start", 0)];

/// A real server and its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RealServerName {
    pub(crate) service: ServiceKey,
    pub(crate) address: IpAddr,
}

impl std::fmt::Display for RealServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.address, self.service)
    }
}

impl RealServerName {
    /// What a document says of it.
    pub(crate) fn find(self, report: &Report) -> Option<&RealServerReport> {
        let service = report.virtual_services.iter().find(|of| key(of) == self.service)?;
        service.real_servers.iter().find(|server| server.address == self.address)
    }
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Worker(usize),
    Service(ServiceKey),
    RealServer(RealServerName),
    Cause(String),
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) cells: Vec<Cell>,
    /// What a filter looks at besides, in lower case.
    search: String,
}

impl Row {
    fn new(subject: Subject, cells: Vec<Cell>, search: String) -> Self {
        Self { subject, cells, search: search.to_lowercase() }
    }

    /// Whether it has every word of a filter, whatever their case.
    pub(crate) fn has(&self, filter: &str) -> bool {
        filter.to_lowercase().split_whitespace().all(|word| self.search.contains(word))
    }
}

/// By what a table is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// The column; `None` is the director's own order.
    pub(crate) by: Option<usize>,
    /// The other way round: numbers upwards, text downwards.
    pub(crate) reversed: bool,
}

impl Sort {
    pub(crate) fn apply(self, rows: &mut [Row]) {
        let Some(by) = self.by else {
            if self.reversed {
                rows.reverse();
            }
            return;
        };
        rows.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.cells.get(by), b.cells.get(by)) else { return Ordering::Equal };
            let order = match (a.value, b.value) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (None, None) => a.content().cmp(&b.content()),
            };
            if self.reversed { order.reverse() } else { order }
        });
    }

    /// The column, and whether it falls from top to bottom, for the arrow.
    pub(crate) fn arrow(self, rows: &[Row]) -> Option<(usize, bool)> {
        let by = self.by?;
        let numbers = rows.iter().any(|row| row.cells.get(by).is_some_and(|cell| cell.value.is_some()));
        Some((by, numbers != self.reversed))
    }
}

/// All rows of a kind, in the director's order.
pub(crate) fn rows(kind: Kind, report: &Report, changes: &Changes, window: Window) -> Vec<Row> {
    match kind {
        Kind::Workers => report.workers.iter().map(|of| worker(of, changes, window)).collect(),
        Kind::Services => report.virtual_services.iter().map(|of| service(of, window)).collect(),
        Kind::RealServers => {
            let services = report.virtual_services.iter();
            services.flat_map(|of| of.real_servers.iter().map(move |server| real_server(of, server, window))).collect()
        }
        Kind::Drops => changes
            .drops
            .iter()
            .map(|drop| {
                let now = drop.per_second.unwrap_or(0.0);
                let tone = if now > 0.0 { Tone::Bad } else { Tone::Plain };
                let name = Cell::toned(&*drop.cause, tone);
                let rate = drop.per_second.map_or_else(unknown, number);
                let total = Cell::number(count(drop.total), drop.total as f64);
                Row::new(Subject::Cause(drop.cause.clone()), vec![name, rate, total], drop.cause.clone())
            })
            .collect(),
    }
}

fn unknown() -> Cell {
    Cell::toned("-", Tone::Dim)
}

fn number(rate: f64) -> Cell {
    Cell::number(rate_text(rate), rate)
}

/// A rate; nothing at all is `0`.
pub(crate) fn rate_text(rate: f64) -> String {
    if rate == 0.0 { "0".to_owned() } else { per_second(rate) }
}

fn part(part: f64) -> Cell {
    Cell::number(format!("{:.1} %", part * 100.0), part)
}

fn worker(worker: &WorkerReport, changes: &Changes, window: Window) -> Row {
    let rate = window.of(&worker.rates);
    let load = changes.loads.get(&worker.worker);
    let softirq = worker.core.and_then(|core| changes.softirqs.get(&core));
    let of_load = |value: fn(&Load) -> f64| load.map_or_else(unknown, |load| part(value(load)));
    let mut cells = vec![
        Cell::number(worker.worker.to_string(), worker.worker as f64),
        worker.core.map_or_else(unknown, |core| Cell::number(core.to_string(), core as f64)),
        load.map_or_else(unknown, bar),
        of_load(Load::user),
        of_load(|load| load.system),
        of_load(|load| load.idle),
        softirq.map_or_else(unknown, |softirq| part(*softirq)),
        rate.and_then(|rate| rate.received_pps).map_or_else(unknown, number),
        rate.map_or_else(unknown, |rate| number(rate.dropped_pps)),
    ];
    let stages = (0..Load::STAGES.len()).map(|stage| load.map_or_else(unknown, |load| part(load.stages[stage])));
    cells.extend(stages);
    Row::new(Subject::Worker(worker.worker), cells, format!("worker {}", worker.worker))
}

/// User space, system calls and idling, one after the other.
fn bar(load: &Load) -> Cell {
    let end = |part: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bar")]
        let end = (part * f64::from(BAR)).round().clamp(0.0, f64::from(BAR)) as usize;
        end
    };
    let (user, busy) = (end(load.user()), end(load.user() + load.system));
    let all = usize::try_from(BAR).unwrap_or(0);
    let parts = vec![
        ("█".repeat(user), Tone::User),
        ("▒".repeat(busy.saturating_sub(user)), Tone::System),
        ("·".repeat(all.saturating_sub(busy.max(user))), Tone::Dim),
    ];
    Cell::parts(parts, load.user() + load.system)
}

fn key(service: &VirtualServiceReport) -> ServiceKey {
    ServiceKey { vip: service.vip, protocol: service.protocol, port: service.port }
}

fn service(service: &VirtualServiceReport, window: Window) -> Row {
    let rate = window.of(&service.rates);
    let of_rate = |value: fn(crate::stats::report::Rate) -> f64| rate.map_or_else(unknown, |rate| number(value(rate)));
    let healths = service.real_servers.iter().filter(|server| state(server).1 == Tone::Good).count();
    let all = service.real_servers.len();
    let tone = if healths == 0 || !service.has_quorum {
        Tone::Bad
    } else if healths < all {
        Tone::Warn
    } else {
        Tone::Good
    };
    let servers = Cell::toned(format!("{healths}/{all}"), tone).valued(healths as f64);
    let active = service.connections.active;
    let cells = vec![
        Cell::text(&*service.service),
        Cell::text(&*service.scheduler),
        servers,
        of_rate(|rate| rate.tx_pps),
        of_rate(|rate| rate.tx_bps),
        of_rate(|rate| rate.new_flows_per_s),
        Cell::number(count(active), active as f64),
        of_rate(|rate| rate.dropped_pps),
    ];
    Row::new(Subject::Service(key(service)), cells, format!("{} {}", service.service, service.scheduler))
}

fn real_server(service: &VirtualServiceReport, server: &RealServerReport, window: Window) -> Row {
    let rate = window.of(&server.rates);
    let of_rate = |value: fn(crate::stats::report::Rate) -> f64| rate.map_or_else(unknown, |rate| number(value(rate)));
    let share = match service.table_size {
        0 => unknown(),
        slots => part(f64::from(server.share_slots) / slots as f64),
    };
    let (state, tone) = state(server);
    let next_hop = server.next_hop.map_or_else(|| "no MAC address".to_owned(), |mac| mac.to_string());
    let egress = server.egress.clone().unwrap_or_else(|| "-".to_owned());
    let search = format!("{} {} {state} {next_hop} {egress}", service.service, server.address);
    let weight_tone = if server.weight == 0 { Tone::Warn } else { Tone::Plain };
    let active = server.connections.active;
    let cells = vec![
        Cell::text(&*service.service),
        Cell::text(server.address.to_string()),
        Cell::toned(server.weight.to_string(), weight_tone).valued(server.weight.into()),
        share,
        of_rate(|rate| rate.tx_pps),
        Cell::number(count(active), active as f64),
        Cell::toned(state, tone),
        Cell::text(next_hop),
        of_rate(|rate| rate.new_flows_per_s),
        of_rate(|rate| rate.tx_bps),
        Cell::text(egress),
    ];
    let name = RealServerName { service: key(service), address: server.address };
    Row::new(Subject::RealServer(name), cells, search)
}

/// Whether a real server gets new flows, and if not, why; `Good` if it does.
pub(crate) fn state(server: &RealServerReport) -> (&'static str, Tone) {
    match server.standing {
        _ if !server.alive && server.next_hop.is_none() => ("no MAC", Tone::Bad),
        _ if !server.alive => ("down", Tone::Bad),
        StandingReport::Inhibited => ("inhibited", Tone::Bad),
        StandingReport::Failed => ("failed", Tone::Bad),
        StandingReport::Sound if server.fallback => ("fallback", Tone::Dim),
        StandingReport::Sound if server.weight == 0 => ("draining", Tone::Warn),
        StandingReport::Sound if server.connection_limit.is_some_and(|limit| limit.full) => ("full", Tone::Warn),
        StandingReport::Sound => ("up", Tone::Good),
    }
}

/// What there is to know of a real server besides its row.
pub(crate) fn detail(server: &RealServerReport) -> String {
    let mac = server.next_hop.map_or_else(|| "no MAC address".to_owned(), |mac| mac.to_string());
    let by = server.egress.as_ref().map_or_else(String::new, |egress| format!(" by {egress}"));
    let reason = RealServerHealth::from(server.clone()).reason;
    let checks = server.health_checks.len();
    let health = reason.unwrap_or_else(|| match checks {
        0 => "no health checks".to_owned(),
        1 => "1 health check, good".to_owned(),
        _ => format!("{checks} health checks, good"),
    });
    format!("next hop {mac}{by}; {health}")
}
