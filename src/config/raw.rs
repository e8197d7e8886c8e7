//! The tables of the file as they stand there: right in type, not yet in meaning.

use toml::de::DeTable;

use super::error::Findings;
use super::reader::{Field, Item, Key, Place, Table, ValueKind, WordOr};
use super::size;

const DIRECTOR: Key = Key::optional("director", "a table", "one [director] table");
const INTERFACE: Key = Key::optional("interface", "an array of tables", "[[interface]], in double brackets");
const VIRTUAL_SERVICE: Key =
    Key::optional("virtual_service", "an array of tables", "[[virtual_service]], in double brackets");
const REAL_SERVER: Key =
    Key::optional("real_server", "an array of tables", "[[virtual_service.real_server]], in double brackets");
const HEALTH_CHECK: Key =
    Key::optional("health_check", "an array of tables", "[[virtual_service.health_check]], in double brackets");
const REAL_SERVER_HEALTH_CHECK: Key = Key::optional(
    "health_check",
    "an array of tables",
    "[[virtual_service.real_server.health_check]], in double brackets, or [] for none",
);
const FALLBACK: Key = Key::optional("fallback", "a table", "one [virtual_service.fallback] table");

const TRUE_OR_FALSE: &str = "true or false";
const ANNOUNCE: &str = "a way to announce a VIP";
const ANNOUNCE_WORDS: &str = "\"kernel\" or \"arp\"";
/// Up to [`MAX_TIMEOUT_S`](super::MAX_TIMEOUT_S).
const TIMEOUT: &str = "1 to 2678400 seconds";
const RING_SIZE: &str = "a power of two from 64 to 65536";

/// All tables of a file.
pub(super) struct RawConfig<'t> {
    pub(super) director: Option<RawDirector<'t>>,
    pub(super) interfaces: Vec<RawInterface<'t>>,
    pub(super) virtual_services: Vec<RawVirtualService<'t>>,
}

pub(super) struct RawDirector<'t> {
    pub(super) place: Place,
    pub(super) secret: Option<Field<&'t str>>,
    pub(super) control_socket: Option<Field<&'t str>>,
    pub(super) control_socket_mode: Option<Field<&'t str>>,
    pub(super) control_socket_owner: Option<Field<&'t str>>,
    pub(super) control_socket_group: Option<Field<&'t str>>,
    pub(super) no_socket: Option<Field<&'t str>>,
    pub(super) stats_file: Option<Field<&'t str>>,
    pub(super) stats_interval_ms: Option<Field<i64>>,
    pub(super) stats_format: Option<Field<&'t str>>,
    pub(super) stats_rotate: Option<Field<&'t str>>,
    pub(super) stats_keep: Option<Field<i64>>,
    pub(super) prometheus_listen: Option<Field<&'t str>>,
    pub(super) stats_softirq: Option<Field<&'t str>>,
    pub(super) flows_per_worker: Option<Field<i64>>,
    pub(super) announce: Option<Field<&'t str>>,
    pub(super) announce_at_start: Option<Field<bool>>,
    pub(super) tcp_timeout_s: Option<Field<i64>>,
    pub(super) tcp_fin_timeout_s: Option<Field<i64>>,
    pub(super) udp_timeout_s: Option<Field<i64>>,
}

pub(super) struct RawInterface<'t> {
    pub(super) place: Place,
    pub(super) name: Option<Field<&'t str>>,
    pub(super) queues: Option<Field<WordOr<'t, Vec<Item<i64>>>>>,
    pub(super) cores: Option<Field<WordOr<'t, Vec<Item<i64>>>>>,
    pub(super) receive: Option<Field<bool>>,
    pub(super) mode: Option<Field<&'t str>>,
    pub(super) copy: Option<Field<&'t str>>,
    pub(super) poll: Option<Field<&'t str>>,
    pub(super) idle_spin_us: Option<Field<i64>>,
    pub(super) busy_poll: Option<RawBusyPoll>,
    pub(super) rx_ring: Option<Field<i64>>,
    pub(super) tx_ring: Option<Field<i64>>,
    pub(super) fill_ring: Option<Field<i64>>,
    pub(super) completion_ring: Option<Field<i64>>,
    pub(super) frames: Option<Field<i64>>,
    pub(super) frame_size: Option<Field<WordOr<'t, i64>>>,
    pub(super) batch: Option<Field<i64>>,
    pub(super) huge_pages: Option<Field<bool>>,
    pub(super) tx_hold_us: Option<Field<i64>>,
    pub(super) virtual_macs: Option<Field<Vec<Item<&'t str>>>>,
    pub(super) mtu: Option<Field<i64>>,
}

