//! Captured frames as a pcapng file (draft-ietf-opsawg-pcapng), which Wireshark and tcpdump read.
//!
//! Each interface of the director is one of the file, with times in nanoseconds. A frame is listed under the interface
//! that it came by; its comment tells what became of it.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::{DataLink, Endianness, PcapError};

use super::{Counts, Record};
use crate::clock;

/// `if_tsresol`: times count nanoseconds.
const NANOSECONDS: u8 = 9;

/// Makes the blocks of a file.
pub struct Blocks {
    writer: PcapNgWriter<Vec<u8>>,
    interfaces: Vec<String>,
    began: Duration,
}

impl Blocks {
    /// Begins a file of frames of which `snapshot_bytes` are kept, from these interfaces.
    ///
    /// # Errors
    /// None in practice: memory takes every block.
    pub fn new(interfaces: &[String], snapshot_bytes: usize) -> Result<Self, PcapError> {
        // Big endian: the library writes the two halves of a statistics block's time as one number of 64 bits, and
        // only so is the upper half first, as the format has it.
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Big)?;
        for name in interfaces {
            writer.write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: u32::try_from(snapshot_bytes).unwrap_or(0),
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Owned(name.clone())),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            })?;
        }
        Ok(Self { writer, interfaces: interfaces.to_vec(), began: now() })
    }

    /// Appends a frame. `offset` is what wall-clock time is ahead of CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn frame(&mut self, record: &Record, offset: Duration) -> Result<(), PcapError> {
        let mut options = vec![EnhancedPacketOption::Comment(Cow::Owned(self.comment(record)))];
        if record.lost_before > 0 {
            options.push(EnhancedPacketOption::DropCount(record.lost_before));
        }
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: u32::try_from(record.place.interface).unwrap_or(u32::MAX),
            timestamp: offset + Duration::from_nanos(record.time_ns),
            original_len: u32::try_from(record.frame_len).unwrap_or(u32::MAX),
            data: Cow::Borrowed(&record.bytes),
            options,
        })?;
        Ok(())
    }

    /// Appends what was counted on the interface at this position, `delivered` frames of which are in the file.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn statistics(&mut self, interface: usize, counts: Counts, delivered: u64) -> Result<(), PcapError> {
        let end = now();
        self.writer.write_pcapng_block(InterfaceStatisticsBlock {
            interface_id: u32::try_from(interface).unwrap_or(u32::MAX),
            timestamp: nanoseconds(end),
            options: vec![
                InterfaceStatisticsOption::IsbStartTime(nanoseconds(self.began)),
                InterfaceStatisticsOption::IsbEndTime(nanoseconds(end)),
                InterfaceStatisticsOption::IsbIfRecv(counts.seen),
                InterfaceStatisticsOption::IsbFilterAccept(counts.wanted),
                InterfaceStatisticsOption::IsbOsDrop(counts.lost),
                InterfaceStatisticsOption::IsbUsrDeliv(delivered),
            ],
        })?;
        Ok(())
    }

    /// The blocks that were made since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    fn comment(&self, record: &Record) -> String {
        let mut text = record.fate.to_string();
        if let Some(service) = record.service {
            let _ = write!(text, ", service {service}");
        }
        if let Some(real_server) = record.real_server {
            let _ = write!(text, ", real server {real_server}");
        }
        if let Some(egress) = record.egress.and_then(|egress| self.interfaces.get(usize::from(egress))) {
            let _ = write!(text, ", out by {egress}");
        }
        let _ = write!(text, ", queue {}, worker {}", record.place.queue, record.worker);
        if !record.stamped {
            text.push_str(", no stamp: time of the worker");
        }
        text
    }
}

/// What wall-clock time is ahead of CLOCK_MONOTONIC, by which frames are stamped.
pub fn wall_clock_offset() -> Duration {
    let monotonic_ns = clock::monotonic_ns();
    now().saturating_sub(Duration::from_nanos(monotonic_ns))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
