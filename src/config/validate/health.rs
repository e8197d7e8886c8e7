//! What is about health checks in the `[[virtual_service]]` tables.

use std::path::Path;
use std::time::Duration;

use regex::Regex;
use rustls::pki_types::ServerName;

use super::Check;
use crate::config::error::Findings;
use crate::config::health::from_hex;
use crate::config::raw::{RawHealthCheck, RawVirtualService};
use crate::config::reader::{Field, Item, Place, quoted};
use crate::config::{
    CheckKind, CommandCheck, HealthCheckConfig, HttpCheck, HttpsCheck, InitialState, MAX_HEALTH_CHECKS,
    RealServerConfig, StatusList, UdpCheck, Via,
};

/// The checks of one list; those with mistakes are left out.
pub(super) fn checks(
    raw: &[RawHealthCheck<'_>],
    place: &Place,
    service_port: Option<u16>,
    findings: &Findings,
) -> Vec<HealthCheckConfig> {
    if raw.len() > MAX_HEALTH_CHECKS {
        let message = format!("{} are too many; use at most {MAX_HEALTH_CHECKS}", raw.len());
        findings.refuse(raw[0].place.at, place.path_of("health_check"), message);
    }
    raw.iter().filter_map(|raw| check(raw, service_port, findings)).collect()
}

fn check(raw: &RawHealthCheck<'_>, service_port: Option<u16>, findings: &Findings) -> Option<HealthCheckConfig> {
    let check = Check { place: &raw.place, findings };
    let (mut via, mut initial) = (Via::default(), InitialState::default());
    let (mut interval_ms, mut timeout_ms) = (2000_u32, 1000_u32);
    let (mut rise, mut fall, mut jitter_percent, mut flap_window_s) = (2, 3, 10, 300);
    check.word(raw.via.as_ref(), &[("address", Via::Address), ("direct", Via::Direct)], &mut via);
    check.word(raw.initial.as_ref(), &[("up", InitialState::Up), ("down", InitialState::Down)], &mut initial);
    check.number(raw.interval_ms.as_ref(), 20..=3_600_000, &mut interval_ms);
    let mut retry_interval_ms = interval_ms;
    check.number(raw.retry_interval_ms.as_ref(), 20..=3_600_000, &mut retry_interval_ms);
    check.number(raw.timeout_ms.as_ref(), 1..=600_000, &mut timeout_ms);
    check.number(raw.rise.as_ref(), 1..=1000, &mut rise);
    check.number(raw.fall.as_ref(), 1..=1000, &mut fall);
    check.number(raw.jitter_percent.as_ref(), 0..=50, &mut jitter_percent);
    check.number(raw.flap_window_s.as_ref(), 0..=86_400, &mut flap_window_s);
    let kind = kind(raw, check)?;
    refuse_strays(raw, kind.name(), check);
    if via == Via::Direct
        && matches!(kind, CheckKind::Udp(_) | CheckKind::Icmp | CheckKind::Command(_))
        && let Some(field) = &raw.via
    {
        let message = format!("\"direct\" is for TCP, HTTP and HTTPS, not for kind = \"{}\"; remove it", kind.name());
        check.refuse_with(field, message);
    }
    let port = port(raw, &kind, service_port, check);
    Some(HealthCheckConfig {
        kind,
        via,
        port,
        interval: Duration::from_millis(interval_ms.into()),
        retry_interval: Duration::from_millis(retry_interval_ms.into()),
        timeout: Duration::from_millis(timeout_ms.into()),
        rise,
        fall,
        initial,
        jitter_percent,
        flap_window_s,
    })
}

fn port(raw: &RawHealthCheck<'_>, kind: &CheckKind, service_port: Option<u16>, check: Check<'_>) -> u16 {
    if matches!(kind, CheckKind::Icmp) {
        return 0;
    }
    let mut port = service_port.unwrap_or(0);
    check.number(raw.port.as_ref(), 1..=65_535, &mut port);
    if raw.port.is_none() && service_port == Some(0) && !matches!(kind, CheckKind::Command(_)) {
        let message = "missing, and the service's port is any; set it to 1 to 65535".to_owned();
        check.findings.refuse(raw.place.at, raw.place.path_of("port"), message);
    }
    port
}

fn kind(raw: &RawHealthCheck<'_>, check: Check<'_>) -> Option<CheckKind> {
    let field = raw.kind.as_ref()?;
    Some(match field.value {
        "tcp" => CheckKind::Tcp,
        "http" => CheckKind::Http(http(raw, check)),
        "https" => CheckKind::Https(HttpsCheck {
            http: http(raw, check),
            tls_verify: raw.tls_verify.as_ref().is_some_and(|field| field.value),
            tls_ca: check.absolute_path(raw.tls_ca.as_ref(), usize::MAX),
            sni: sni(raw, check),
        }),
        "udp" => CheckKind::Udp(UdpCheck {
            send: payload(raw.send.as_ref(), raw.send_hex.as_ref(), check).unwrap_or_default(),
            expect: payload(raw.expect.as_ref(), raw.expect_hex.as_ref(), check),
        }),
        "icmp" => CheckKind::Icmp,
        "command" => CheckKind::Command(command(raw, check)?),
        other => {
            check.refuse(field, format_args!("{} is not {}", quoted(other), field.key.noun));
            return None;
        }
    })
}

/// Keys that belong to other kinds.
fn refuse_strays(raw: &RawHealthCheck<'_>, kind: &str, check: Check<'_>) {
    const HTTP: &str = "\"http\" and \"https\"";
    let texts = [
        (&raw.path, HTTP),
        (&raw.host, HTTP),
        (&raw.status, HTTP),
        (&raw.body_contains, HTTP),
        (&raw.body_matches, HTTP),
        (&raw.tls_ca, "\"https\""),
        (&raw.sni, "\"https\""),
        (&raw.send, "\"udp\""),
        (&raw.send_hex, "\"udp\""),
        (&raw.expect, "\"udp\""),
        (&raw.expect_hex, "\"udp\""),
    ];
    let own = format!("\"{kind}\"");
    let message = |kinds: &str| format!("is for checks of kind {kinds} only; remove it or change the kind");
    for (field, kinds) in texts {
        if let Some(field) = field.as_ref().filter(|_| !kinds.contains(&own)) {
            check.refuse_with(field, message(kinds));
        }
    }
    if let Some(field) = raw.tls_verify.as_ref().filter(|_| kind != "https") {
        check.refuse_with(field, message("\"https\""));
    }
    if let Some(field) = raw.command.as_ref().filter(|_| kind != "command") {
        check.refuse_with(field, message("\"command\""));
    }
    if let Some(field) = raw.port.as_ref().filter(|_| kind == "icmp") {
        check.refuse_with(field, "an echo request has no port; remove it".to_owned());
    }
    if let Some(field) = raw.tls_ca.as_ref().filter(|_| !raw.tls_verify.as_ref().is_some_and(|verify| verify.value)) {
        super::warn(check.place, field, "has no effect without tls_verify = true", check.findings);
    }
}

fn http(raw: &RawHealthCheck<'_>, check: Check<'_>) -> HttpCheck {
    let text = |field: &Option<Field<&str>>, good: fn(&str) -> bool| {
        let field = field.as_ref()?;
        if good(field.value) {
            return Some(field.value.to_owned());
        }
        check.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
        None
    };
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let mut status = StatusList::default();
    if let Some(field) = &raw.status {
        match field.value.parse() {
            Ok(list) => status = list,
            Err(()) => check.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun)),
        }
    }
    if let Some(field) = &raw.body_matches
        && let Err(error) = Regex::new(field.value)
    {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        check.refuse(field, format_args!("{} is not {} ({why})", quoted(field.value), field.key.noun));
    }
    HttpCheck {
        path: text(&raw.path, |path| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()))
            .unwrap_or_else(|| "/".to_owned()),
        host: text(&raw.host, visible),
        status,
        body_contains: text(&raw.body_contains, |text| !text.is_empty()),
        body_matches: raw.body_matches.as_ref().map(|field| field.value.to_owned()),
    }
}

