//! The forwarding code over a capture file: what the XDP program and a worker would do with each frame.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};
use pcap_file::{DataLink, PcapError, TsResolution};

use crate::classify::{Classification, Classifier};
use crate::clock;
use crate::flow::WorkerFlows;
use crate::forward::{Counts, How, forward};
use crate::table::ForwardingTable;
use crate::verdict::Verdict;
use crate::wire::{MacAddress, ethernet};

const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BREAKS_OFF: &str = "it breaks off too early";

/// What became of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `tx`, `pass` or `drop`.
    pub verdict: &'static str,
    /// Why: the name of a drop or pass reason, or `scheduled`.
    pub reason: &'static str,
    /// Position of the virtual service, where it is known.
    pub service: Option<u32>,
    /// Position of the real server, where one was chosen.
    pub real_server: Option<u32>,
    /// By what that was chosen.
    pub by: Option<How>,
    /// The destination MAC address that a frame leaves with.
    pub dst_mac: Option<MacAddress>,
}

/// A director without a network.
#[derive(Debug)]
pub struct Replay<'a> {
    table: &'a ForwardingTable,
    classifier: Classifier,
    flows: WorkerFlows,
    counts: Counts,
}

impl<'a> Replay<'a> {
    /// A replay through `table`, of an interface with these MAC addresses; with none, every frame counts as its own.
    ///
    /// # Errors
    /// There is no memory for a flow table of `flows` flows.
    pub fn new(table: &'a ForwardingTable, local_macs: Vec<MacAddress>, flows: usize) -> io::Result<Self> {
        Ok(Self {
            table,
            classifier: Classifier::new(local_macs),
            flows: WorkerFlows::new(flows)?,
            counts: Counts::default(),
        })
    }

    /// Decides on a frame that was received at `now_ns`, and rewrites it if it leaves.
    pub fn frame(&mut self, frame: &mut [u8], now_ns: u64) -> Outcome {
        if let Classification::Pass(reason) = self.classifier.classify(frame, self.table.index(), now_ns) {
            return Outcome {
                verdict: "pass",
                reason: reason.name(),
                service: None,
                real_server: None,
                by: None,
                dst_mac: None,
            };
        }
        let now_s = clock::to_seconds(now_ns);
        self.counts.last = None;
        match forward(frame, self.table, &mut self.flows, &mut self.counts, now_s) {
            Verdict::Tx { route, .. } => Outcome {
                verdict: "tx",
                reason: "scheduled",
                service: Some(route.service),
                real_server: Some(route.real_server),
                by: self.counts.last,
                dst_mac: ethernet::destination(frame),
            },
            Verdict::Drop { reason, service, real_server } => {
                Outcome { verdict: "drop", reason: reason.name(), service, real_server, by: None, dst_mac: None }
            }
        }
    }
}

/// Why a capture could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Both are the same file.
    #[error("{} is both the input and the output: name another output", .0.display())]
    SameFile(PathBuf),
    /// It is in the newer format.
    #[error("{} is a pcapng file: convert it first (editcap -F pcap {} OUT.pcap)", .0.display(), .0.display())]
    PcapNg(PathBuf),
    /// It is no capture.
    #[error("{} is not a pcap capture file ({reason})", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its frames are no Ethernet frames.
    #[error("{} holds frames of link type {link:?}, not Ethernet: capture on an Ethernet interface (not on \"any\")", path.display())]
    NotEthernet {
        /// The file.
        path: PathBuf,
        /// The link type.
        link: DataLink,
    },
    /// It breaks off or contradicts itself.
    #[error("{} is damaged after {frames} frames: {reason}; those before were replayed", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Frames that were replayed.
        frames: u64,
        /// What is wrong.
        reason: String,
    },
    /// The report of an outcome failed.
    #[error("cannot write the output: {0}")]
    Report(io::Error),
}

/// Replays the capture `input`, writes the frames that leave to `output` and tells `report` of every one.
///
/// # Errors
/// What is wrong with a file. What was replayed before is in `output` and was reported.
pub fn file(
    input: &Path,
    output: &Path,
    replay: &mut Replay<'_>,
    mut report: impl FnMut(u64, &Outcome) -> io::Result<()>,
) -> Result<(), ReplayError> {
    let (mut reader, header) = open(input)?;
    if is_same_file(input, output) {
        return Err(ReplayError::SameFile(input.to_owned()));
    }
    let write_error = |source| ReplayError::Write { path: output.to_owned(), source };
    let file = File::create(output).map_err(write_error)?;
    let header = PcapHeader { snaplen: header.snaplen.max(262_144), ..header };
    let mut writer =
        PcapWriter::with_header(BufWriter::new(file), header).map_err(|error| write_error(io_error(error)))?;
    let mut index = 0;
    let mut damage = None;
    while let Some(packet) = reader.next_raw_packet() {
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => {
                damage = Some(ReplayError::Damaged { path: input.to_owned(), frames: index, reason: describe(error) });
                break;
            }
        };
        let now_ns = timestamp_ns(&packet, header.ts_resolution);
        let mut bytes = packet.data.to_vec();
        let outcome = replay.frame(&mut bytes, now_ns);
        if outcome.verdict == "tx" {
            let packet = RawPcapPacket { data: bytes.into(), ..packet };
            writer.write_raw_packet(&packet).map_err(|error| write_error(io_error(error)))?;
        }
        report(index, &outcome).map_err(ReplayError::Report)?;
        index += 1;
    }
    writer.into_writer().flush().map_err(write_error)?;
    damage.map_or(Ok(()), Err)
}

fn open(path: &Path) -> Result<(PcapReader<BufReader<File>>, PcapHeader), ReplayError> {
    let read_error = |source| ReplayError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read_error)?);
    if file.fill_buf().map_err(read_error)?.starts_with(&PCAPNG_MAGIC) {
        return Err(ReplayError::PcapNg(path.to_owned()));
    }
    let reader = PcapReader::new(file)
        .map_err(|error| ReplayError::NotACapture { path: path.to_owned(), reason: describe(error) })?;
    let header = reader.header();
    if header.datalink != DataLink::ETHERNET {
        return Err(ReplayError::NotEthernet { path: path.to_owned(), link: header.datalink });
    }
    Ok((reader, header))
}

/// Whether both paths lead to one file, by links of either kind.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn timestamp_ns(packet: &RawPcapPacket<'_>, resolution: TsResolution) -> u64 {
    let fraction_ns = match resolution {
        TsResolution::MicroSecond => u64::from(packet.ts_frac) * 1000,
        TsResolution::NanoSecond => u64::from(packet.ts_frac),
    };
    u64::from(packet.ts_sec) * 1_000_000_000 + fraction_ns
}

fn describe(error: PcapError) -> String {
    match error {
        PcapError::IncompleteBuffer => BREAKS_OFF.to_owned(),
        PcapError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => BREAKS_OFF.to_owned(),
        PcapError::IoError(source) => source.to_string(),
        other => other.to_string(),
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(source) => source,
        other => io::Error::other(other),
    }
}
