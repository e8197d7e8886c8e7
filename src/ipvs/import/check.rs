//! keepalived's checkers as health checks.

use serde_json::{Value, json};

use super::block::Entry;
use crate::config::edit::Settings;

/// What checkers of a virtual server have in common unless they say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    pub(super) delay_loop_s: f64,
    pub(super) connect_timeout_s: f64,
    pub(super) retry: Option<u64>,
    /// Weight of real servers that name none.
    pub(super) weight: Option<u64>,
    pub(super) virtual_host: Option<String>,
    /// Whether a server counts as down until it has answered.
    pub(super) alpha: bool,
    /// The port of the virtual service.
    pub(super) service_port: u16,
    /// The port of the real server, which is asked unless the checker names another.
    pub(super) server_port: u16,
}

/// The checks that a checker stands for, and what of it was not taken over. `None` if there is no such check.
pub(super) fn convert(checker: &Entry, defaults: &Defaults) -> Option<(Vec<Settings>, Vec<String>)> {
    let name = checker.name();
    let (kind, retries) = match name {
        "TCP_CHECK" => ("tcp", 0),
        "SMTP_CHECK" => ("tcp", 1),
        "HTTP_GET" => ("http", 3),
        "SSL_GET" => ("https", 3),
        "UDP_CHECK" => ("udp", 0),
        "PING_CHECK" => ("icmp", 0),
        "MISC_CHECK" => ("command", 0),
        _ => return None,
    };
    let mut reader = Reader::new(kind, defaults, retries);
    for entry in &checker.inner {
        reader.take(entry);
    }
    if name == "SMTP_CHECK" {
        reader.warn(checker, "SMTP_CHECK: only that the connection is made");
        reader.check.entry("port").or_insert(json!(25));
    }
    Some(reader.finish(checker))
}

/// Whether an entry of a real server is a checker.
pub(super) fn is_checker(entry: &Entry) -> bool {
    entry.name().ends_with("_CHECK") || matches!(entry.name(), "HTTP_GET" | "SSL_GET")
}

struct Reader {
    check: Settings,
    urls: Vec<Settings>,
    virtual_host: Option<String>,
    sni: bool,
    warnings: Vec<String>,
}

impl Reader {
    fn new(kind: &str, defaults: &Defaults, retries: u64) -> Self {
        let mut check = Settings::new();
        check.insert("kind".to_owned(), json!(kind));
        check.insert("interval_ms".to_owned(), ms(defaults.delay_loop_s));
        // A command has as long as the interval.
        let timeout_s = if kind == "command" { defaults.delay_loop_s } else { defaults.connect_timeout_s };
        check.insert("timeout_ms".to_owned(), ms(timeout_s));
        check.insert("rise".to_owned(), json!(1));
        check.insert("fall".to_owned(), json!(defaults.retry.unwrap_or(retries) + 1));
        if defaults.alpha {
            check.insert("initial".to_owned(), json!("down"));
        }
        if defaults.server_port != defaults.service_port && !matches!(kind, "icmp" | "command") {
            check.insert("port".to_owned(), json!(defaults.server_port));
        }
        let virtual_host = defaults.virtual_host.clone();
        Self { check, urls: Vec::new(), virtual_host, sni: false, warnings: Vec::new() }
    }

    fn warn(&mut self, entry: &Entry, what: &str) {
        self.warnings.push(format!("line {}: {what}", entry.line));
    }

    fn set(&mut self, key: &str, value: Value) {
        self.check.insert(key.to_owned(), value);
    }

    fn take(&mut self, entry: &Entry) {
        let value = entry.value().unwrap_or_default();
        let seconds: Option<f64> = value.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds > 0.0);
        let count: Option<u64> = value.parse().ok();
        match (entry.name(), seconds, count) {
            ("delay_loop", Some(seconds), _) => self.set("interval_ms", ms(seconds)),
            ("connect_timeout" | "misc_timeout", Some(seconds), _) => self.set("timeout_ms", ms(seconds)),
            ("retry" | "nb_get_retry", _, Some(count)) => self.set("fall", json!(count + 1)),
            ("connect_port", _, Some(port)) => self.set("port", json!(port)),
            ("alpha", ..) => self.set("initial", json!("down")),
            ("virtualhost", ..) => self.virtual_host = Some(value.to_owned()),
            ("enable_sni", ..) => self.sni = true,
            ("url", ..) => self.take_url(entry),
            ("misc_path", ..) => self.set("command", json!(split_command(&entry.words[1..]))),
            ("payload", ..) => self.set("send_hex", json!(hex(&entry.words[1..]))),
            ("require_reply", ..) if entry.words.len() > 1 => self.set("expect_hex", json!(hex(&entry.words[1..]))),
            ("require_reply", ..) => self.set("expect", json!("")),
            _ => self.warn(entry, &format!("{} is not taken over", entry.text())),
        }
    }

    fn take_url(&mut self, url: &Entry) {
        let mut settings = Settings::new();
        for entry in &url.inner {
            let value = entry.words[1..].join(",");
            let key = match entry.name() {
                "path" => "path",
                "status_code" => "status",
                "virtualhost" => "host",
                "regex" => "body_matches",
                _ => {
                    self.warn(entry, &format!("{} of a url is not taken over", entry.text()));
                    continue;
                }
            };
            let value = if key == "body_matches" { entry.words[1..].join(" ") } else { value };
            settings.insert(key.to_owned(), json!(value));
        }
        self.urls.push(settings);
    }

    /// One check for each url; all must be good, as in keepalived.
    fn finish(mut self, checker: &Entry) -> (Vec<Settings>, Vec<String>) {
        let is_http = matches!(self.check.get("kind").and_then(Value::as_str), Some("http" | "https"));
        if !is_http {
            return (vec![self.check], self.warnings);
        }
        if self.urls.is_empty() {
            self.warn(checker, "no url: the path / is asked for");
            self.urls.push(Settings::new());
        }
        let checks = self.urls.into_iter().map(|url| {
            let mut check = self.check.clone();
            if let Some(host) = &self.virtual_host {
                check.insert("host".to_owned(), json!(host));
            }
            check.extend(url);
            if let Some(host) = check.get("host").cloned().filter(|_| self.sni) {
                check.insert("sni".to_owned(), host);
            }
            check
        });
        (checks.collect(), self.warnings)
    }
}

/// Milliseconds, at least one.
fn ms(seconds: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what health checks take")]
    let whole = (seconds * 1000.0).round().clamp(1.0, 3_600_000.0) as u64;
    json!(whole)
}

fn hex(words: &[String]) -> String {
    words.concat().to_lowercase()
}

/// The words of a command, which may stand in quotes as one.
fn split_command(words: &[String]) -> Vec<String> {
    words.iter().flat_map(|word| word.split_ascii_whitespace()).map(str::to_owned).collect()
}