pub(super) struct RawBusyPoll {
    pub(super) place: Place,
    pub(super) timeout_us: Option<Field<i64>>,
    pub(super) budget: Option<Field<i64>>,
}

pub(super) struct RawVirtualService<'t> {
    pub(super) place: Place,
    pub(super) vip: Option<Field<&'t str>>,
    pub(super) port: Option<Field<i64>>,
    pub(super) protocol: Option<Field<&'t str>>,
    pub(super) scheduler: Option<Field<&'t str>>,
    pub(super) table_size: Option<Field<i64>>,
    pub(super) hash_by: Option<Field<&'t str>>,
    pub(super) persistence: Option<Field<&'t str>>,
    pub(super) persistence_timeout_s: Option<Field<i64>>,
    pub(super) persistence_netmask: Option<Field<WordOr<'t, i64>>>,
    pub(super) tcp_timeout_s: Option<Field<i64>>,
    pub(super) tcp_fin_timeout_s: Option<Field<i64>>,
    pub(super) udp_timeout_s: Option<Field<i64>>,
    pub(super) previous_table_s: Option<Field<i64>>,
    pub(super) quic: Option<Field<bool>>,
    pub(super) quic_server_id_length: Option<Field<i64>>,
    pub(super) health_checks: Vec<RawHealthCheck<'t>>,
    pub(super) inhibit_on_failure: Option<Field<bool>>,
    pub(super) quorum: Option<Field<i64>>,
    pub(super) quorum_hysteresis: Option<Field<i64>>,
    pub(super) fallback: Option<RawFallback<'t>>,
    pub(super) announce: Option<Field<&'t str>>,
    pub(super) real_servers: Vec<RawRealServer<'t>>,
}

pub(super) struct RawRealServer<'t> {
    pub(super) place: Place,
    pub(super) address: Option<Field<&'t str>>,
    pub(super) weight: Option<Field<i64>>,
    pub(super) upper_threshold: Option<Field<i64>>,
    pub(super) lower_threshold: Option<Field<i64>>,
    pub(super) mac: Option<Field<&'t str>>,
    pub(super) quic_server_id: Option<Field<&'t str>>,
    pub(super) health_checks: Option<Vec<RawHealthCheck<'t>>>,
    pub(super) inhibit_on_failure: Option<Field<bool>>,
}

pub(super) struct RawFallback<'t> {
    pub(super) place: Place,
    pub(super) address: Option<Field<&'t str>>,
    pub(super) mac: Option<Field<&'t str>>,
}

pub(super) struct RawHealthCheck<'t> {
    pub(super) place: Place,
    pub(super) kind: Option<Field<&'t str>>,
    pub(super) via: Option<Field<&'t str>>,
    pub(super) port: Option<Field<i64>>,
    pub(super) interval_ms: Option<Field<i64>>,
    pub(super) retry_interval_ms: Option<Field<i64>>,
    pub(super) timeout_ms: Option<Field<i64>>,
    pub(super) rise: Option<Field<i64>>,
    pub(super) fall: Option<Field<i64>>,
    pub(super) initial: Option<Field<&'t str>>,
    pub(super) jitter_percent: Option<Field<i64>>,
    pub(super) flap_window_s: Option<Field<i64>>,
    pub(super) path: Option<Field<&'t str>>,
    pub(super) host: Option<Field<&'t str>>,
    pub(super) status: Option<Field<&'t str>>,
    pub(super) body_contains: Option<Field<&'t str>>,
    pub(super) body_matches: Option<Field<&'t str>>,
    pub(super) tls_verify: Option<Field<bool>>,
    pub(super) tls_ca: Option<Field<&'t str>>,
    pub(super) sni: Option<Field<&'t str>>,
    pub(super) send: Option<Field<&'t str>>,
    pub(super) send_hex: Option<Field<&'t str>>,
    pub(super) expect: Option<Field<&'t str>>,
    pub(super) expect_hex: Option<Field<&'t str>>,
    pub(super) command: Option<Field<Vec<Item<&'t str>>>>,
}

