//! Reads what the kernel says of CPUs and of threads.
//!
//! By hand and not by the crate `procfs`, whose CPUs have no numbers: with one offline all behind it would be off by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::OnceLock;

use super::collect::Reading;
use super::report::{CpuReport, CpuTimeReport, NapiReport, SoftirqMeasuredBy};
use crate::clock;

/// Where the use of CPUs is read.
pub struct CpuSource {
    /// What measures NAPI polls.
    pub napi: NapiSource,
    /// The text of /proc/stat.
    pub stat: Reading<io::Result<String>>,
    /// The text of /proc/softirqs.
    pub softirqs: Reading<io::Result<String>>,
}

/// What measures NAPI polls.
pub enum NapiSource {
    /// Programs on tracepoints, of which this reads the results; the error says in words why that fails.
    Tracepoints(Reading<Result<Vec<NapiOfCpu>, String>>),
    /// Nothing does, for this reason.
    Procfs(String),
}

/// What was measured on one CPU.
#[derive(Clone, Debug, Default)]
pub struct NapiOfCpu {
    /// The CPU.
    pub cpu: usize,
    /// Its polls by interface; an empty name is all other interfaces.
    pub napi: Vec<NapiReport>,
    /// Nanoseconds of network softirqs outside of polls.
    pub outside_ns: u64,
}

impl CpuSource {
    /// Reads this machine's /proc.
    #[must_use]
    pub fn new(napi: NapiSource) -> Self {
        Self {
            napi,
            stat: Box::new(|| fs::read_to_string("/proc/stat")),
            softirqs: Box::new(|| fs::read_to_string("/proc/softirqs")),
        }
    }

    /// What the time in softirqs is known by.
    pub(super) fn measured_by(&self) -> SoftirqMeasuredBy {
        match self.napi {
            NapiSource::Tracepoints(_) => SoftirqMeasuredBy::Tracepoints,
            NapiSource::Procfs(_) => SoftirqMeasuredBy::Procfs,
        }
    }

    fn napi(&self, errors: &mut Vec<String>) -> Option<BTreeMap<usize, NapiOfCpu>> {
        let read = match &self.napi {
            NapiSource::Tracepoints(read) => read(),
            NapiSource::Procfs(reason) => Err(reason.clone()),
        };
        read.map(|cpus| cpus.into_iter().map(|of| (of.cpu, of)).collect())
            .map_err(|reason| errors.push(format!("NAPI polls are not measured: {reason}")))
            .ok()
    }
}

/// Makes the document's `cpus`.
pub(super) struct Cpus {
    tick_ns: u64,
    /// NET_RX softirqs of each CPU at the start.
    received_before: BTreeMap<usize, u64>,
}

impl Cpus {
    pub(super) fn new(source: &CpuSource) -> Self {
        let before = (source.softirqs)().map(|text| softirqs_of(&text)).unwrap_or_default();
        Self { tick_ns: tick_ns(), received_before: before.into_iter().map(|(cpu, [rx, _])| (cpu, rx)).collect() }
    }

    /// The CPUs of workers, and those that serve queues: that have polled one of the director's interfaces, or, where
    /// that is not known, that have had any NET_RX softirq since the start.
    pub(super) fn read(
        &self,
        source: &CpuSource,
        workers: impl Iterator<Item = (usize, Option<usize>)>,
        errors: &mut Vec<String>,
    ) -> Vec<CpuReport> {
        let mut napi = source.napi(errors);
        let mut read = |path: &str, source: &Reading<io::Result<String>>| {
            source().map_err(|error| errors.push(format!("cannot read {path}: {error}"))).unwrap_or_default()
        };
        let stat = read("/proc/stat", &source.stat);
        let softirqs = softirqs_of(&read("/proc/softirqs", &source.softirqs));
        let mut workers_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (worker, cpu) in workers {
            if let Some(cpu) = cpu {
                workers_of.entry(cpu).or_default().push(worker);
            }
        }
        let serving: BTreeSet<usize> = match &napi {
            Some(napi) => napi
                .iter()
                .filter(|(_, of)| of.napi.iter().any(|napi| !napi.interface.is_empty() && napi.polls > 0))
                .map(|(cpu, _)| *cpu)
                .collect(),
            None => softirqs
                .iter()
                .filter(|(cpu, [received, _])| self.received_before.get(*cpu).is_none_or(|before| received > before))
                .map(|(cpu, _)| *cpu)
                .collect(),
        };
        let mut cpus = times_of(&stat, self.tick_ns);
        cpus.retain(|cpu| serving.contains(&cpu.cpu) || workers_of.contains_key(&cpu.cpu));
        for cpu in &mut cpus {
            [cpu.net_rx_softirqs, cpu.net_tx_softirqs] = softirqs.get(&cpu.cpu).copied().unwrap_or_default();
            cpu.workers = workers_of.remove(&cpu.cpu).unwrap_or_default();
            if let Some(napi) = &mut napi {
                let measured = napi.remove(&cpu.cpu).unwrap_or_default();
                cpu.napi = Some(measured.napi);
                cpu.softirq_outside_napi_ns = Some(measured.outside_ns);
            }
        }
        cpus
    }
}

