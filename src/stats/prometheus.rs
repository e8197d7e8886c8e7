//! The statistics as Prometheus reads them: its text format, by its conventions.
//!
//! `docs/prometheus.md` lists what there is. Histograms are classic ones, whose bounds are bounds of the buckets that
//! latencies are recorded in; so their counts are exact.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::report::{
    CpuReport, InterfaceReport, Latency, Moment, RealServerReport, Report, SystemCallCost, Traffic, WorkerReport,
};

/// Media type of the text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds of latency buckets: the powers of two from 512 ns to 1.07 s, where the buckets of the recorded histogram begin.
/// Bounds are inclusive, so each is a nanosecond less.
const LATENCY_BOUNDS: std::ops::RangeInclusive<u32> = 9..=30;

/// What cannot be written as text.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the statistics for Prometheus: {0}")]
pub struct RenderError(#[from] prometheus::Error);

/// The report in Prometheus' text format.
///
/// # Errors
/// [`RenderError`]; no report brings that about.
pub fn render(report: &Report) -> Result<Vec<u8>, RenderError> {
    let mut families = Families(Vec::new());
    director(report, &mut families);
    interfaces(&report.interfaces, &mut families);
    queues(&report.interfaces, &mut families);
    workers(&report.workers, &mut families);
    worker_histograms(&report.workers, &mut families);
    worker_cost(&report.workers, &mut families);
    worker_threads(&report.workers, &mut families);
    cpus(&report.cpus, &mut families);
    services(report, &mut families);
    real_servers(report, &mut families);
    health_checks(report, &mut families);
    let mut text = Vec::new();
    TextEncoder::new().encode(&families.0, &mut text)?;
    Ok(text)
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

struct Families(Vec<MetricFamily>);

impl Families {
    fn counter<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        self.add(name, help, MetricType::COUNTER, values, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        self.add(name, help, MetricType::GAUGE, values, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    fn histogram<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, Histogram)>) {
        self.add(name, help, MetricType::HISTOGRAM, values, Metric::set_histogram);
    }

    fn add<'a, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels<'a>, V)>,
        set: impl Fn(&mut Metric, V),
    ) {
        let metric = |(labels, value): (Labels<'a>, V)| {
            let mut metric = Metric::default();
            metric.set_label(labels.into_iter().map(label).collect());
            set(&mut metric, value);
            metric
        };
        let metrics: Vec<Metric> = values.into_iter().map(metric).collect();
        // Of nothing there is no family.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("pointsman_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn label((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn of_queue<'a>(interface: &'a str, queue: &'a str) -> Labels<'a> {
    vec![("interface", interface), ("queue", queue)]
}

fn by<'a>(first: &'static str, its: &'a str, second: &'static str, value: &'a str) -> Labels<'a> {
    vec![(first, its), (second, value)]
}

fn with<'a>(mut labels: Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    labels.push((name, value));
    labels
}

/// Prometheus has no whole numbers: counts beyond 2^53 are rounded.
fn number(count: u64) -> f64 {
    count as f64
}

fn seconds(ns: u64) -> f64 {
    number(ns) / 1e9
}

fn director(report: &Report, out: &mut Families) {
    let Moment { unix_ns, .. } = report.started_at;
    let info = vec![("version", &*report.version), ("hostname", &*report.hostname), ("kernel", &*report.kernel)];
    out.gauge("info", "Versions of the director and of the kernel. Always 1.", [(info, 1.0)]);
    out.gauge("start_time_seconds", "When the director started, in seconds since 1970.", [(vec![], seconds(unix_ns))]);
    out.gauge(
        "forwarding_table_generation",
        "Number of the published forwarding table.",
        [(vec![], number(report.generation))],
    );
    out.gauge(
        "cycle_frequency_hertz",
        "Frequency of the counter that cycles are counted by.",
        [(vec![], number(report.cycle_hz))],
    );
    let identity = &report.identity;
    let differences = [
        ("redirects", identity.redirects.difference),
        ("verdicts", Some(identity.verdicts.difference)),
        ("frames", Some(identity.frames.difference)),
    ];
    out.gauge(
        "identity_difference_packets",
        "Left less right side of a sum that agrees at rest; under load the frames on their way.",
        differences.into_iter().filter_map(|(name, of)| Some((vec![("identity", name)], of? as f64))),
    );
    out.gauge(
        "unreadable_sources",
        "Sources of statistics that could not be read for this scrape.",
        [(vec![], report.errors.len() as f64)],
    );
}

