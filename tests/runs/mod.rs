//! Statistics documents for reports, as JSON and not by the program's own types: of older and later programs, of runs
//! small and large.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "the module is compiled into several test binaries")]

use serde_json::{Map, Value, json};

/// A director under a steady load, of which documents are made.
#[derive(Clone, Copy, Debug)]
pub struct Director {
    pub hostname: &'static str,
    pub version: &'static str,
    pub started_unix_s: u64,
    pub workers: u64,
    pub services: u64,
    /// Of each service.
    pub servers: u64,
    /// Frames of each worker in a second.
    pub pps: u64,
    /// Whether it is a program that tells stages, system calls, softirqs and kinds of latency apart.
    pub later: bool,
    /// Frames that each hundred thousand lose to a full TX ring.
    pub drops_per_100k: u64,
    /// Nanoseconds that a frame takes at the median.
    pub latency_ns: u64,
}

pub const DIRECTOR: Director = Director {
    hostname: "director1.example.net",
    version: "0.1.0",
    started_unix_s: 1_795_000_000,
    workers: 2,
    services: 1,
    servers: 3,
    pps: 900_000,
    later: true,
    drops_per_100k: 4,
    latency_ns: 1500,
};

const START_NS: u64 = 5_000_000_000;
const CAUSES: [&str; 9] = [
    "malformed",
    "no_service",
    "truncated_l4",
    "malformed_l4",
    "no_real_server",
    "connection_limit",
    "mtu_exceeded",
    "no_egress",
    "tx_ring_full",
];

impl Director {
    /// The document that it makes `seconds` after its start.
    pub fn document(&self, seconds: u64) -> Value {
        let counts: Vec<u64> = (0..self.workers).map(|worker| self.frames_of(worker, seconds)).collect();
        let received: u64 = counts.iter().sum();
        let dropped: u64 = counts.iter().map(|count| self.dropped_of(*count)).sum();
        let sent = received - dropped;
        let mut document = json!({
            "schema_version": 1, "version": self.version, "hostname": self.hostname, "kernel": "6.12.30-amd64",
            "started_at": {"unix_ns": self.started_unix_s * 1_000_000_000, "monotonic_ns": START_NS},
            "taken_at": {
                "unix_ns": (self.started_unix_s + seconds) * 1_000_000_000,
                "monotonic_ns": START_NS + seconds * 1_000_000_000,
            },
            "uptime_ns": seconds * 1_000_000_000, "generation": 3,
            "interfaces": [self.interface(received, dropped)],
            "workers": counts.iter().zip(0..).map(|(count, worker)| self.worker(worker, *count, seconds)).collect::<Vec<_>>(),
            "virtual_services": (0..self.services).map(|service| self.service(service, sent / self.services.max(1))).collect::<Vec<_>>(),
            "totals": {
                "received": traffic(received), "tx": traffic(sent), "drops": drops(dropped), "drop_bytes": dropped * 64,
                "unstamped": 0, "flows": {}, "latency": latency(sent, self.latency_ns),
            },
            "errors": [],
        });
        if self.later {
            self.add_later_fields(&mut document, seconds, sent);
        }
        document
    }

    /// Documents of each second, as lines.
    pub fn series(&self, seconds: impl IntoIterator<Item = u64>) -> String {
        seconds.into_iter().map(|second| self.document(second).to_string() + "\n").collect()
    }

    /// The load goes up and down, and workers differ.
    fn frames_of(&self, worker: u64, seconds: u64) -> u64 {
        let per_second = |second: u64| self.pps * (80 + (second * 7 + worker * 13) % 41) / 100;
        (0..seconds).map(per_second).sum()
    }

    fn dropped_of(&self, count: u64) -> u64 {
        count * self.drops_per_100k / 100_000
    }

    fn interface(&self, received: u64, dropped: u64) -> Value {
        let queue = |number: u64| {
            json!({
                "queue": number, "worker": number, "zero_copy": true, "rx": traffic(received / self.workers.max(1)),
                "ring_statistics": {"rx_dropped": 0, "rx_ring_full": dropped / 2, "rx_invalid_descs": 0},
            })
        };
        json!({
            "name": "eth0", "mode": "native", "redirect_errors": null,
            "xdp": {"redirected": received, "passed": 7, "no_socket": 0},
            "queues": (0..self.workers).map(queue).collect::<Vec<_>>(),
        })
    }