fn sni(raw: &RawHealthCheck<'_>, check: Check<'_>) -> Option<String> {
    let field = raw.sni.as_ref()?;
    if ServerName::try_from(field.value).is_err() {
        check.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
        return None;
    }
    Some(field.value.to_owned())
}

fn payload(text: Option<&Field<&str>>, hex: Option<&Field<&str>>, check: Check<'_>) -> Option<Vec<u8>> {
    const MOST: usize = 1400;
    if let (Some(text), Some(hex)) = (text, hex) {
        let message = format!("{} says the same in text; keep one of them", text.key.name);
        check.refuse_with(hex, message);
    }
    let field = text.or(hex)?;
    let bytes = match text {
        Some(field) => field.value.as_bytes().to_vec(),
        None => match from_hex(field.value) {
            Some(bytes) => bytes,
            None => {
                check.refuse(field, format_args!("{} is not {}", quoted(field.value), field.key.noun));
                return None;
            }
        },
    };
    if bytes.len() > MOST {
        check.refuse_with(field, format!("{} bytes are too many for one datagram; use at most {MOST}", bytes.len()));
    }
    Some(bytes)
}

fn command(raw: &RawHealthCheck<'_>, check: Check<'_>) -> Option<CommandCheck> {
    let Some(field) = &raw.command else {
        let message = "missing; set it to a list such as [\"/usr/local/bin/check\", \"argument\"]".to_owned();
        check.findings.refuse(raw.place.at, raw.place.path_of("command"), message);
        return None;
    };
    let words: &[Item<&str>] = &field.value;
    match words.first() {
        Some(program) if Path::new(program.value).is_absolute() => {}
        Some(program) => {
            check.refuse(field, format_args!("{} is not an absolute path", quoted(program.value)));
        }
        None => check.refuse(field, "the list is empty"),
    }
    if words.iter().any(|word| word.value.contains('\0')) {
        check.refuse(field, "a word contains a zero byte");
    }
    Some(CommandCheck { command: words.iter().map(|word| word.value.to_owned()).collect() })
}