/// Reads a parsed file; what has the wrong type or an unknown name is noted in `findings` and left out.
pub(super) fn read<'t>(tree: &'t DeTable<'t>, text: &'t str, findings: &'t Findings) -> RawConfig<'t> {
    let mut root = Table::root(tree, text, findings);
    let raw = RawConfig::read(&mut root);
    root.finish();
    raw
}

impl<'t> RawConfig<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        Self {
            director: table.table(DIRECTOR, "[director]", RawDirector::read),
            interfaces: table.tables(INTERFACE, "[[interface]]", RawInterface::read),
            virtual_services: table.tables(VIRTUAL_SERVICE, "[[virtual_service]]", RawVirtualService::read),
        }
    }
}

impl<'t> RawDirector<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const SECRET: &str = "any text in quotes, the same on all directors of a cluster";
        const SOCKET: &str = "an absolute path of at most 107 bytes such as \"/run/pointsman/control.sock\"";
        const MODE: &str = "octal digits in quotes from \"0600\" to \"0777\" such as \"0660\"";
        const USER: &str = "the name or number of a user in quotes such as \"root\"";
        const GROUP: &str = "the name or number of a group in quotes such as \"adm\"";
        const FILE: &str = "an absolute path such as \"/run/pointsman/stats.json\"";
        Self {
            place: table.place.clone(),
            secret: table.text(Key::optional("secret", "a secret", SECRET)),
            control_socket: table.text(Key::optional("control_socket", "a path for a socket", SOCKET)),
            control_socket_mode: table.text(Key::optional("control_socket_mode", "a file mode", MODE)),
            control_socket_owner: table.text(Key::optional("control_socket_owner", "a user", USER)),
            control_socket_group: table.text(Key::optional("control_socket_group", "a group", GROUP)),
            no_socket: table.text(Key::optional("no_socket", "an action", "\"drop\" or \"pass\"")),
            stats_file: table.text(Key::optional("stats_file", "a path for a file", FILE)),
            flows_per_worker: table.integer(Key::optional(
                "flows_per_worker",
                "a number of flows",
                "1024 to 268435456",
            )),
            stats_interval_ms: table.integer(Key::optional(
                "stats_interval_ms",
                "an interval in milliseconds",
                "10 to 3600000",
            )),
            stats_format: table.text(Key::optional("stats_format", "a format", "\"auto\", \"document\" or \"lines\"")),
            stats_rotate: table.text(Key::optional("stats_rotate", "a size", size::EXPECTED)),
            stats_keep: table.integer(Key::optional("stats_keep", "a number of files", "0 to 1000")),
            prometheus_listen: table.text(Key::optional(
                "prometheus_listen",
                "an address with a port",
                "an address and a port such as \"127.0.0.1:9465\" or \"[::1]:9465\"",
            )),
            stats_softirq: table.text(Key::optional("stats_softirq", "a way to measure", "\"auto\" or \"procfs\"")),
            announce: table.text(Key::optional("announce", ANNOUNCE, ANNOUNCE_WORDS)),
            announce_at_start: table.flag(Key::optional("announce_at_start", "a switch", TRUE_OR_FALSE)),
            tcp_timeout_s: table.integer(Key::optional("tcp_timeout_s", "a time in seconds", TIMEOUT)),
            tcp_fin_timeout_s: table.integer(Key::optional("tcp_fin_timeout_s", "a time in seconds", TIMEOUT)),
            udp_timeout_s: table.integer(Key::optional("udp_timeout_s", "a time in seconds", TIMEOUT)),
        }
    }
}