fn interfaces(interfaces: &[InterfaceReport], out: &mut Families) {
    let counted = || interfaces.iter().filter_map(|of| Some((&*of.name, of.xdp?)));
    out.counter(
        "xdp_packets_total",
        "Frames by what the XDP program did with them.",
        counted().flat_map(|(interface, xdp)| {
            let results = [
                ("redirected", xdp.redirected),
                ("passed", xdp.passed),
                ("not_our_mac", xdp.not_our_mac),
                ("malformed", xdp.malformed),
                ("no_socket", xdp.no_socket),
            ];
            results.map(|(result, count)| (vec![("interface", interface), ("result", result)], number(count)))
        }),
    );
    out.counter(
        "xdp_unstamped_packets_total",
        "Redirected frames that carry no time of their reception.",
        counted().map(|(interface, xdp)| (vec![("interface", interface)], number(xdp.unstamped))),
    );
    out.counter(
        "redirect_errors_total",
        "Failed redirects that no socket counted.",
        interfaces.iter().filter_map(|of| Some((vec![("interface", &*of.name)], number(of.redirect_errors?)))),
    );
}

fn queues(interfaces: &[InterfaceReport], out: &mut Families) {
    let all: Vec<_> = interfaces
        .iter()
        .flat_map(|interface| interface.queues.iter().map(|queue| (&*interface.name, queue.queue.to_string(), queue)))
        .collect();
    let mut counter = |name: &str, help: &str, of: fn(&super::report::QueueReport) -> u64| {
        out.counter(
            name,
            help,
            all.iter().map(|(interface, queue, report)| (of_queue(interface, queue), number(of(report)))),
        );
    };
    counter("queue_received_packets_total", "Frames taken from the RX ring.", |queue| queue.rx.packets);
    counter("queue_received_bytes_total", "Bytes of the frames taken from the RX ring.", |queue| queue.rx.bytes);
    counter("queue_sent_packets_total", "Frames submitted to the TX ring.", |queue| queue.tx.packets);
    counter("queue_sent_bytes_total", "Bytes of the frames submitted to the TX ring.", |queue| queue.tx.bytes);
    counter("queue_completed_packets_total", "Frames that the kernel handed back after sending.", |queue| {
        queue.tx_completed
    });
    counter("queue_refused_descriptors_total", "Descriptors of the RX ring that were ignored.", |queue| {
        queue.rx_refused
    });
    counter("queue_filled_frames_total", "Frames handed to the fill ring.", |queue| queue.fill_submitted);
    counter("queue_tx_kicks_total", "System calls that asked the kernel to send.", |queue| queue.tx_kicks);
    counter("queue_tx_kick_errors_total", "Those of the kicks that were refused.", |queue| queue.tx_kick_errors);
    counter("queue_rx_kicks_total", "System calls that asked the kernel to receive.", |queue| queue.rx_kicks);
    let counted = || all.iter().filter_map(|(name, queue, of)| Some((*name, &**queue, of.ring_statistics?)));
    out.counter(
        "queue_lost_packets_total",
        "Redirected frames that the kernel lost before the worker.",
        counted().flat_map(|(interface, queue, rings)| {
            [("no_frame", rings.rx_dropped), ("rx_ring_full", rings.rx_ring_full)]
                .map(|(cause, count)| (with(of_queue(interface, queue), "cause", cause), number(count)))
        }),
    );
    out.counter(
        "queue_invalid_descriptors_total",
        "Descriptors that the kernel refused.",
        counted().flat_map(|(interface, queue, rings)| {
            [("rx", rings.rx_invalid_descs), ("tx", rings.tx_invalid_descs)]
                .map(|(ring, count)| (with(of_queue(interface, queue), "ring", ring), number(count)))
        }),
    );
}

