//! `pointsman ipvs`, and what a link named `ipvsadm` does: ipvsadm's command line for the running director.
//!
//! Messages and exit codes are those of ipvsadm, so they have no prefix.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::change::PATIENCE;
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::config::edit::{Change, Settings};
use crate::control::client::{Client, ClientError, How};
use crate::control::error::ErrorDetail;
use crate::control::flows::{FlowFilter, MAX_LIMIT};
use crate::control::schema::ServiceDocument;
use crate::control::zero::ZeroRequest;
use crate::ipvs::{
    self, BAD_LINE, Command, Counted, ListWhat, Listing, NO_LISTING, Names, PreparedChanges, Refusal, Rule, Table,
};
use crate::service::ServiceKey;

/// The name of a link to this program that makes it ipvsadm.
pub(super) const LINK: &str = "ipvsadm";

/// Where the director is, for a program that is called without options of its own.
const SOCKET_VARIABLE: &str = "POINTSMAN_SOCKET";
/// Whether changes are written to the configuration file.
const PERSIST_VARIABLE: &str = "POINTSMAN_PERSIST";

/// Largest rule set that is read, in bytes.
const MAX_RULES_BYTES: u64 = 32 << 20;
/// Time between the two readings of `--rate`.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// ipvsadm's command line.
#[derive(Clone, Debug, Args)]
pub(super) struct IpvsArgs {
    /// ipvsadm's options, with --socket PATH and --persist before them (-h lists all); or: import FILE
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Does what `pointsman ipvs` was called with.
pub(super) fn run(args: &IpvsArgs) -> ExitCode {
    let mut session = Session::of_environment("pointsman ipvs");
    let mut arguments = texts(&args.arguments);
    let taken = session.take_options(&mut arguments);
    if taken.is_ok() && arguments.first().is_some_and(|word| word == "import") {
        return finish(import(&arguments[1..]));
    }
    finish(taken.and_then(|()| session.execute(&arguments)))
}

/// Does what a link named [`LINK`] was called with.
pub(super) fn run_as_link(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    finish(Session::of_environment(LINK).execute(&texts(&arguments)))
}

fn texts(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

fn finish(done: Result<String, Refusal>) -> ExitCode {
    let text = match done {
        Ok(text) => text,
        Err(refusal) => {
            say(&refusal.message);
            return ExitCode::from(refusal.code);
        }
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A closed pipe is the reader's way to say that it has enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write the output: {error}"));
            ExitCode::from(NO_LISTING)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells what is wrong. Where standard error is gone there is nobody to tell.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

struct Session {
    program: &'static str,
    socket: PathBuf,
    persist: bool,
}

impl Session {
    fn of_environment(program: &'static str) -> Self {
        let socket = env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        let persist = env::var_os(PERSIST_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
        Self { program, socket: socket.map_or_else(|| PathBuf::from(DEFAULT_CONTROL_SOCKET), PathBuf::from), persist }
    }

    /// Takes the options that are not ipvsadm's from the front of a command line.
    fn take_options(&mut self, arguments: &mut Vec<String>) -> Result<(), Refusal> {
        while let Some(first) = arguments.first().cloned() {
            if first == "--persist" {
                self.persist = true;
            } else if let Some(path) = first.strip_prefix("--socket=") {
                self.socket = PathBuf::from(path);
            } else if first == "--socket" {
                arguments.remove(0);
                let path = arguments.first().ok_or_else(|| bad_line("--socket: missing argument"))?;
                self.socket = PathBuf::from(path);
            } else {
                break;
            }
            arguments.remove(0);
        }
        Ok(())
    }

    fn client(&self) -> Client {
        Client::new(&self.socket).with_patience(PATIENCE)
    }

    /// Does what a command line says, and returns what it prints.
    fn execute(&self, arguments: &[String]) -> Result<String, Refusal> {
        match ipvs::parse(self.program, arguments)? {
            Command::Help => Ok(format!("{}{}", ipvs::VERSION, ipvs::USAGE)),
            Command::Version => Ok(ipvs::VERSION.to_owned()),
            Command::List(listing) => self.list(&listing),
            Command::Save { numeric } => {
                let services = self.client().services().map_err(no_director)?;
                for ServiceDocument(service) in &services {
                    self.tell_unsaid(service);
                }
                Ok(ipvs::save(&table(&services, None)?, &names(numeric)))
            }
            Command::Zero(only) => self.zero(only),
            Command::Restore => self.restore(),
            command => self.change(&[Rule { line: 0, command }]),
        }
    }

    /// Names what a service has and a rule set does not.
    fn tell_unsaid(&self, service: &Settings) {
        let unsaid = ipvs::unsaid(service);
        if !unsaid.is_empty() {
            let key = key_of(service.clone()).map_or_else(String::new, |key| key.to_string());
            say(&format!(
                "warning: {key} has {}, which no rule can say: -R keeps it only while the service is there",
                unsaid.join(", ")
            ));
        }
    }

    /// Has the director note what has been counted, which is taken off the listings from now on.
    fn zero(&self, only: Option<ServiceKey>) -> Result<String, Refusal> {
        let request = ZeroRequest { service: only.map(|key| key.to_string()) };
        match self.client().zero(&request) {
            Ok(_) => Ok(String::new()),
            Err(ClientError::Refused { status: 404, detail, .. }) if detail.field.is_some() => {
                Err(Refusal::by_ipvs(format!("No such service: {}", detail.sentence())))
            }
            Err(error) => Err(no_director(error)),
        }
    }

    fn restore(&self) -> Result<String, Refusal> {
        let mut text = Vec::new();
        let read = io::stdin().lock().take(MAX_RULES_BYTES + 1).read_to_end(&mut text);
        read.map_err(|error| bad_line(format!("cannot read the rules: {error}")))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_RULES_BYTES {
            return Err(bad_line("the rules have more than 32 MiB"));
        }
        let rules = ipvs::read_rules(self.program, &String::from_utf8_lossy(&text));
        self.change(&rules.map_err(|(line, refusal)| at_line(line, refusal))?)
    }

    /// Has all that the rules say changed in one step.
    fn change(&self, rules: &[Rule]) -> Result<String, Refusal> {
        let client = self.client();
        let sets_timeouts = |rule: &Rule| matches!(rule.command, Command::SetTimeouts(_));
        let services = if rules.iter().any(sets_timeouts) {
            let services = client.services().map_err(no_director)?;
            services.into_iter().filter_map(|ServiceDocument(service)| key_of(service)).collect()
        } else {
            Vec::new()
        };
        let prepared = ipvs::edits(rules, &services);
        let zeroed = rules.iter().filter_map(|rule| match rule.command {
            Command::Zero(only) => Some((rule.line, only)),
            _ => None,
        });
        if !prepared.changes.is_empty() {
            self.make(&client, rules, &prepared)?;
        }
        for (line, only) in zeroed {
            self.zero(only).map_err(|Refusal { message, code }| Refusal {
                message: format!("line {line}: {message}; all else is done"),
                code,
            })?;
        }
        Ok(String::new())
    }

    fn make(&self, client: &Client, rules: &[Rule], prepared: &PreparedChanges) -> Result<(), Refusal> {
        match client.change(&prepared.changes, How { dry_run: false, persist: self.persist }) {
            Ok(report) => {
                report.network_warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
                Ok(())
            }
            Err(ClientError::Refused { status, detail, .. }) => Err(refused(status, &detail, rules, prepared)),
            Err(error) => Err(no_director(error)),
        }
    }

    fn list(&self, listing: &Listing) -> Result<String, Refusal> {
        let client = self.client();
        let names = names(listing.numeric);
        let only = match listing.what {
            ListWhat::Daemon => return client.zeroed().map(|_| String::new()).map_err(no_director),
            ListWhat::Timeouts => return timeouts(&client),
            ListWhat::Connections => return connections(&client, listing, &names),
            ListWhat::Service(key) => Some(key),
            ListWhat::Table => None,
        };
        let services = client.services().map_err(no_director)?;
        // Before the counters, so that none is below what it was when it was zeroed.
        let zeroed = client.zeroed().map_err(no_director)?;
        let report = client.stats().map_err(no_director)?;
        let mut found = Table::of(&services, Some(&report)).ok_or_else(unknown_form)?;
        if only.is_some_and(|key| found.service(key).is_none()) {
            return Err(Refusal { message: "No such service".to_owned(), code: NO_LISTING });
        }
        if listing.counted == Counted::Rate {
            let begun = Instant::now();
            thread::sleep(RATE_INTERVAL);
            found = table(&services, Some(&client))?.rates_since(&found, begun.elapsed().as_secs_f64());
        } else {
            found = found.since_zeroed(&zeroed);
        }
        Ok(ipvs::list_table(&found, only, listing, &names))
    }
}

fn names(numeric: bool) -> Names {
    if numeric { Names::numeric() } else { Names::of_system() }
}

/// The services, with the statistics of the director that is asked.
fn table(services: &[ServiceDocument], counted_by: Option<&Client>) -> Result<Table, Refusal> {
    let report = counted_by.map(Client::stats).transpose().map_err(no_director)?;
    Table::of(services, report.as_ref()).ok_or_else(unknown_form)
}

fn unknown_form() -> Refusal {
    bad_line(
        "the director shows its services in a form that this program does not know; use the pointsman that it was \
         started from",
    )
}

fn key_of(service: Settings) -> Option<ServiceKey> {
    serde_json::from_value(serde_json::Value::Object(service)).ok()
}

fn timeouts(client: &Client) -> Result<String, Refusal> {
    let config = client.config().map_err(no_director)?;
    let (all, others) = ipvs::director_timeouts(&config).ok_or_else(unknown_form)?;
    if let [first, rest @ ..] = others.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more services", rest.len()) };
        say(&format!(
            "warning: {first}{more} have timeouts of their own (`pointsman service list --json` shows them); --set takes \
             them away"
        ));
    }
    Ok(ipvs::list_timeouts(all))
}

fn connections(client: &Client, listing: &Listing, names: &Names) -> Result<String, Refusal> {
    let filter = FlowFilter { clients: true, limit: MAX_LIMIT, ..FlowFilter::default() };
    let list = client.flows(&filter).map_err(no_director)?;
    if list.truncated {
        say(&format!(
            "only {MAX_LIMIT} connections are listed; `pointsman flows` can be asked for those of one client"
        ));
    }
    Ok(ipvs::list_connections(&list.flows, listing, names))
}

/// The director's refusal, behind the sentence that ipvsadm has for it.
fn refused(status: u16, detail: &ErrorDetail, rules: &[Rule], prepared: &PreparedChanges) -> Refusal {
    let position = detail.change.unwrap_or(0);
    let change = prepared.changes.get(position).filter(|_| detail.change.is_some() || prepared.changes.len() == 1);
    let has_service = !detail.message.starts_with("there is no virtual service");
    let known = match (status, change) {
        (409, Some(Change::AddService { .. })) => Some("Service already exists"),
        (404, Some(Change::EditService { .. } | Change::DeleteService { .. })) => Some("No such service"),
        (409, Some(Change::AddRealServer { .. })) => Some("Destination already exists"),
        (404, Some(Change::EditRealServer { .. } | Change::DeleteRealServer { .. })) if has_service => {
            Some("No such destination")
        }
        (404, Some(_)) => Some("Service not defined"),
        _ => None,
    };
    let said = detail.sentence();
    // A file that was changed by others is a conflict, too.
    let message = match known.filter(|_| detail.field.as_deref() != Some("persist")) {
        Some(known) => format!("{known}: {said}"),
        None => said,
    };
    let rule = change.and_then(|_| prepared.rules.get(position)).and_then(|&rule| rules.get(rule));
    at_line(rule.map_or(0, |rule| rule.line), Refusal::by_ipvs(message))
}

/// Names the line of a rule set, of which nothing was done.
fn at_line(line: usize, refusal: Refusal) -> Refusal {
    match line {
        0 => refusal,
        line => Refusal { message: format!("line {line}: {}; nothing was changed", refusal.message), ..refusal },
    }
}

fn no_director(error: ClientError) -> Refusal {
    bad_line(error.to_string())
}

fn bad_line(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), code: BAD_LINE }
}

fn import(arguments: &[String]) -> Result<String, Refusal> {
    let [path] = arguments else {
        return Err(bad_line("import takes one FILE: a saved rule set or a keepalived.conf (- is standard input)"));
    };
    let text = if path == "-" { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let text = text.map_err(|error| bad_line(format!("cannot read {path}: {error}")))?;
    let imported = ipvs::import(&text)?;
    for warning in &imported.warnings {
        say(&format!("{path}: {warning}"));
    }
    Ok(imported.document)
}
