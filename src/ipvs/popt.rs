//! Command lines as ipvsadm's option parser, popt, takes them: clustered short options, arguments that follow in the
//! same word or in the next one, `--long=argument`, `--` as the end of options, and no abbreviations.

/// An option of ipvsadm. The names are those of its long forms; the order of those behind the commands is that in which
/// ipvsadm looks whether they go with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opt {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    Zero,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    Help,
    Version,
    Restore,
    Save,
    StartDaemon,
    StopDaemon,
    Sort,
    Ipv6,
    Numeric,
    Connection,
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Gatewaying,
    Masquerading,
    Ipip,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    Syncid,
    Exact,
    Ops,
    PersistenceEngine,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
}

impl Opt {
    /// The option that stands for it where options are counted: a service and a forwarding method can each be said in
    /// several ways. `None` for commands and for what goes with anything.
    pub(super) fn kind(self) -> Option<Self> {
        match self {
            Self::UdpService | Self::SctpService | Self::FwmarkService => Some(Self::TcpService),
            Self::Masquerading | Self::Ipip => Some(Self::Gatewaying),
            option => (option > Self::Ipv6).then_some(option),
        }
    }

    /// What it is called in ipvsadm's messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TcpService => "service-address",
            Self::Gatewaying => "forwarding-method",
            option => OPTIONS.iter().find(|(.., known, _)| *known == option).map_or("", |(long, ..)| long),
        }
    }
}

/// Whether an option has an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Argument,
    /// Only if the next word does not begin with a hyphen.
    MaybeArgument,
}

use Opt as O;
use Takes::{Argument, MaybeArgument, Nothing};

/// Long form, short form (NUL where there is none), option, argument: the table of ipvsadm 1.31.
const OPTIONS: &[(&str, char, Opt, Takes)] = &[
    ("add-service", 'A', O::AddService, Nothing),
    ("edit-service", 'E', O::EditService, Nothing),
    ("delete-service", 'D', O::DeleteService, Nothing),
    ("clear", 'C', O::Clear, Nothing),
    ("list", 'L', O::List, Nothing),
    ("list", 'l', O::List, Nothing),
    ("zero", 'Z', O::Zero, Nothing),
    ("add-server", 'a', O::AddServer, Nothing),
    ("edit-server", 'e', O::EditServer, Nothing),
    ("delete-server", 'd', O::DeleteServer, Nothing),
    ("set", '\0', O::Set, Nothing),
    ("help", 'h', O::Help, Nothing),
    ("version", 'v', O::Version, Nothing),
    ("restore", 'R', O::Restore, Nothing),
    ("save", 'S', O::Save, Nothing),
    ("start-daemon", '\0', O::StartDaemon, Argument),
    ("stop-daemon", '\0', O::StopDaemon, Argument),
    ("tcp-service", 't', O::TcpService, Argument),
    ("udp-service", 'u', O::UdpService, Argument),
    ("sctp-service", '\0', O::SctpService, Argument),
    ("fwmark-service", 'f', O::FwmarkService, Argument),
    ("scheduler", 's', O::Scheduler, Argument),
    ("persistent", 'p', O::Persistent, MaybeArgument),
    ("netmask", 'M', O::Netmask, Argument),
    ("real-server", 'r', O::RealServer, Argument),
    ("masquerading", 'm', O::Masquerading, Nothing),
    ("ipip", 'i', O::Ipip, Nothing),
    ("gatewaying", 'g', O::Gatewaying, Nothing),
    ("weight", 'w', O::Weight, Argument),
    ("u-threshold", 'x', O::UThreshold, Argument),
    ("l-threshold", 'y', O::LThreshold, Argument),
    ("numeric", 'n', O::Numeric, Nothing),
    ("connection", 'c', O::Connection, Nothing),
    ("mcast-interface", '\0', O::McastInterface, Argument),
    ("syncid", '\0', O::Syncid, Argument),
    ("timeout", '\0', O::Timeout, Nothing),
    ("daemon", '\0', O::Daemon, Nothing),
    ("stats", '\0', O::Stats, Nothing),
    ("rate", '\0', O::Rate, Nothing),
    ("thresholds", '\0', O::Thresholds, Nothing),
    ("persistent-conn", '\0', O::PersistentConn, Nothing),
    ("nosort", '\0', O::NoSort, Nothing),
    ("sort", '\0', O::Sort, Nothing),
    ("exact", 'X', O::Exact, Nothing),
    ("ipv6", '6', O::Ipv6, Nothing),
    ("ops", 'o', O::Ops, Nothing),
    ("pe", '\0', O::PersistenceEngine, Argument),
    ("sched-flags", 'b', O::SchedFlags, Argument),
    ("mcast-group", '\0', O::McastGroup, Argument),
    ("mcast-port", '\0', O::McastPort, Argument),
    ("mcast-ttl", '\0', O::McastTtl, Argument),
    ("sync-maxlen", '\0', O::SyncMaxlen, Argument),
    ("tun-info", '\0', O::TunInfo, Nothing),
    ("tun-type", '\0', O::TunType, Argument),
    ("tun-port", '\0', O::TunPort, Argument),
    ("tun-nocsum", '\0', O::TunNocsum, Nothing),
    ("tun-csum", '\0', O::TunCsum, Nothing),
    ("tun-remcsum", '\0', O::TunRemcsum, Nothing),
];

/// One option of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given<'a> {
    pub(super) option: Opt,
    /// The word that it stands in.
    pub(super) word: &'a str,
    /// Its argument, if it has one.
    pub(super) argument: Option<&'a str>,
}

