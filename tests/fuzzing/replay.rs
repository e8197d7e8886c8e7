//! A capture file through `replay`.

use std::fs::{self, File};
use std::io::{BufReader, Read};

use pcap_file::pcap::PcapReader;
use pointsman::replay::{self, Outcome, Replay, ReplayError};

use super::Tables;

/// The input is a byte of real servers and then a capture file.
pub fn replay(input: &[u8]) {
    let Some((servers, capture)) = input.split_first() else { return };
    let table = Tables::new().build(*servers, 0, None);
    let mut replay = Replay::new(&table, Vec::new(), 16).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in"), directory.path().join("out"));
    fs::write(&from, capture).unwrap();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let result = replay::file(&from, &to, &mut replay, |index, outcome| {
        assert_eq!(index, outcomes.len() as u64, "a frame is reported out of turn");
        outcomes.push(*outcome);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(ReplayError::Damaged { frames, .. }) => assert_eq!(frames, outcomes.len() as u64),
        Err(error @ (ReplayError::Read { .. } | ReplayError::Write { .. } | ReplayError::Report(_))) => {
            panic!("the capture is blamed on the system: {error}")
        }
        Err(_) => {
            assert_eq!(outcomes.len(), 0, "frames were replayed of what is not a capture");
            return;
        }
    }
    let came = frames(capture);
    assert!(came.len() >= outcomes.len());
    let left = frames(BufReader::new(File::open(&to).unwrap()));
    let sent = came.iter().zip(&outcomes).filter(|(_, outcome)| outcome.verdict == "tx").map(|(frame, _)| frame);
    assert_eq!(sent.clone().count(), left.len(), "not every frame that leaves is in the output");
    for (came, left) in sent.zip(&left) {
        assert_eq!(came[12..], left[12..], "bytes other than the MAC addresses have changed");
    }
}

/// The frames of a capture up to where it is damaged.
fn frames(capture: impl Read) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(capture).unwrap();
    let mut frames = Vec::new();
    while let Some(Ok(packet)) = reader.next_raw_packet() {
        frames.push(packet.data.to_vec());
    }
    frames
}
