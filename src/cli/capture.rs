//! `pointsman capture`: writes frames that the running director decides on to a pcapng file.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use pcap_file::PcapError;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgParser};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::text::count;
use super::{FAILURE, Failure, tell, with_causes};
use crate::capture::{Filter, MAX_SNAPSHOT_BYTES, VerdictFilter};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::capture::CaptureQuestion;
use crate::control::client::Client;
use crate::service::ServiceKey;

pub(super) const EXAMPLES: &str = "\
Examples:
  pointsman capture -w f.pcapng                        until Ctrl-C
  pointsman capture --verdict drop -w - | tcpdump -nr -
  pointsman capture --service \"tcp 192.0.2.15:80\" -w - | wireshark -k -i -
  pointsman capture --real-server 192.0.2.100 --sample 1000 -s 128 --duration 60 -w f.pcapng
  pointsman capture --verdict no_real_server -c 10 -w f.pcapng

A frame is shown as it leaves, with its new MAC addresses, or as it is dropped, with those that it came with, under
the interface and at the time that it came in. Its comment tells the verdict, the service and the real server.
Only frames that the director takes are seen; what the kernel gets, tcpdump shows.";

/// Arguments of `capture`.
#[derive(Debug, Args)]
pub(super) struct CaptureArgs {
    /// File to write, in pcapng; "-" is standard output
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    /// Only frames of this virtual service, as "tcp 192.168.88.15:80"
    #[arg(long)]
    service: Option<ServiceKey>,
    /// Only frames for this real server
    #[arg(long, value_name = "IP")]
    real_server: Option<IpAddr>,
    /// Only frames with this verdict: tx, drop, or a drop cause as docs/stats.md lists them
    #[arg(long)]
    verdict: Option<VerdictFilter>,
    /// Of the frames that fit, one of so many of each queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// End after so many frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Bytes to keep of each frame; 0 keeps all. Shorter ones cost the workers less, and more of them can wait
    #[arg(short, long, value_name = "BYTES", default_value_t = 0, value_parser = parse_length)]
    snapshot_length: usize,
    /// Control socket of the director
    #[arg(long, value_name = "PATH", default_value = DEFAULT_CONTROL_SOCKET)]
    socket: PathBuf,
}

/// Captures until it is told to end.
pub(super) fn run(args: &CaptureArgs) -> Result<(), Failure> {
    let to_stdout = args.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::bad_input(
            "-w - would write a pcapng file to this terminal: write to a file, or into a pipe as in `| tcpdump -nr -`",
        ));
    }
    let director = Client::new(&args.socket);
    let mut capture = director.capture(&question(args)).map_err(Failure::new)?;
    end_by_signal(director, capture.id())?;
    // Only now: a capture that is refused leaves an older file as it was.
    let mut out: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(&args.write).map_err(|error| cannot_write(&args.write, &error))?)
    };
    let mut blocks = WholeBlocks::default();
    loop {
        let piece = match capture.next_piece() {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                return Err(Failure {
                    message: format!(
                        "the capture breaks off: {}; what came until then is in {}",
                        with_causes(&error),
                        args.write.display()
                    ),
                    code: FAILURE,
                });
            }
        };
        let whole = blocks.add(&piece).map_err(Failure::new)?;
        match out.write_all(&whole).and_then(|()| out.flush()) {
            Ok(()) => {}
            // The reader has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(cannot_write(&args.write, &error)),
        }
    }
    let Totals { seen, wanted, lost, captured } = blocks.totals;
    let [seen, wanted, lost, captured] = [seen, wanted, lost, captured].map(count);
    let _ = writeln!(
        io::stderr(),
        "{captured} frames captured\n{wanted} frames fitted the filter, of {seen} that the director took\n\
         {lost} frames lost by the capture, because they were not read as fast as they came"
    );
    Ok(())
}

fn question(args: &CaptureArgs) -> CaptureQuestion {
    let CaptureArgs { service, real_server, verdict, sample, count, duration, .. } = *args;
    CaptureQuestion {
        filter: Filter { service, real_server, verdict, sample },
        snapshot_bytes: if args.snapshot_length == 0 { MAX_SNAPSHOT_BYTES } else { args.snapshot_length },
        count,
        duration,
    }
}