fn workers(workers: &[WorkerReport], out: &mut Families) {
    let all: Vec<(String, &WorkerReport)> = workers.iter().map(|of| (of.worker.to_string(), of)).collect();
    let mut counter = |name: &str, help: &str, of: fn(&WorkerReport) -> u64| {
        out.counter(name, help, all.iter().map(|(worker, report)| (vec![("worker", &**worker)], number(of(report)))));
    };
    counter("worker_received_packets_total", "Frames received.", |worker| worker.received.packets);
    counter("worker_received_bytes_total", "Bytes of the frames received.", |worker| worker.received.bytes);
    counter("worker_sent_packets_total", "Frames submitted to a TX ring.", |worker| worker.tx.packets);
    counter("worker_sent_bytes_total", "Bytes of the frames submitted to a TX ring.", |worker| worker.tx.bytes);
    counter("worker_dropped_bytes_total", "Bytes of the frames dropped.", |worker| worker.drop_bytes);
    counter("worker_unstamped_packets_total", "Frames sent whose latency is unknown.", |worker| worker.unstamped);
    counter("worker_sleeps_total", "Times that it slept in poll.", |worker| worker.sleeps);
    out.counter(
        "worker_dropped_packets_total",
        "Frames dropped, by cause.",
        all.iter().flat_map(|(worker, of)| {
            of.drops.0.iter().map(move |(cause, count)| (by("worker", worker, "cause", cause), number(*count)))
        }),
    );
    let states = |of: fn(&WorkerReport) -> [(&'static str, u64); 2]| {
        all.iter().flat_map(move |(worker, report)| {
            of(report).map(|(state, count)| (by("worker", worker, "state", state), number(count)))
        })
    };
    let cycles = states(|of| [("busy", of.cycles.busy), ("idle", of.cycles.idle)]);
    out.counter("worker_cycles_total", "Cycles in turns of the loop that found work, and in others.", cycles);
    let turns = states(|of| [("busy", of.turns.busy), ("idle", of.turns.idle)]);
    out.counter("worker_turns_total", "Turns of the loop that found work, and others.", turns);
    out.counter(
        "worker_flow_events_total",
        "What its flow tables did.",
        all.iter().flat_map(|(worker, of)| {
            let flows = &of.flows;
            [
                ("new", flows.new),
                ("without_room", flows.without_room),
                ("evicted", flows.evicted),
                ("peer_hit", flows.peer_hits),
                ("previous_table_hit", flows.previous_table_hits),
                ("fragment_hit", flows.fragment_hits),
                ("fragment_miss", flows.fragment_misses),
                ("second_choice", flows.second_choices),
            ]
            .map(|(event, count)| (by("worker", worker, "event", event), number(count)))
        }),
    );
    out.gauge(
        "worker_memory_frames",
        "Frames of its memory by where they are.",
        all.iter().flat_map(|(worker, of)| {
            [("fill", of.frames.fill), ("held", of.frames.held), ("tx", of.frames.tx)]
                .map(|(place, count)| (by("worker", worker, "place", place), number(count)))
        }),
    );
}

/// Distributions: of the sizes of bursts, and of times.
fn worker_histograms(workers: &[WorkerReport], out: &mut Families) {
    let all: Vec<(String, &WorkerReport)> = workers.iter().map(|of| (of.worker.to_string(), of)).collect();
    let bursts = all.iter().map(|(worker, of)| (vec![("worker", &**worker)], burst_sizes(of)));
    out.histogram("worker_burst_packets", "Frames of a burst.", bursts);
    let mut times = |name: &str, help: &str, of: fn(&WorkerReport) -> &Latency| {
        out.histogram(
            name,
            help,
            all.iter().map(|(worker, report)| (vec![("worker", &**worker)], latency(of(report)))),
        );
    };
    times("worker_latency_seconds", "Time from the XDP program to the TX ring.", |of| &of.latency);
    times("worker_queueing_seconds", "Of it, until the worker read the burst.", |of| &of.queueing);
    times("worker_processing_seconds", "Of it, in the worker.", |of| &of.processing);
    times("worker_completion_seconds", "Time from the TX ring until the frame came back.", |of| &of.completion);
}

fn worker_cost(workers: &[WorkerReport], out: &mut Families) {
    let all: Vec<(String, &WorkerReport)> = workers.iter().map(|of| (of.worker.to_string(), of)).collect();
    out.counter(
        "worker_stage_cycles_total",
        "User cycles by what was done in them; with those of system calls, all cycles.",
        all.iter().flat_map(|(worker, of)| {
            let cost = &of.cost;
            [
                ("receive", cost.receive),
                ("forward", cost.forward),
                ("send", cost.send),
                ("complete", cost.complete),
                ("refill", cost.refill),
                ("other", cost.other),
                ("idle", cost.idle),
            ]
            .map(|(stage, cycles)| (by("worker", worker, "stage", stage), number(cycles)))
        }),
    );
    let calls = |of: fn(&SystemCallCost) -> u64| {
        all.iter().flat_map(move |(worker, report)| {
            let calls = &report.cost.system_calls;
            [("sendto", &calls.sendto), ("recvfrom", &calls.recvfrom), ("poll", &calls.poll)]
                .map(|(call, cost)| (by("worker", worker, "call", call), number(of(cost))))
        })
    };
    out.counter("worker_system_calls_total", "System calls.", calls(|cost| cost.calls));
    out.counter("worker_system_call_cycles_total", "Cycles in system calls.", calls(|cost| cost.cycles));
}

fn worker_threads(workers: &[WorkerReport], out: &mut Families) {
    let all: Vec<_> = workers.iter().filter_map(|of| Some((of.worker.to_string(), of.cpu_time?))).collect();
    let cores: Vec<_> = workers.iter().filter_map(|of| Some((of.worker.to_string(), of.core?.to_string()))).collect();
    out.gauge(
        "worker_info",
        "The CPU that a worker is pinned to. Always 1.",
        cores.iter().map(|(worker, core)| (by("worker", worker, "cpu", core), 1.0)),
    );
    out.counter(
        "worker_cpu_seconds_total",
        "Time on a CPU in user space and in the kernel, by sampling.",
        all.iter().flat_map(|(worker, time)| {
            [("user", time.user_ns), ("system", time.system_ns)]
                .map(|(mode, ns)| (by("worker", worker, "mode", mode), seconds(ns)))
        }),
    );
    out.counter(
        "worker_run_seconds_total",
        "Time on a CPU, by the scheduler.",
        all.iter().map(|(worker, time)| (vec![("worker", &**worker)], seconds(time.run_ns))),
    );
    out.counter(
        "worker_runqueue_wait_seconds_total",
        "Time that it was ready to run and had no CPU.",
        all.iter().map(|(worker, time)| (vec![("worker", &**worker)], seconds(time.runqueue_wait_ns))),
    );
    out.counter(
        "worker_context_switches_total",
        "Times that it gave up its CPU, or that it was taken from it.",
        all.iter().flat_map(|(worker, time)| {
            [("voluntary", time.voluntary_switches), ("involuntary", time.involuntary_switches)]
                .map(|(kind, count)| (by("worker", worker, "kind", kind), number(count)))
        }),
    );
}

fn cpus(cpus: &[CpuReport], out: &mut Families) {
    let all: Vec<(String, &CpuReport)> = cpus.iter().map(|of| (of.cpu.to_string(), of)).collect();
    out.counter(
        "cpu_seconds_total",
        "What the whole machine used the CPU for.",
        all.iter().flat_map(|(cpu, of)| {
            [
                ("user", of.user_ns),
                ("nice", of.nice_ns),
                ("system", of.system_ns),
                ("idle", of.idle_ns),
                ("iowait", of.iowait_ns),
                ("irq", of.irq_ns),
                ("softirq", of.softirq_ns),
                ("steal", of.steal_ns),
            ]
            .map(|(mode, ns)| (by("cpu", cpu, "mode", mode), seconds(ns)))
        }),
    );
    out.counter(
        "cpu_softirqs_total",
        "Network softirqs of the CPU.",
        all.iter().flat_map(|(cpu, of)| {
            [("net_rx", of.net_rx_softirqs), ("net_tx", of.net_tx_softirqs)]
                .map(|(vector, count)| (by("cpu", cpu, "vector", vector), number(count)))
        }),
    );
    let polls: Vec<_> = all
        .iter()
        .flat_map(|(cpu, of)| {
            of.napi.iter().flatten().map(move |napi| (by("cpu", cpu, "interface", &napi.interface), napi))
        })
        .collect();
    let mut counter = |name: &str, help: &str, of: fn(&super::report::NapiReport) -> f64| {
        out.counter(name, help, polls.iter().map(|(labels, napi)| (labels.clone(), of(napi))));
    };
    counter("napi_seconds_total", "Time of NAPI polls in softirqs; an empty interface is all others.", |napi| {
        seconds(napi.ns)
    });
    counter("napi_polls_total", "NAPI polls.", |napi| number(napi.polls));
    counter("napi_packets_total", "Packets that NAPI polls handled.", |napi| number(napi.packets));
    counter("napi_untimed_polls_total", "NAPI polls outside of softirqs, whose time is unknown.", |napi| {
        number(napi.untimed_polls)
    });
    out.counter(
        "softirq_outside_napi_seconds_total",
        "Time of network softirqs outside of NAPI polls.",
        all.iter().filter_map(|(cpu, of)| Some((vec![("cpu", &**cpu)], seconds(of.softirq_outside_napi_ns?)))),
    );
}

fn services(report: &Report, out: &mut Families) {
    let all = &report.virtual_services;
    let sent = |of: fn(Traffic) -> u64| {
        all.iter().map(move |service| (vec![("service", &*service.service)], number(of(service.tx))))
    };
    out.counter("service_sent_packets_total", "Frames submitted to a TX ring.", sent(|tx| tx.packets));
    out.counter("service_sent_bytes_total", "Bytes of these.", sent(|tx| tx.bytes));
    out.counter(
        "service_dropped_packets_total",
        "Frames dropped, for any cause.",
        all.iter().map(|service| (vec![("service", &*service.service)], number(service.drops.total()))),
    );
    out.counter(
        "service_new_flows_total",
        "Flows that began.",
        all.iter().map(|service| (vec![("service", &*service.service)], number(service.connections.begun))),
    );
    out.gauge(
        "service_connections",
        "Connections by their state.",
        all.iter().flat_map(|service| {
            let of = service.connections;
            [("active", of.active), ("inactive", of.inactive), ("persistent", of.persistent)]
                .map(|(state, count)| (vec![("service", &*service.service), ("state", state)], number(count)))
        }),
    );
    out.gauge(
        "service_quorum",
        "Whether as much weight takes new flows as its quorum asks for: 1 or 0.",
        all.iter().map(|service| (vec![("service", &*service.service)], f64::from(u8::from(service.has_quorum)))),
    );
}

fn real_servers(report: &Report, out: &mut Families) {
    let all: Vec<(&str, String, &RealServerReport)> = report
        .virtual_services
        .iter()
        .flat_map(|service| service.real_servers.iter().map(|of| (&*service.service, of.address.to_string(), of)))
        .collect();
    let values = |of: fn(&RealServerReport) -> u64| {
        all.iter().map(move |(service, address, server)| {
            (vec![("service", *service), ("real_server", &**address)], number(of(server)))
        })
    };
    out.counter("real_server_sent_packets_total", "Frames submitted to a TX ring.", values(|of| of.tx.packets));
    out.counter("real_server_sent_bytes_total", "Bytes of these.", values(|of| of.tx.bytes));
    out.counter("real_server_dropped_packets_total", "Frames dropped, for any cause.", values(|of| of.drops.total()));
    out.counter("real_server_new_flows_total", "Flows that began.", values(|of| of.connections.begun));
    out.gauge("real_server_up", "Whether frames can be sent to it: 1 or 0.", values(|of| of.alive.into()));
    out.gauge("real_server_weight", "Its share of new flows; 0 while it drains.", values(|of| of.weight.into()));
    out.gauge("real_server_share_slots", "Slots of the hash table that it owns.", values(|of| of.share_slots.into()));
    out.gauge(
        "real_server_connections",
        "Connections by their state.",
        all.iter().flat_map(|(service, address, server)| {
            let of = server.connections;
            [("active", of.active), ("inactive", of.inactive), ("persistent", of.persistent)].map(|(state, count)| {
                (vec![("service", *service), ("real_server", &**address), ("state", state)], number(count))
            })
        }),
    );
}

fn health_checks(report: &Report, out: &mut Families) {
    let mut all = Vec::new();
    for service in &report.virtual_services {
        for server in &service.real_servers {
            for (position, check) in server.health_checks.iter().enumerate() {
                let texts = [server.address.to_string(), check.port.to_string(), position.to_string()];
                all.push((&*service.service, texts, check));
            }
        }
    }
    let labels = |position: usize| -> Labels<'_> {
        let (service, [address, port, number], check) = &all[position];
        vec![
            ("service", *service),
            ("real_server", address),
            ("check", number),
            ("kind", &check.kind),
            ("via", &check.via),
            ("port", port),
        ]
    };
    let values = |of: fn(&super::report::HealthCheckReport) -> Option<f64>| {
        all.iter().enumerate().filter_map(move |(position, (.., check))| Some((position, of(check)?)))
    };
    let up = values(|of| Some(if of.state == super::report::HealthState::Up { 1.0 } else { 0.0 }));
    out.gauge("health_check_up", "Whether the check is up: 1 or 0.", up.map(|(at, value)| (labels(at), value)));
    let answers = values(|of| Some(number(of.checks)));
    out.counter("health_check_answers_total", "Answers, good and bad.", answers.map(|(at, value)| (labels(at), value)));
    let failures = values(|of| Some(number(of.failures)));
    out.counter("health_check_failures_total", "Bad answers.", failures.map(|(at, value)| (labels(at), value)));
    let flaps = values(|of| Some(number(of.flaps)));
    out.counter("health_check_flaps_total", "Times that it went down.", flaps.map(|(at, value)| (labels(at), value)));
    let took = values(|of| of.last_took_ns.map(seconds));
    out.gauge(
        "health_check_last_duration_seconds",
        "How long the last answer took.",
        took.map(|(at, value)| (labels(at), value)),
    );
}