impl<'t> RawInterface<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const NAME: &str = "a name of 1 to 15 bytes without spaces, '/' and ':', such as \"eth0\"";
        const QUEUES: &str = "\"all\" or a list of numbers from 0 to 1023 such as [0, 1]";
        const CORES: &str = "\"auto\" or a list of CPU numbers from 0 to 1023 such as [2, 3]";
        const MODE: &str = "\"auto\", \"native\" or \"generic\"";
        const COPY: &str = "\"auto\", \"zero_copy\" or \"copy\"";
        const POLL: &str = "\"adaptive\" or \"busy\"";
        const BUSY_POLL: &str = "a table such as { timeout_us = 20, budget = 64 }";
        const MACS: &str = "a list of MACs such as [\"02:00:5e:00:01:01\"]";
        const MICROSECONDS: &str = "a time in microseconds";
        const RING: &str = "a ring size";
        const FLAG: &str = "a switch";
        Self {
            place: table.place.clone(),
            name: table.text(Key::required("name", "an interface name", NAME)),
            queues: table.word_or_integers(Key::optional("queues", "a list of queues", QUEUES), "a queue"),
            cores: table.word_or_integers(Key::optional("cores", "a list of cores", CORES), "a CPU number"),
            receive: table.flag(Key::optional("receive", FLAG, TRUE_OR_FALSE)),
            mode: table.text(Key::optional("mode", "a mode", MODE)),
            copy: table.text(Key::optional("copy", "a copy mode", COPY)),
            poll: table.text(Key::optional("poll", "a poll mode", POLL)),
            idle_spin_us: table.integer(Key::optional("idle_spin_us", MICROSECONDS, "0 to 1000000")),
            busy_poll: table.table(
                Key::optional("busy_poll", "a table", BUSY_POLL),
                "[interface.busy_poll]",
                RawBusyPoll::read,
            ),
            rx_ring: table.integer(Key::optional("rx_ring", RING, RING_SIZE)),
            tx_ring: table.integer(Key::optional("tx_ring", RING, RING_SIZE)),
            fill_ring: table.integer(Key::optional("fill_ring", RING, RING_SIZE)),
            completion_ring: table.integer(Key::optional("completion_ring", RING, RING_SIZE)),
            frames: table.integer(Key::optional("frames", "a number of frames", "128 to 1048576")),
            frame_size: table.word_or_integer(Key::optional("frame_size", "a frame size", "\"auto\", 2048 or 4096")),
            batch: table.integer(Key::optional("batch", "a batch size", "1 to 512")),
            huge_pages: table.flag(Key::optional("huge_pages", FLAG, TRUE_OR_FALSE)),
            tx_hold_us: table.integer(Key::optional("tx_hold_us", MICROSECONDS, "0 to 1000000")),
            virtual_macs: table.texts(Key::optional("virtual_macs", "a list of MACs", MACS), "a MAC"),
            mtu: table.integer(Key::optional("mtu", "an MTU", "68 to 65535")),
        }
    }
}

impl RawBusyPoll {
    fn read(table: &mut Table<'_>) -> Self {
        Self {
            place: table.place.clone(),
            timeout_us: table.integer(Key::optional("timeout_us", "a time in microseconds", "1 to 1000000")),
            budget: table.integer(Key::optional("budget", "a number of frames", "1 to 65535")),
        }
    }
}

impl<'t> RawVirtualService<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const VIP: &str = "an IPv4 or IPv6 address in quotes such as \"192.168.88.15\"";
        const SCHEDULER: &str = "\"mh\", \"sh\", \"rr\", \"wrr\", \"lc\" or \"wlc\"";
        const NETMASK: &str =
            "a mask such as \"255.255.255.0\", or a prefix length: 1 to 32 for IPv4, 1 to 128 for IPv6";
        const PREVIOUS: &str = "0 (not at all) to 86400 seconds";
        const TABLE_SIZE: &str = "a prime from 2 to 16777213 such as 65537";
        Self {
            place: table.place.clone(),
            vip: table.text(Key::required("vip", "an IP address", VIP)),
            port: table.integer(Key::required("port", "a port", "0 (any port) to 65535")),
            protocol: table.text(Key::required("protocol", "a protocol", "\"tcp\" or \"udp\"")),
            scheduler: table.text(Key::optional("scheduler", "a scheduler", SCHEDULER)),
            table_size: table.integer(Key::optional("table_size", "a table size", TABLE_SIZE)),
            hash_by: table.text(Key::optional("hash_by", "a part of a flow", "\"flow\" or \"client\"")),
            persistence: table.text(Key::optional("persistence", "a persistence", "\"none\" or \"client\"")),
            persistence_timeout_s: table.integer(Key::optional("persistence_timeout_s", "a time in seconds", TIMEOUT)),
            persistence_netmask: table.word_or_integer(Key::optional("persistence_netmask", "a netmask", NETMASK)),
            tcp_timeout_s: table.integer(Key::optional("tcp_timeout_s", "a time in seconds", TIMEOUT)),
            tcp_fin_timeout_s: table.integer(Key::optional("tcp_fin_timeout_s", "a time in seconds", TIMEOUT)),
            udp_timeout_s: table.integer(Key::optional("udp_timeout_s", "a time in seconds", TIMEOUT)),
            previous_table_s: table.integer(Key::optional("previous_table_s", "a time in seconds", PREVIOUS)),
            quic: table.flag(Key::optional("quic", "a truth value", "true or false")),
            quic_server_id_length: table.integer(Key::optional(
                "quic_server_id_length",
                "a length in bytes",
                "1 to 15",
            )),
            health_checks: table.tables(HEALTH_CHECK, "[[virtual_service.health_check]]", RawHealthCheck::read),
            inhibit_on_failure: table.flag(Key::optional("inhibit_on_failure", "a truth value", TRUE_OR_FALSE)),
            quorum: table.integer(Key::optional("quorum", "a weight", "1 to 4294967295")),
            quorum_hysteresis: table.integer(Key::optional("quorum_hysteresis", "a weight", "0 to 4294967295")),
            fallback: table.table(FALLBACK, "[virtual_service.fallback]", RawFallback::read),
            announce: table.text(Key::optional("announce", ANNOUNCE, ANNOUNCE_WORDS)),
            real_servers: table.tables(REAL_SERVER, "[[virtual_service.real_server]]", RawRealServer::read),
        }
    }
}

