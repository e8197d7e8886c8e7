//! Asks a segment who has an address: ARP probes (RFC 5227) and neighbour solicitations (RFC 4861) over packet sockets.
//!
//! An ARP probe has no sender address, so nobody learns one from it. A solicitation has an address of the asking
//! interface and its MAC address, which is true. The kernel's own tables are not asked and not changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::network::{NetworkError, PacketSocket};
use crate::wire::{MacAddress, arp, ethernet, ndp};

/// How long answers are waited for; all are asked for a second time after half of it.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// So many questions are sent at once, that no queue on the way overflows.
const BURST: usize = 32;
const BURST_PAUSE: Duration = Duration::from_millis(1);
/// Longer than any frame that is looked at.
const FRAME_BYTES: usize = 2048;

/// What is asked on one interface.
#[derive(Clone, Debug)]
pub struct Question {
    /// The interface.
    pub device_index: u32,
    /// Its name.
    pub device: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// An IPv6 address that it has; without one IPv6 addresses are not asked for.
    pub source: Option<Ipv6Addr>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// Somebody said that an address is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The interface that was asked on.
    pub device_index: u32,
    /// The address.
    pub address: IpAddr,
    /// The MAC address that was answered with.
    pub mac: MacAddress,
}

/// Asks on all interfaces at once. Returns each claim once, and a sentence for each question that could not be asked.
pub fn ask(questions: &[Question], patience: Duration) -> (Vec<Claim>, Vec<(String, String)>) {
    let (mut claims, mut problems) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let asked: Vec<_> = questions
            .iter()
            .flat_map(|question| [arp_frames(question), ndp_frames(question)].map(|frames| (question, frames)))
            .filter_map(|(question, frames)| match frames {
                Ok(frames) if frames.is_empty() => None,
                Ok(frames) => Some((question, scope.spawn(move || ask_one(question, &frames, patience)))),
                Err(problem) => {
                    problems.push((question.device.clone(), problem));
                    None
                }
            })
            .collect();
        for (question, thread) in asked {
            match thread.join() {
                Ok(Ok(found)) => claims.extend(found),
                Ok(Err(error)) => problems.push((question.device.clone(), with_cause(&error))),
                Err(_) => problems.push((question.device.clone(), "the thread that asks has ended early".to_owned())),
            }
        }
    });
    claims.sort_unstable();
    claims.dedup();
    (claims, problems)
}

fn with_cause(error: &NetworkError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn arp_frames(question: &Question) -> Result<Vec<Vec<u8>>, String> {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(v4) => Some(arp::probe(question.mac, *v4).to_vec()),
        IpAddr::V6(_) => None,
    };
    Ok(question.addresses.iter().filter_map(v4).collect())
}

fn ndp_frames(question: &Question) -> Result<Vec<Vec<u8>>, String> {
    let v6: Vec<Ipv6Addr> = question
        .addresses
        .iter()
        .filter_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None })
        .collect();
    match question.source {
        _ if v6.is_empty() => Ok(Vec::new()),
        None => Err(format!("{} has no IPv6 address to ask from", question.device)),
        Some(source) => Ok(v6.into_iter().map(|to| ndp::solicitation(question.mac, source, to).to_vec()).collect()),
    }
}

/// Asks what `frames` ask, which are all of one EtherType, twice.
fn ask_one(question: &Question, frames: &[Vec<u8>], patience: Duration) -> Result<Vec<Claim>, NetworkError> {
    let is_arp = frames.first().is_some_and(|frame| frame.len() == arp::FRAME_LEN);
    let socket = PacketSocket::open(question.device_index, if is_arp { arp::ETHER_TYPE } else { ethernet::IPV6 })?;
    let failed =
        |action: &str, source| NetworkError::System { action: format!("{action} by {}", question.device), source };
    let mut claims = Vec::new();
    for _ in 0..2 {
        for burst in frames.chunks(BURST) {
            for frame in burst {
                socket.send(frame).map_err(|source| failed("ask who has an address", source))?;
            }
            listen(&socket, question, BURST_PAUSE, &mut claims).map_err(|source| failed("hear an answer", source))?;
        }
        listen(&socket, question, patience / 2, &mut claims).map_err(|source| failed("hear an answer", source))?;
    }
    Ok(claims)
}

fn listen(socket: &PacketSocket, question: &Question, time: Duration, claims: &mut Vec<Claim>) -> std::io::Result<()> {
    let deadline = Instant::now() + time;
    let mut buffer = [0; FRAME_BYTES];
    while let Some(frame) = socket.receive(&mut buffer, deadline)? {
        let v4 = arp::claim(frame).map(|(address, mac): (Ipv4Addr, _)| (IpAddr::V4(address), mac));
        let claim = v4.or_else(|| ndp::claim(frame).map(|(address, mac)| (IpAddr::V6(address), mac)));
        if let Some((address, mac)) = claim.filter(|(address, _)| question.addresses.contains(address)) {
            let claim = Claim { device_index: question.device_index, address, mac };
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}