    fn worker(&self, worker: u64, count: u64, seconds: u64) -> Value {
        let all = seconds * 3_000_000_000;
        let busy = (count * 390).min(all);
        let mut report = json!({
            "worker": worker, "core": worker + 2, "cycles": {"busy": busy, "idle": all - busy},
            "received": traffic(count), "tx": traffic(count - self.dropped_of(count)), "drops": drops(self.dropped_of(count)),
            "latency": latency(count, self.latency_ns),
        });
        if self.later {
            let of = |percent: u64| busy / 100 * percent;
            let user = of(18) + of(34) + of(11) + of(7) + of(5) + of(3);
            report["cost"] = json!({
                "receive": of(18), "forward": of(34), "send": of(11), "complete": of(7), "refill": of(5), "other": of(3),
                "idle": (all - busy) / 4,
                "system_calls": {
                    "sendto": {"calls": count / 32, "cycles": of(17)},
                    "recvfrom": {"calls": count / 320, "cycles": busy - user - of(17)},
                    "poll": {"calls": seconds * 20, "cycles": all - busy - (all - busy) / 4},
                },
            });
        }
        report
    }

    fn service(&self, number: u64, sent: u64) -> Value {
        let weight = |server: u64| 1 + server % 4;
        let weights: u64 = (0..self.servers).map(weight).sum();
        let server = |server: u64| {
            let packets = sent * weight(server) * (96 + server * 5 % 9) / (weights * 100);
            json!({
                "address": format!("192.168.{}.{}", 10 + server / 250, 1 + server % 250), "weight": weight(server),
                "alive": true, "fallback": false, "share_slots": 65_537 * weight(server) / weights,
                "connections": {"active": 10, "inactive": 2, "persistent": 0, "begun": packets / 20 + server},
                "tx": traffic(packets), "drops": drops(0), "drop_bytes": 0,
            })
        };
        json!({
            "service": format!("tcp 192.168.88.15:{}", 80 + number), "vip": "192.168.88.15", "port": 80 + number,
            "protocol": "tcp", "scheduler": "mh", "table_size": 65_537,
            "real_servers": (0..self.servers).map(server).collect::<Vec<_>>(),
        })
    }

    fn add_later_fields(&self, document: &mut Value, seconds: u64, sent: u64) {
        document["cycle_hz"] = json!(3_000_000_000u64);
        document["softirq_measured_by"] = json!("tracepoints");
        let cpu = |cpu: u64| {
            let all = (1000 + seconds) * 1_000_000_000;
            json!({
                "cpu": cpu, "user_ns": all / 3, "nice_ns": 0, "system_ns": all / 10, "idle_ns": all / 2, "iowait_ns": 0,
                "irq_ns": 0, "softirq_ns": all / 15, "steal_ns": 0, "workers": [],
                "napi": [
                    {"interface": "eth0", "ns": sent * 55 / (self.workers + 1), "polls": 9, "packets": 9},
                    {"interface": "", "ns": 123_456, "polls": 9, "packets": 9},
                ],
            })
        };
        document["cpus"] = json!((1..=self.workers + 1).map(cpu).collect::<Vec<_>>());
        let totals = &mut document["totals"];
        totals["queueing"] = latency(sent, self.latency_ns / 3);
        totals["processing"] = latency(sent, self.latency_ns / 2);
        totals["completion"] = latency(sent, self.latency_ns * 8);
    }
}

fn traffic(packets: u64) -> Value {
    json!({"packets": packets, "bytes": packets * 64})
}

/// All by full TX rings, but a few.
fn drops(count: u64) -> Value {
    let of = |cause: &str| match cause {
        "tx_ring_full" => count - count / 10,
        "no_real_server" => count / 10,
        _ => 0,
    };
    CAUSES.iter().map(|cause| ((*cause).to_owned(), json!(of(cause)))).collect::<Map<_, _>>().into()
}

/// `count` values around a median, a tenth of the rest ever farther away. Growing counts grow in each bucket.
pub fn latency(count: u64, median_ns: u64) -> Value {
    let mut buckets = Vec::new();
    let mut left = count;
    let mut value = median_ns;
    while left > 0 && buckets.len() < 12 {
        let here = if left < 5 { left } else { left - left / 8 };
        buckets.push((value, here));
        left -= here;
        value = value * 17 / 10 + 1;
    }
    if let Some(last) = buckets.last_mut() {
        last.1 += left;
    }
    let sum: f64 = buckets.iter().map(|(value, count)| *value as f64 * *count as f64).sum();
    let at = |share: f64| {
        let wanted = (count as f64 * share).ceil();
        let mut below = 0.0;
        buckets.iter().find_map(|(value, count)| {
            below += *count as f64;
            (below >= wanted).then_some(value + value / 1000)
        })
    };
    json!({
        "unit": "ns", "significant_digits": 3, "count": count, "min": buckets.first().map(|first| first.0),
        "mean": (count > 0).then(|| sum / count as f64),
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99_9": at(0.999), "p99_99": at(0.9999),
        "max": buckets.last().map(|last| last.0),
        "buckets": buckets.iter().map(|(value, count)| {
            json!({"from_ns": value, "to_ns": value + value / 1000, "count": count})
        }).collect::<Vec<_>>(),
    })
}
