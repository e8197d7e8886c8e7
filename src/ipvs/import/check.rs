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
    pub(super) delay_before_retry_s: Option<f64>,
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
    // The defaults of keepalived 2.2.7 for retry and delay_before_retry, as keepalived.conf(5) has them.
    let (kind, retries, retry_delay_s) = match name {
        "TCP_CHECK" | "SMTP_CHECK" => ("tcp", 1, 1.0),
        "HTTP_GET" => ("http", 1, 3.0),
        "SSL_GET" => ("https", 1, 3.0),
        "UDP_CHECK" => ("udp", 1, 1.0),
        "PING_CHECK" => ("icmp", 1, 1.0),
        "MISC_CHECK" => ("command", 0, 1.0),
        _ => return None,
    };
    let mut reader = Reader::new(kind, defaults, (retries, retry_delay_s));
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
    /// Further questions once one was answered badly, and the seconds before each.
    retry: (u64, f64),
    urls: Vec<Settings>,
    virtual_host: Option<String>,
    sni: bool,
    warnings: Vec<String>,
}

impl Reader {
    fn new(kind: &str, defaults: &Defaults, (retries, retry_delay_s): (u64, f64)) -> Self {
        let mut check = Settings::new();
        check.insert("kind".to_owned(), json!(kind));
        check.insert("interval_ms".to_owned(), interval_ms(defaults.delay_loop_s));
        // A command has as long as the interval.
        let timeout_s = if kind == "command" { defaults.delay_loop_s } else { defaults.connect_timeout_s };
        check.insert("timeout_ms".to_owned(), ms(timeout_s));
        check.insert("rise".to_owned(), json!(1));
        if defaults.alpha {
            check.insert("initial".to_owned(), json!("down"));
        }
        if defaults.server_port != defaults.service_port && !matches!(kind, "icmp" | "command") {
            check.insert("port".to_owned(), json!(defaults.server_port));
        }
        let virtual_host = defaults.virtual_host.clone();
        let retry = (defaults.retry.unwrap_or(retries), defaults.delay_before_retry_s.unwrap_or(retry_delay_s));
        Self { check, retry, urls: Vec::new(), virtual_host, sni: false, warnings: Vec::new() }
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
            ("delay_loop", Some(seconds), _) => self.set("interval_ms", interval_ms(seconds)),
            ("connect_timeout" | "misc_timeout", Some(seconds), _) => self.set("timeout_ms", ms(seconds)),
            ("retry" | "nb_get_retry", _, Some(count)) => self.retry.0 = count,
            ("delay_before_retry", Some(seconds), _) => self.retry.1 = seconds,
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
        let (retries, delay_s) = self.retry;
        self.set("fall", json!(retries.saturating_add(1)));
        if retries > 0 {
            self.set("retry_interval_ms", interval_ms(delay_s));
        }
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

/// Milliseconds between two questions.
fn interval_ms(seconds: f64) -> Value {
    ms(seconds.max(0.02))
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

/// The words of a command, which may stand in quotes as one and have words in quotes of their own.
fn split_command(words: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in words {
        let (mut quote, mut inside) = (None, false);
        for letter in text.chars() {
            match (letter, quote) {
                (letter, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => {
                    quote = Some(letter);
                    if !inside {
                        found.push(String::new());
                    }
                    inside = true;
                }
                (letter, None) if letter.is_ascii_whitespace() => inside = false,
                (letter, _) => {
                    if !inside {
                        found.push(String::new());
                    }
                    inside = true;
                    if let Some(word) = found.last_mut() {
                        word.push(letter);
                    }
                }
            }
        }
    }
    found
}
