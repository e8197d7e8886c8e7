//! Measuring the kernel's share: the softirqs that poll the director's interfaces.

use std::os::unix::fs::MetadataExt;

use super::Interface;
use crate::config::{Config, SoftirqMeasurement};
use crate::stats::cpu::{NapiOfCpu, NapiSource};
use crate::stats::report::NapiReport;
use crate::xdp::{NapiPolls, SoftirqOfCpu, SoftirqWatch};

/// Begins to measure, as the configuration says. Needs the privileges of the start.
pub(super) fn measure(config: &Config, interfaces: &[Interface]) -> NapiSource {
    if config.director.stats_softirq == SoftirqMeasurement::Procfs {
        return NapiSource::Procfs("director.stats_softirq is \"procfs\"".to_owned());
    }
    match watch(interfaces) {
        Ok(watch) => {
            let names: Vec<String> = interfaces.iter().map(|interface| interface.name.clone()).collect();
            NapiSource::Tracepoints(Box::new(move || {
                let cpus = watch.read().map_err(|error| error.to_string())?;
                Ok(cpus.into_iter().map(|cpu| of_cpu(cpu, &names)).collect())
            }))
        }
        Err(reason) => {
            tracing::info!(reason, "the time of NAPI polls is not measured");
            NapiSource::Procfs(reason)
        }
    }
}

fn watch(interfaces: &[Interface]) -> Result<SoftirqWatch, String> {
    let indices: Vec<u32> = interfaces.iter().map(|interface| interface.facts.index).collect();
    // An index names an interface only within its network namespace. Of this inode number the kernel knows 32 bits.
    let namespace = std::fs::metadata("/proc/thread-self/ns/net")
        .map_err(|error| format!("the network namespace cannot be told: {error}"))?
        .ino();
    SoftirqWatch::start(u32::try_from(namespace).unwrap_or(u32::MAX), &indices)
}

fn of_cpu(cpu: SoftirqOfCpu, names: &[String]) -> NapiOfCpu {
    let report = |interface: &str, read: NapiPolls| NapiReport {
        interface: interface.to_owned(),
        ns: read.ns,
        polls: read.polls,
        packets: read.packets,
        untimed_polls: read.untimed_polls,
    };
    let own = names.iter().zip(cpu.interfaces).map(|(name, read)| report(name, read));
    NapiOfCpu { cpu: cpu.cpu, napi: own.chain([report("", cpu.others)]).collect(), outside_ns: cpu.outside_ns }
}