/// The lines `cpuN` of /proc/stat (proc_stat(5)).
fn times_of(text: &str, tick_ns: u64) -> Vec<CpuReport> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
            // The line of all CPUs together has no number.
            let cpu = line.as_bytes().get(3)?.is_ascii_digit().then(|| fields.next()?.parse().ok()).flatten()?;
            let mut ns = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0) * tick_ns;
            Some(CpuReport {
                cpu,
                user_ns: ns(),
                nice_ns: ns(),
                system_ns: ns(),
                idle_ns: ns(),
                iowait_ns: ns(),
                irq_ns: ns(),
                softirq_ns: ns(),
                steal_ns: ns(),
                ..CpuReport::default()
            })
        })
        .collect()
}

/// NET_RX and NET_TX of each CPU in /proc/softirqs, whose first line names the CPUs.
fn softirqs_of(text: &str) -> BTreeMap<usize, [u64; 2]> {
    let cpus: Vec<usize> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|name| name.strip_prefix("CPU")?.parse().ok())
        .collect();
    let counts = |name: &str| -> Vec<u64> {
        let row = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
        row.unwrap_or_default().split_ascii_whitespace().map(|count| count.parse().unwrap_or(0)).collect()
    };
    let (received, sent) = (counts("NET_RX:"), counts("NET_TX:"));
    let at = |counts: &[u64], position: usize| counts.get(position).copied().unwrap_or(0);
    cpus.into_iter().enumerate().map(|(at_row, cpu)| (cpu, [at(&received, at_row), at(&sent, at_row)])).collect()
}

fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// By which others read the CPU time of a thread, also after its end.
#[derive(Debug, Default)]
pub struct ThreadClock {
    thread: OnceLock<i32>,
    last: OnceLock<CpuTimeReport>,
}

impl ThreadClock {
    /// Makes this the clock of the calling thread. The first call counts.
    pub fn begin(&self) {
        let _ = self.thread.set(rustix::thread::gettid().as_raw_nonzero().get());
    }

    /// Keeps what the thread has used, for it is about to end.
    pub fn end(&self) {
        if let Some(last) = self.read() {
            let _ = self.last.set(last);
        }
    }

    /// What the thread has used so far; `None` if it has not begun or the kernel does not say.
    pub fn read(&self) -> Option<CpuTimeReport> {
        if let Some(last) = self.last.get() {
            return Some(*last);
        }
        let thread = self.thread.get()?;
        let read = |file| fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).ok();
        thread_time(&read("stat")?, &read("schedstat")?, &read("status")?, tick_ns())
    }
}

/// From the files of a thread (proc_pid_stat(5), proc_pid_status(5); schedstat: Documentation/scheduler/sched-stats.rst).
fn thread_time(stat: &str, schedstat: &str, status: &str, tick_ns: u64) -> Option<CpuTimeReport> {
    // The name in parentheses may hold anything; fields 14 and 15 are utime and stime, and field 3 follows the name.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    let mut scheduler = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let count = |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some(CpuTimeReport {
        user_ns: user * tick_ns,
        system_ns: system * tick_ns,
        run_ns: scheduler.next()?.ok()?,
        runqueue_wait_ns: scheduler.next()?.ok()?,
        voluntary_switches: count("voluntary_ctxt_switches:")?,
        involuntary_switches: count("nonvoluntary_ctxt_switches:")?,
    })
}

/// Tells the frequency of [`clock::cycles`], the better the longer it runs.
#[derive(Debug)]
pub(super) struct CycleClock {
    cycles: u64,
    ns: u64,
}

impl CycleClock {
    pub(super) fn start() -> Self {
        let (cycles, ns) = now();
        Self { cycles, ns }
    }