/// Of bursts it is known in which class of sizes they are, and how many frames all had together.
fn burst_sizes(worker: &WorkerReport) -> Histogram {
    let bounded = worker.batch_sizes.iter().filter_map(|size| Some((number(size.to?), size.count)));
    let count = worker.batch_sizes.iter().fold(0, |sum: u64, size| sum.wrapping_add(size.count));
    histogram(bounded, count, number(worker.received.packets))
}

fn latency(latency: &Latency) -> Histogram {
    let mut recorded = latency.buckets.iter().peekable();
    let bounded = LATENCY_BOUNDS.map(|power| {
        let bound_ns = (1 << power) - 1;
        let mut count = 0_u64;
        while let Some(bucket) = recorded.next_if(|bucket| bucket.to_ns <= bound_ns) {
            count = count.wrapping_add(bucket.count);
        }
        (seconds(bound_ns), count)
    });
    let sum = latency.mean.unwrap_or(0.0) * number(latency.count) / 1e9;
    histogram(bounded.collect::<Vec<_>>(), latency.count, sum)
}

/// From the counts of buckets with an upper bound, of all, and the sum.
fn histogram(buckets: impl IntoIterator<Item = (f64, u64)>, count: u64, sum: f64) -> Histogram {
    let mut below = 0_u64;
    let cumulative = buckets.into_iter().map(|(bound, count)| {
        below = below.wrapping_add(count);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(cumulative.collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::latency::LatencyHistogram;
    use crate::stats::summary::LatencyReading;
    use proptest::prelude::*;

    proptest! {
        /// Each bound of a bucket is one of the recorded histogram, so no value is on the wrong side of it.
        #[test]
        fn latency_buckets_are_exact(values in prop::collection::vec(0_u64..2_000_000_000, 0..200), near in 9_u32..=30) {
            let near = [(1 << near) - 1, 1 << near];
            let recorded = LatencyHistogram::default();
            recorded.record_all(values.iter().copied().chain(near));
            let all: Vec<u64> = values.into_iter().chain(near).collect();
            let histogram = latency(&LatencyReading::of(&recorded).unwrap().report());
            prop_assert_eq!(histogram.get_sample_count(), all.len() as u64);
            for (bucket, power) in histogram.get_bucket().iter().zip(LATENCY_BOUNDS) {
                let below = all.iter().filter(|value| **value < 1 << power).count();
                prop_assert_eq!(bucket.cumulative_count(), below as u64, "below 2^{}", power);
            }
            let sum: u64 = all.iter().sum();
            prop_assert!((histogram.get_sample_sum() - sum as f64 / 1e9).abs() < 1e-6);
        }
    }
}