impl<'t> RawRealServer<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const ADDRESS: &str = "an IPv4 or IPv6 address in quotes such as \"192.168.88.100\"";
        const THRESHOLD: &str = "a number of connections";
        const THRESHOLDS: &str = "0 (no limit) to 2147483647";
        const SERVER_ID: &str =
            "pairs of hex digits in quotes such as \"0a1b\", as many as quic_server_id_length of the virtual service";
        const MAC: &str = "six pairs of hex digits in quotes such as \"02:00:00:00:01:00\"";
        Self {
            place: table.place.clone(),
            address: table.text(Key::required("address", "an IP address", ADDRESS)),
            weight: table.integer(Key::optional("weight", "a weight", "0 (no new flows) to 2147483647")),
            upper_threshold: table.integer(Key::optional("upper_threshold", THRESHOLD, THRESHOLDS)),
            lower_threshold: table.integer(Key::optional("lower_threshold", THRESHOLD, THRESHOLDS)),
            mac: table.text(Key::optional("mac", "a MAC", MAC)),
            quic_server_id: table.text(Key::optional("quic_server_id", "a server id", SERVER_ID)),
            health_checks: table.tables_if_any(
                REAL_SERVER_HEALTH_CHECK,
                "[[virtual_service.real_server.health_check]]",
                RawHealthCheck::read,
            ),
            inhibit_on_failure: table.flag(Key::optional("inhibit_on_failure", "a truth value", TRUE_OR_FALSE)),
        }
    }
}

impl<'t> RawFallback<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const ADDRESS: &str = "an IPv4 or IPv6 address in quotes such as \"192.168.88.9\"";
        const MAC: &str = "six pairs of hex digits in quotes such as \"02:00:00:00:00:09\"";
        Self {
            place: table.place.clone(),
            address: table.text(Key::required("address", "an IP address", ADDRESS)),
            mac: table.text(Key::optional("mac", "a MAC", MAC)),
        }
    }
}