/// Has the first SIGINT or SIGTERM end the capture and what it has be written, and a second one end the process.
fn end_by_signal(director: Client, id: u64) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure { message: format!("cannot handle signals: {error}"), code: FAILURE };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
    let watch = move || {
        let mut ending = false;
        for signal in signals.forever() {
            if ending {
                std::process::exit(128 + signal);
            }
            ending = true;
            let director = director.clone();
            // Beside this thread, so that a second signal is heard although the director does not answer.
            thread::spawn(move || {
                if let Err(error) = director.end_capture(id) {
                    tell(format_args!("cannot end the capture: {error}; a second Ctrl-C ends this program"));
                }
            });
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(cannot)?;
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure { message: format!("cannot write {}: {error}", path.display()), code: FAILURE }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=1e9).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write a number of seconds from 0.001 on".to_owned())
}

fn parse_length(text: &str) -> Result<usize, String> {
    let length = text.parse().ok().filter(|length| *length <= MAX_SNAPSHOT_BYTES);
    length.ok_or_else(|| format!("write a number from 0 to {MAX_SNAPSHOT_BYTES}"))
}

/// What the statistics at a capture's end say, over all interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    seen: u64,
    wanted: u64,
    lost: u64,
    captured: u64,
}

/// Cuts a stream into whole blocks, so that what was written is a valid file whenever it breaks off.
#[derive(Default)]
struct WholeBlocks {
    parser: Option<PcapNgParser>,
    rest: Vec<u8>,
    totals: Totals,
}

impl WholeBlocks {
    /// Takes a piece of the stream and returns all blocks that are whole now.
    fn add(&mut self, piece: &[u8]) -> Result<Vec<u8>, PcapError> {
        self.rest.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match self.next_block(at) {
                Ok(length) => at += length,
                Err(PcapError::IncompleteBuffer) => break,
                Err(error) => return Err(error),
            }
        }
        let rest = self.rest.split_off(at);
        Ok(std::mem::replace(&mut self.rest, rest))
    }

    /// The length of the block at this place.
    fn next_block(&mut self, at: usize) -> Result<usize, PcapError> {
        let bytes = self.rest.get(at..).unwrap_or_default();
        if bytes.is_empty() {
            return Err(PcapError::IncompleteBuffer);
        }
        let Some(parser) = &mut self.parser else {
            let (behind, parser) = PcapNgParser::new(bytes)?;
            let length = bytes.len() - behind.len();
            self.parser = Some(parser);
            return Ok(length);
        };
        let (behind, block) = parser.next_block(bytes)?;
        if let Block::InterfaceStatistics(statistics) = &block {
            for option in &statistics.options {
                match option {
                    InterfaceStatisticsOption::IsbIfRecv(frames) => self.totals.seen += frames,
                    InterfaceStatisticsOption::IsbFilterAccept(frames) => self.totals.wanted += frames,
                    InterfaceStatisticsOption::IsbOsDrop(frames) => self.totals.lost += frames,
                    InterfaceStatisticsOption::IsbUsrDeliv(frames) => self.totals.captured += frames,
                    _ => {}
                }
            }
        }
        Ok(bytes.len() - behind.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pcapng::Blocks;
    use crate::capture::{Counts, Fate, QueuePlace, Record};

    #[test]
    fn a_stream_in_pieces_of_any_length_comes_out_in_whole_blocks() {
        let mut blocks = Blocks::new(&["eth0".to_owned(), "eth1".to_owned()], 64).unwrap();
        for number in 0..5 {
            let record = Record {
                fate: Fate::Tx,
                time_ns: number,
                stamped: true,
                worker: 0,
                place: QueuePlace { interface: 1, queue: 0 },
                egress: Some(0),
                service: None,
                real_server: None,
                lost_before: number,
                frame_len: 100,
                bytes: vec![7; 60 + usize::try_from(number).unwrap()],
            };
            blocks.frame(&record, Duration::from_secs(1)).unwrap();
        }
        for (interface, seen) in [(0, 10), (1, 32)] {
            let counts = Counts { seen, wanted: 7, lost: 2 };
            blocks.statistics(interface, counts, 5).unwrap();
        }
        let file = blocks.take();
        for length in [1, 3, 50, 1000] {
            let mut whole = WholeBlocks::default();
            let mut out = Vec::new();
            for piece in file.chunks(length) {
                out.extend(whole.add(piece).unwrap());
                let mut read = WholeBlocks::default();
                assert_eq!(read.add(&out).unwrap().len(), out.len(), "whole blocks only");
            }
            assert_eq!(out, file);
            assert_eq!(whole.totals, Totals { seen: 42, wanted: 14, lost: 4, captured: 10 });
        }
    }
}
