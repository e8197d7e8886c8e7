//! `pointsman plan --table`.

use std::io::{self, Write};

use super::super::table;
use super::super::text::{bytes, nanoseconds, wrap};
use crate::config::Config;
use crate::director::plan::{STAND_IN_SOURCE, offline_plan};
use crate::plan::{Change, ServerShare, ServiceChanges, TableFigures, figures_of};

const WIDTH: usize = 80;

/// Prints what the table of a configuration is like.
pub(super) fn print(config: &Config, all: bool, json: bool, out: &mut impl Write) -> io::Result<()> {
    let figures = figures_of(&offline_plan(config, STAND_IN_SOURCE), all);
    if json {
        serde_json::to_writer_pretty(&mut *out, &figures)?;
        return writeln!(out);
    }
    let TableFigures { build_ns, memory, services, changes_left_out } = &figures;
    writeln!(out, "built in {} on this machine", nanoseconds(*build_ns as f64))?;
    let size = |count: usize| bytes(count as u64);
    let memory = format!(
        "memory: {} of hash tables, {} of services and real servers, and {} of counters for each worker; both tables are \
         there while one takes the place of the other",
        size(memory.hash_tables),
        size(memory.entries),
        size(memory.counters_per_worker)
    );
    wrap(out, "", &memory, WIDTH)?;
    for service in services {
        print_service(service, out)?;
    }
    if *changes_left_out > 0 {
        writeln!(out, "\n{changes_left_out} changes were not looked at; --all looks at every one")?;
    }
    Ok(())
}

fn print_service(service: &ServiceChanges, out: &mut impl Write) -> io::Result<()> {
    let ServiceChanges { service: name, scheduler, table_size, real_servers, changes, by_hash } = service;
    writeln!(out, "\nvirtual service {name}: scheduler {scheduler}, {table_size} slots")?;
    let row = |server: &ServerShare| {
        [
            server.address.to_string(),
            server.weight.to_string(),
            server.slots.to_string(),
            percent(server.share),
            percent(server.share_by_weight),
        ]
    };
    let rows: Vec<_> = real_servers.iter().map(row).collect();
    table::print(out, ["  real server", "weight", "slots", "share", "by weight"], &indented(rows), &[1, 2, 3, 4])?;
    let row = |change: &Change| {
        [
            change.address.to_string(),
            change.kind.name().to_owned(),
            percent(change.least),
            percent(change.actual),
            percent(change.actual - change.least),
        ]
    };
    let rows: Vec<_> = changes.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    table::print(out, ["  change", "", "must move", "moves", "too many"], &indented(rows), &[2, 3, 4])?;
    let note = if *by_hash {
        "These are parts of all flows without an entry in a flow table; those with one stay, unless their real server is gone."
    } else {
        "New flows take turns here, and those with an entry stay: only flows that lost theirs go by the hash table and move so."
    };
    wrap(out, "  ", note, WIDTH)
}

fn indented<const N: usize>(mut rows: Vec<[String; N]>) -> Vec<[String; N]> {
    for row in &mut rows {
        if let Some(first) = row.first_mut() {
            first.insert_str(0, "  ");
        }
    }
    rows
}

fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}
