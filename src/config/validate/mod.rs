//! From raw tables to a [`Config`]: every value in its range, every two values in agreement.
//!
//! A value that is refused leaves its default behind, so that checking goes on and finds what else is wrong; the
//! caller throws the result away.

mod announce;
mod health;
mod interface;
mod quic;
mod scheduling;
mod service;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::edit::HIDDEN;
use super::error::Findings;
use super::raw::{RawConfig, RawDirector};
use super::reader::{Field, Place, quoted};
use super::{
    Config, DirectorConfig, MAX_TIMEOUT_S, MAX_VIRTUAL_SERVICES, NoSocketAction, SoftirqMeasurement, StatsFormat, size,
};

/// `sun_path` of a Unix socket holds 108 bytes, the last of them zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Validates all of a file; whatever is wrong is noted in `findings`.
pub(super) fn validate(raw: &RawConfig<'_>, findings: &Findings) -> Config {
    if raw.virtual_services.is_empty() {
        let message = "there is none, so nothing is forwarded; add a [[virtual_service]]".to_owned();
        findings.warn(0, "virtual_service".to_owned(), message);
    }
    if raw.virtual_services.len() > MAX_VIRTUAL_SERVICES {
        let message = format!("{} are too many; use at most {MAX_VIRTUAL_SERVICES}", raw.virtual_services.len());
        findings.refuse(raw.virtual_services[0].place.at, "virtual_service".to_owned(), message);
    }
    let interfaces = interface::interfaces(&raw.interfaces, findings);
    let director = director(raw.director.as_ref(), findings);
    Config {
        virtual_services: service::services(&raw.virtual_services, &interfaces, &director, findings),
        director,
        interfaces,
    }
}

fn director(raw: Option<&RawDirector<'_>>, findings: &Findings) -> DirectorConfig {
    let mut director = DirectorConfig::default();
    let place = raw.map(|raw| raw.place.clone()).unwrap_or_default();
    let secret = raw.and_then(|raw| raw.secret.as_ref());
    match secret {
        Some(secret) if secret.value.is_empty() => {
            warn(&place, secret, "is empty, so clients can work out which real server they get", findings);
        }
        Some(secret) if secret.value == HIDDEN => {
            let message = format!(
                "{HIDDEN:?} stands in the place of the secret where a configuration is shown, and is none; write the \
                 secret that the file had before"
            );
            findings.refuse(secret.at, place.path_of(secret.key.name), message);
        }
        Some(_) => {}
        None => {
            let message = "not set, so the flow hash uses its well-known default key and clients can work out which \
                           real server they get; set it to any text, the same on all directors of a cluster";
            findings.warn(place.at, "director.secret".to_owned(), message.to_owned());
        }
    }
    director.secret = secret.map(|secret| secret.value.to_owned());
    let Some(raw) = raw else { return director };
    let check = Check { place: &raw.place, findings };
    if let Some(path) = check.absolute_path(raw.control_socket.as_ref(), MAX_SOCKET_PATH) {
        director.control_socket = path;
    }
    if let Some(mode) = check.socket_mode(raw.control_socket_mode.as_ref()) {
        director.control_socket_mode = mode;
    }
    director.control_socket_owner = check.account(raw.control_socket_owner.as_ref());
    director.control_socket_group = check.account(raw.control_socket_group.as_ref());
    director.stats_file = check.absolute_path(raw.stats_file.as_ref(), usize::MAX);
    check.word(
        raw.no_socket.as_ref(),
        &[("drop", NoSocketAction::Drop), ("pass", NoSocketAction::Pass)],
        &mut director.no_socket,
    );
    let mut milliseconds = 1000_u32;
    check.number(raw.stats_interval_ms.as_ref(), 10..=3_600_000, &mut milliseconds);
    director.stats_interval = Duration::from_millis(milliseconds.into());
    let formats = [("auto", StatsFormat::Auto), ("document", StatsFormat::Document), ("lines", StatsFormat::Lines)];
    check.word(raw.stats_format.as_ref(), &formats, &mut director.stats_format);
    if let Some(bytes) = check.parsed(raw.stats_rotate.as_ref(), size::parse) {
        director.stats_rotate = bytes;
    }
    check.number(raw.stats_keep.as_ref(), 0..=1000, &mut director.stats_keep);
    director.prometheus_listen = check.parsed(raw.prometheus_listen.as_ref(), |text| text.parse().ok());
    let softirq = [("auto", SoftirqMeasurement::Auto), ("procfs", SoftirqMeasurement::Procfs)];
    check.word(raw.stats_softirq.as_ref(), &softirq, &mut director.stats_softirq);
    check.number(raw.flows_per_worker.as_ref(), 1024..=1 << 28, &mut director.flows_per_worker);
    check.word(raw.announce.as_ref(), &announce::WORDS, &mut director.announce);
    if let Some(at_start) = &raw.announce_at_start {
        director.announce_at_start = at_start.value;
    }
    check.number(raw.tcp_timeout_s.as_ref(), 1..=MAX_TIMEOUT_S.into(), &mut director.tcp_timeout_s);
    check.number(raw.tcp_fin_timeout_s.as_ref(), 1..=MAX_TIMEOUT_S.into(), &mut director.tcp_fin_timeout_s);
    check.number(raw.udp_timeout_s.as_ref(), 1..=MAX_TIMEOUT_S.into(), &mut director.udp_timeout_s);
    director
}