/// What is wrong with the form of an option, in popt's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {problem}")]
pub(super) struct BadOption {
    word: String,
    problem: &'static str,
}

/// A command line taken apart.
#[derive(Debug, Default)]
pub(super) struct Scanned<'a> {
    /// The options in their order, up to the first bad one.
    pub(super) options: Vec<Given<'a>>,
    /// Words that are neither options nor arguments of options.
    pub(super) words: Vec<&'a str>,
    /// What ended the reading, if anything did.
    pub(super) bad: Option<BadOption>,
}

/// Takes a command line apart, without the program's name.
pub(super) fn scan<'a>(arguments: &'a [String]) -> Scanned<'a> {
    let mut scanned = Scanned::default();
    let mut words = Words { rest: arguments };
    while let Some(word) = words.next() {
        let taken = match word.strip_prefix("--") {
            Some("") => {
                scanned.words.extend(words.rest.iter().map(String::as_str));
                break;
            }
            Some(long) => long_option(word, long, &mut words, &mut scanned.options),
            None => match word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
                Some(cluster) => short_options(word, cluster, &mut words, &mut scanned.options),
                None => {
                    scanned.words.push(word);
                    Ok(())
                }
            },
        };
        if let Err(problem) = taken {
            scanned.bad = Some(BadOption { word: word.to_owned(), problem });
            break;
        }
    }
    scanned
}

const UNKNOWN: &str = "unknown option";
const MISSING: &str = "missing argument";
const UNWANTED: &str = "option does not take an argument";

struct Words<'a> {
    rest: &'a [String],
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The argument of an option that has none in its own word.
    fn argument(&mut self, takes: Takes) -> Result<Option<&'a str>, &'static str> {
        match takes {
            Nothing => Ok(None),
            MaybeArgument if self.rest.first().is_none_or(|next| next.starts_with('-')) => Ok(None),
            _ => self.next().map(Some).ok_or(MISSING),
        }
    }
}

fn long_option<'a>(
    word: &'a str,
    long: &'a str,
    words: &mut Words<'a>,
    options: &mut Vec<Given<'a>>,
) -> Result<(), &'static str> {
    let (name, attached) = match long.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (long, None),
    };
    let &(.., option, takes) = OPTIONS.iter().find(|(long, ..)| *long == name).ok_or(UNKNOWN)?;
    let argument = match attached {
        Some(_) if takes == Nothing => return Err(UNWANTED),
        Some(argument) => Some(argument),
        None => words.argument(takes)?,
    };
    options.push(Given { option, word, argument });
    Ok(())
}

fn short_options<'a>(
    word: &'a str,
    cluster: &'a str,
    words: &mut Words<'a>,
    options: &mut Vec<Given<'a>>,
) -> Result<(), &'static str> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let known = OPTIONS.iter().find(|(_, short, ..)| *short == letter && letter != '\0');
        let &(.., option, takes) = known.ok_or(UNKNOWN)?;
        let attached = letters.as_str();
        if takes == Nothing {
            if attached.starts_with('=') {
                return Err(UNWANTED);
            }
            options.push(Given { option, word, argument: None });
            continue;
        }
        let argument = match attached {
            "" => words.argument(takes)?,
            attached => Some(attached.strip_prefix('=').unwrap_or(attached)),
        };
        options.push(Given { option, word, argument });
        break;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    type Taken = (Vec<(Opt, Option<String>)>, Vec<String>, Option<String>);

    fn taken(line: &str) -> Taken {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let scanned = scan(&arguments);
        let options = scanned.options.iter().map(|given| (given.option, given.argument.map(str::to_owned))).collect();
        let words = scanned.words.iter().map(|&word| word.to_owned()).collect();
        (options, words, scanned.bad.map(|bad| bad.to_string()))
    }

    #[test]
    fn options_are_taken_as_popt_takes_them() {
        let weight = |argument: &str| vec![(O::Weight, Some(argument.to_owned()))];
        for line in ["-w 2", "-w2", "-w=2", "--weight 2", "--weight=2"] {
            assert_eq!(taken(line), (weight("2"), vec![], None), "{line}");
        }
        // An argument that must be there may look like an option; one that need not be there may not.
        assert_eq!(taken("-w -n"), (weight("-n"), vec![], None));
        assert_eq!(taken("-p -n").0, [(O::Persistent, None), (O::Numeric, None)]);
        assert_eq!(taken("-p 60 -n").0, [(O::Persistent, Some("60".to_owned())), (O::Numeric, None)]);
        assert_eq!(taken("-p60").0, [(O::Persistent, Some("60".to_owned()))]);
        assert_eq!(taken("-Lnc").0, [(O::List, None), (O::Numeric, None), (O::Connection, None)]);
        assert_eq!(taken("-At 10.0.0.1:80").0[1], (O::TcpService, Some("10.0.0.1:80".to_owned())));
        assert_eq!(taken("--set 1 2 -- -3").1, ["1", "2", "-3"]);
        assert_eq!(taken("- -L").1, ["-"]);
        for (line, bad) in [
            ("-L --stat", "--stat: unknown option"),
            ("-LQ", "-LQ: unknown option"),
            ("-A -t", "-t: missing argument"),
            ("-L --numeric=1", "--numeric=1: option does not take an argument"),
        ] {
            assert_eq!(taken(line).2.unwrap(), bad, "{line}");
        }
    }
}