/// Quorum, its hysteresis and `inhibit_on_failure`.
#[derive(Clone, Copy)]
pub(super) struct Availability {
    pub(super) quorum: u32,
    pub(super) quorum_hysteresis: u32,
    pub(super) inhibit_on_failure: bool,
}

pub(super) fn availability(
    raw: &RawVirtualService<'_>,
    servers: &[RealServerConfig],
    checks: &[HealthCheckConfig],
    check: Check<'_>,
) -> Availability {
    let mut found = Availability { quorum: 1, quorum_hysteresis: 0, inhibit_on_failure: false };
    check.number(raw.quorum.as_ref(), 1..=i64::from(u32::MAX), &mut found.quorum);
    check.number(raw.quorum_hysteresis.as_ref(), 0..=i64::from(u32::MAX), &mut found.quorum_hysteresis);
    let warn = |field: &Field<i64>, message: &str| super::warn(check.place, field, message, check.findings);
    if let Some(field) = &raw.quorum_hysteresis
        && found.quorum_hysteresis >= found.quorum
    {
        check.refuse_with(field, format!("must be less than quorum, which is {}", found.quorum));
    }
    let total: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
    if let Some(field) = &raw.quorum {
        if raw.fallback.is_none() {
            warn(field, "has no effect without a fallback");
        } else if u64::from(found.quorum) + u64::from(found.quorum_hysteresis) > total {
            let message = format!(
                "with its hysteresis it is more than the weights of all real servers, which are {total} together: once \
                 lost it never comes back"
            );
            warn(field, &message);
        }
    }
    if let Some(field) = &raw.inhibit_on_failure {
        found.inhibit_on_failure = field.value;
        let unchecked =
            |server: &RealServerConfig| server.health_checks.as_ref().map_or(checks.is_empty(), Vec::is_empty);
        if field.value && servers.iter().all(unchecked) {
            super::warn(check.place, field, "has no effect without a health_check", check.findings);
        }
    }
    found
}