impl<'t> RawHealthCheck<'t> {
    fn read(table: &mut Table<'t>) -> Self {
        const KIND: &str = "\"tcp\", \"http\", \"https\", \"udp\", \"icmp\" or \"command\"";
        const PATH: &str = "a path such as \"/health\"";
        const HOST: &str = "a name such as \"www.example.net\"";
        const STATUS: &str = "statuses from 100 to 599 such as \"200-299,304\"";
        const REGEX: &str = "one such as \"ready|idle\"";
        const FILE: &str = "an absolute path such as \"/etc/ssl/own-ca.pem\"";
        const HEX: &str = "pairs of hex digits in quotes such as \"0a1b\"";
        const COMMAND: &str = "a list such as [\"/usr/local/bin/check\", \"argument\"]";
        const TEXT: &str = "a text in quotes";
        Self {
            place: table.place.clone(),
            kind: table.text(Key::required("kind", "a kind of check", KIND)),
            via: table.text(Key::optional("via", "a way", "\"address\" or \"direct\"")),
            port: table.integer(Key::optional("port", "a port", "1 to 65535")),
            interval_ms: table.integer(Key::optional("interval_ms", "a time in milliseconds", "20 to 3600000")),
            retry_interval_ms: table.integer(Key::optional(
                "retry_interval_ms",
                "an interval in milliseconds",
                "20 to 3600000",
            )),
            timeout_ms: table.integer(Key::optional("timeout_ms", "a time in milliseconds", "1 to 600000")),
            rise: table.integer(Key::optional("rise", "a number of answers", "1 to 1000")),
            fall: table.integer(Key::optional("fall", "a number of answers", "1 to 1000")),
            initial: table.text(Key::optional("initial", "a state", "\"up\" or \"down\"")),
            jitter_percent: table.integer(Key::optional("jitter_percent", "a percentage", "0 to 50")),
            flap_window_s: table.integer(Key::optional("flap_window_s", "a time in seconds", "0 to 86400")),
            path: table.text(Key::optional("path", "a path of a URL", PATH)),
            host: table.text(Key::optional("host", "a host", HOST)),
            status: table.text(Key::optional("status", "a list of statuses", STATUS)),
            body_contains: table.text(Key::optional("body_contains", "a text", TEXT)),
            body_matches: table.text(Key::optional("body_matches", "a regular expression", REGEX)),
            tls_verify: table.flag(Key::optional("tls_verify", "a truth value", TRUE_OR_FALSE)),
            tls_ca: table.text(Key::optional("tls_ca", "a path of a file", FILE)),
            sni: table.text(Key::optional("sni", "a host", HOST)),
            send: table.text(Key::optional("send", "a text", TEXT)),
            send_hex: table.text(Key::optional("send_hex", "hex digits", HEX)),
            expect: table.text(Key::optional("expect", "a text", TEXT)),
            expect_hex: table.text(Key::optional("expect_hex", "hex digits", HEX)),
            command: table.texts(Key::optional("command", "a list of words", COMMAND), "a word"),
        }
    }
}

/// A key that the file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedKey {
    /// The table it stands in, as a dotted path without indices (`virtual_service.real_server`); empty for the file.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub expects: &'static str,
    /// Whether its table is refused without it.
    pub required: bool,
    /// What its value is written as.
    pub value: ValueKind,
}

/// Every key that a file may have: what the reading code asks for, so never out of date. The checks of a real server
/// have the keys of those of a service, which are listed once.
#[must_use]
pub fn accepted_keys() -> Vec<AcceptedKey> {
    let (empty, findings) = (DeTable::new(), Findings::default());
    let mut all = Vec::new();
    let mut note = |path: &'static str, read: &dyn Fn(&mut Table<'_>)| {
        let mut table = Table::root(&empty, "", &findings);
        read(&mut table);
        all.extend(table.accepted().iter().map(|key| AcceptedKey {
            table: path,
            name: key.name,
            expects: key.expects,
            required: key.required,
            value: key.value,
        }));
    };
    note("", &|table| drop(RawConfig::read(table)));
    note("director", &|table| drop(RawDirector::read(table)));
    note("interface", &|table| drop(RawInterface::read(table)));
    note("interface.busy_poll", &|table| drop(RawBusyPoll::read(table)));
    note("virtual_service", &|table| drop(RawVirtualService::read(table)));
    note("virtual_service.real_server", &|table| drop(RawRealServer::read(table)));
    note("virtual_service.health_check", &|table| drop(RawHealthCheck::read(table)));
    note("virtual_service.fallback", &|table| drop(RawFallback::read(table)));
    all
}

/// What to do about a key that is like none of its table: it may belong into another one.
pub(super) fn advice_for_stray(name: &str, header: &str, accepted: &[Key]) -> String {
    let elsewhere = accepted_keys().into_iter().find(|key| key.name == name && !key.table.is_empty());
    match elsewhere {
        Some(key) => format!("{name} belongs into {}", header_of(key.table)),
        None => {
            let names: Vec<_> = accepted.iter().map(|key| key.name).collect();
            format!("{header} knows {}", names.join(", "))
        }
    }
}

/// How the file writes the table of a dotted path.
fn header_of(table: &str) -> String {
    if matches!(table, "director" | "interface.busy_poll" | "virtual_service.fallback") {
        format!("[{table}]")
    } else {
        format!("[[{table}]]")
    }
}