    /// Cycles in a second, between the start and now.
    pub(super) fn hz(&self) -> u64 {
        let (cycles, ns) = now();
        let elapsed = u128::from(ns.saturating_sub(self.ns)).max(1);
        let hz = u128::from(cycles.wrapping_sub(self.cycles)) * 1_000_000_000 / elapsed;
        u64::try_from(hz).unwrap_or(u64::MAX)
    }
}

/// Both clocks at the same time: of a few tries the one that nothing came between.
fn now() -> (u64, u64) {
    let attempt = || {
        let before = clock::cycles();
        let ns = clock::monotonic_ns();
        let took = clock::cycles().wrapping_sub(before);
        (took, before.wrapping_add(took / 2), ns)
    };
    let (_, cycles, ns) = (0..8).map(|_| attempt()).min().unwrap_or_default();
    (cycles, ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu3 11 12 13 14 15 16 17 18 0 0\n\
                        intr 5 0 0\nctxt 7\ncpus 3\n";
    const SOFTIRQS: &str = "                    CPU0       CPU3       \n          HI:          5          6\n      \
                            NET_TX:          1          2\n      NET_RX:        100        200\n";

    fn source(napi: NapiSource) -> CpuSource {
        CpuSource { napi, stat: Box::new(|| Ok(STAT.to_owned())), softirqs: Box::new(|| Ok(SOFTIRQS.to_owned())) }
    }

    #[test]
    fn a_cpu_that_is_offline_moves_no_other() {
        let cpus = times_of(STAT, 10);
        assert_eq!(cpus.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [0, 3]);
        assert_eq!((cpus[1].user_ns, cpus[1].softirq_ns, cpus[1].steal_ns), (110, 170, 180));
        assert_eq!(softirqs_of(SOFTIRQS), BTreeMap::from([(0, [100, 1]), (3, [200, 2])]));
    }

    #[test]
    fn only_cpus_of_workers_and_of_polls_are_listed() {
        let measured =
            |interface: &str, polls| NapiReport { interface: interface.to_owned(), polls, ..NapiReport::default() };
        let napi = move || {
            Ok(vec![
                NapiOfCpu { cpu: 0, napi: vec![measured("eth0", 0), measured("", 9)], outside_ns: 5 },
                NapiOfCpu { cpu: 3, napi: vec![measured("eth0", 1), measured("", 0)], outside_ns: 6 },
            ])
        };
        let source = source(NapiSource::Tracepoints(Box::new(napi)));
        let cpus = Cpus::new(&source);
        let mut errors = Vec::new();
        let listed = cpus.read(&source, [(0, None)].into_iter(), &mut errors);
        assert_eq!(listed.iter().map(|cpu| (cpu.cpu, cpu.softirq_outside_napi_ns)).collect::<Vec<_>>(), [(3, Some(6))]);
        let listed = cpus.read(&source, [(4, Some(0)), (5, Some(0))].into_iter(), &mut errors);
        assert_eq!(listed[0].workers, [4, 5]);
        assert_eq!((listed[0].net_rx_softirqs, listed[0].net_tx_softirqs), (100, 1));
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn without_tracepoints_the_reason_is_told() {
        let source = source(NapiSource::Procfs("a test says so".to_owned()));
        let cpus = Cpus::new(&source);
        let mut errors = Vec::new();
        let listed = cpus.read(&source, [(0, Some(3))].into_iter(), &mut errors);
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].napi, listed[0].softirq_outside_napi_ns), (&None, None));
        assert_eq!(errors, ["NAPI polls are not measured: a test says so"]);
        assert_eq!(source.measured_by(), SoftirqMeasuredBy::Procfs);
    }

    #[test]
    fn a_threads_name_may_be_anything() {
        let stat = "12 (a) b) 3) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n";
        let read = thread_time(stat, "700 800 9\n", status, 10).unwrap();
        assert_eq!((read.user_ns, read.system_ns), (110, 120));
        assert_eq!((read.run_ns, read.runqueue_wait_ns), (700, 800));
        assert_eq!((read.voluntary_switches, read.involuntary_switches), (5, 6));
        assert_eq!(thread_time("", "", "", 10), None);
    }

    #[test]
    fn a_thread_that_has_ended_keeps_its_time() {
        let clock = ThreadClock::default();
        assert_eq!(clock.read(), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                clock.begin();
                // The scheduler counts when it comes to it: when the thread sleeps, or at a tick.
                while clock.read().is_none_or(|time| time.run_ns == 0) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                clock.end();
            });
        });
        let last = clock.read().unwrap();
        assert!(last.run_ns > 0, "{last:?}");
        assert_eq!(clock.read(), Some(last));
    }
}
