//! `pointsman flows`: asks the running director which flows it remembers.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::text::count;
use super::{Failure, printed};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::client::Client;
use crate::control::flows::{DEFAULT_LIMIT, FlowEntry, FlowFilter, FlowList, MAX_LIMIT, state_name, state_named};
use crate::flow::FlowState;
use crate::service::ServiceKey;

/// How long an answer is waited for: all tables are read for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `flows`.
#[derive(Debug, Args)]
pub(super) struct FlowsArgs {
    /// Only those of this virtual service, as "tcp 192.168.88.15:80"
    #[arg(long)]
    service: Option<ServiceKey>,
    /// Only those of this real server
    #[arg(long, value_name = "IP")]
    real_server: Option<IpAddr>,
    /// Only those of this client
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Only those in this state: unconfirmed, established or closing
    #[arg(long, value_parser = parse_state)]
    state: Option<FlowState>,
    /// Most flows to be listed, 100000 at most; all that fit are counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = parse_limit)]
    limit: usize,
    /// Print the JSON document as the director gives it (docs/stats.md tells its fields)
    #[arg(long)]
    json: bool,
    /// Control socket of the director
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL_SOCKET)]
    socket: PathBuf,
}

/// Asks the director and prints what it says.
pub(super) fn run(args: &FlowsArgs) -> Result<(), Failure> {
    let FlowsArgs { service, real_server, client, state, limit, .. } = *args;
    let filter = FlowFilter { service, real_server, client, state, clients: false, limit };
    let director = Client::new(&args.socket).with_patience(PATIENCE);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        let document = director.flows_document(&filter).map_err(Failure::new)?;
        writeln!(out, "{document}")
    } else {
        let mut list = director.flows(&filter).map_err(Failure::new)?;
        list.flows.sort_by(|a, b| order(a).cmp(&order(b)));
        print(&list, &mut out)
    };
    printed(written.and_then(|()| out.flush()))
}

fn parse_state(text: &str) -> Result<FlowState, String> {
    state_named(text).ok_or_else(|| "use unconfirmed, established or closing".to_owned())
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| *limit <= MAX_LIMIT).ok_or_else(|| format!("write a number from 0 to {MAX_LIMIT}"))
}

fn order(flow: &FlowEntry) -> (&Option<String>, IpAddr, u16, u16, usize) {
    (&flow.service, flow.client, flow.client_port, flow.service_port, flow.worker)
}

fn print(list: &FlowList, out: &mut impl Write) -> io::Result<()> {
    let heads = ["client", "destination", "real server", "state", "expires", "worker"];
    let rows: Vec<[String; 6]> = list.flows.iter().map(cells).collect();
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    if !rows.is_empty() {
        print_row(&heads, widths, out)?;
    }
    for row in &rows {
        print_row(&row.each_ref().map(String::as_str), widths, out)?;
    }
    let totals = list.totals;
    let all = totals.unconfirmed + totals.established + totals.closing;
    let [all, unconfirmed, established, closing] =
        [all, totals.unconfirmed, totals.established, totals.closing].map(count);
    writeln!(out, "flows: {all} ({unconfirmed} unconfirmed, {established} established, {closing} closing)")?;
    if list.truncated {
        writeln!(out, "listed: {}; --limit lists more", count(list.flows.len() as u64))?;
    }
    Ok(())
}

fn cells(flow: &FlowEntry) -> [String; 6] {
    let removed = || "(removed)".to_owned();
    let key = flow.service.as_ref().and_then(|service| service.parse::<ServiceKey>().ok());
    [
        SocketAddr::new(flow.client, flow.client_port).to_string(),
        key.map_or_else(removed, |key| ServiceKey { port: flow.service_port, ..key }.to_string()),
        flow.real_server.map_or_else(removed, |address| address.to_string()),
        state_name(flow.state).to_owned(),
        format!("{} s", flow.expires_in_s),
        flow.worker.to_string(),
    ]
}

fn print_row(cells: &[&str; 6], widths: [usize; 6], out: &mut impl Write) -> io::Result<()> {
    let [client, destination, real_server, state, expires, worker] = cells;
    let [w_client, w_destination, w_real_server, w_state, w_expires, w_worker] = widths;
    writeln!(
        out,
        "{client:<w_client$}  {destination:<w_destination$}  {real_server:<w_real_server$}  {state:<w_state$}  \
         {expires:>w_expires$}  {worker:>w_worker$}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowCounts;
    use crate::service::Protocol;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let flow = FlowEntry {
            worker: 1,
            service: Some("tcp 192.168.88.15:0".to_owned()),
            client: "10.0.0.7".parse().unwrap(),
            client_port: 4711,
            service_port: 8080,
            protocol: Some(Protocol::Tcp),
            real_server: Some("192.168.88.100".parse().unwrap()),
            state: FlowState::Established,
            is_client: false,
            expires_in_s: 899,
        };
        let orphan = FlowEntry { service: None, real_server: None, protocol: None, worker: 0, ..flow.clone() };
        let totals = FlowCounts { unconfirmed: 0, established: 1_234, closing: 0 };
        let mut text = Vec::new();
        print(&FlowList { flows: vec![flow, orphan], truncated: true, totals }, &mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "client         destination             real server     state        expires  worker\n\
             10.0.0.7:4711  tcp 192.168.88.15:8080  192.168.88.100  established    899 s       1\n\
             10.0.0.7:4711  (removed)               (removed)       established    899 s       0\n\
             flows: 1,234 (0 unconfirmed, 1,234 established, 0 closing)\n\
             listed: 2; --limit lists more\n"
        );
        let mut text = Vec::new();
        print(&FlowList { flows: vec![], truncated: false, totals: FlowCounts::default() }, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "flows: 0 (0 unconfirmed, 0 established, 0 closing)\n");
    }
}