/// Checks the values of one table.
#[derive(Clone, Copy)]
struct Check<'a> {
    place: &'a Place,
    findings: &'a Findings,
}

impl Check<'_> {
    /// "`problem`; use what the key expects".
    fn refuse<T>(&self, field: &Field<T>, problem: impl Display) {
        let message = format!("{problem}; use {}", field.key.expects);
        self.findings.refuse(field.at, self.place.path_of(field.key.name), message);
    }

    /// A message of its own, at a value.
    fn refuse_with<T>(&self, field: &Field<T>, message: String) {
        self.findings.refuse(field.at, self.place.path_of(field.key.name), message);
    }

    /// Takes over a number that is in range.
    fn number<T: TryFrom<i64>>(&self, field: Option<&Field<i64>>, range: RangeInclusive<i64>, into: &mut T) {
        let Some(field) = field else { return };
        match T::try_from(field.value) {
            Ok(number) if range.contains(&field.value) => *into = number,
            _ => self.refuse(field, format_args!("{} is not {}", field.value, field.key.noun)),
        }
    }

    /// Takes over the value that a word stands for.
    fn word<T: Copy>(&self, field: Option<&Field<&str>>, words: &[(&str, T)], into: &mut T) {
        let Some(field) = field else { return };
        match words.iter().find(|(word, _)| *word == field.value) {
            Some((_, value)) => *into = *value,
            None => self.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun)),
        }
    }

    /// What a text stands for.
    fn parsed<T>(&self, field: Option<&Field<&str>>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let field = field?;
        let parsed = parse(field.value);
        if parsed.is_none() {
            self.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
        }
        parsed
    }

    /// Permissions that leave the socket to its owner at least.
    fn socket_mode(&self, field: Option<&Field<&str>>) -> Option<u32> {
        let field = field?;
        let digits = field.value.len() <= 4 && field.value.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(field.value, 8).ok().filter(|mode| digits && (0o600..=0o777).contains(mode));
        if mode.is_none() {
            self.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
        }
        mode
    }

    /// The name of a user or a group, which is looked up where the socket is made.
    fn account(&self, field: Option<&Field<&str>>) -> Option<String> {
        let field = field?;
        if field.value.is_empty() || field.value.contains(['\0', ':', '/']) {
            self.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
            return None;
        }
        Some(field.value.to_owned())
    }

    fn absolute_path(&self, field: Option<&Field<&str>>, max_bytes: usize) -> Option<PathBuf> {
        let field = field?;
        let problem = if !field.value.starts_with('/') {
            "is not an absolute path"
        } else if field.value.contains('\0') {
            "contains a zero byte"
        } else if field.value.len() > max_bytes {
            "is too long for a socket"
        } else {
            return Some(PathBuf::from(field.value));
        };
        self.refuse(field, format_args!("{} {problem}", quoted(field.value)));
        None
    }
}

fn warn<T>(place: &Place, field: &Field<T>, message: &str, findings: &Findings) {
    findings.warn(field.at, place.path_of(field.key.name), message.to_owned());
}

/// Where each value was seen first.
struct Seen<K>(HashMap<K, usize>);

impl<K: Hash + Eq> Seen<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// The index at which `value` was before, if it was.
    fn before(&mut self, value: K, index: usize) -> Option<usize> {
        match self.0.entry(value) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(vacant) => {
                vacant.insert(index);
                None
            }
        }
    }
}
