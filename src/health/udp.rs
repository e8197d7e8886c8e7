//! UDP: a datagram, and what comes back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::failure::{Answer, Failure, Good};
use super::http::contains;
use super::source::OwnAddress;
use crate::config::UdpCheck;
use crate::network::{NeighborState, neighbors};

/// Sends the datagram and waits at most `patience`. Where no answer is expected, silence is a good one: only an ICMP
/// error ("port unreachable") or an unreachable host is not.
pub(super) async fn ask(check: &UdpCheck, own: OwnAddress, server: SocketAddr, patience: Duration) -> Answer {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(own.to_bind().unwrap_or(any)).await.map_err(Failure::system("open a socket"))?;
    // A connected socket is told of ICMP errors, and gets answers of this server only.
    socket.connect(server).await.map_err(Failure::system("find the way"))?;
    socket.send(&check.send).await.map_err(Failure::system("send"))?;
    let mut buffer = vec![0; 64 << 10];
    let received = timeout(patience, socket.recv(&mut buffer)).await;
    match (received, &check.expect) {
        (Err(_), None) if asked_in_vain(server.ip()).await => Err(Failure::NoNeighbor(server.ip())),
        (Err(_), None) => Ok(Good("no answer, and no error".to_owned())),
        (Err(_), Some(_)) => Err(Failure::Timeout(patience)),
        (Ok(Err(error)), _) => Err(Failure::System { step: "receive", source: error }),
        (Ok(Ok(bytes)), Some(part)) if !contains(&buffer[..bytes], part) => Err(Failure::Datagram { bytes }),
        (Ok(Ok(bytes)), _) => Ok(Good(format!("an answer of {bytes} bytes"))),
    }
}

/// Whether the kernel knows no MAC address for the server any more. It takes longer to find that out than most checks
/// wait, so that the error reaches nobody.
async fn asked_in_vain(server: IpAddr) -> bool {
    // The whole table may be large: no other check is to wait for it.
    let Ok(Ok(table)) = spawn_blocking(neighbors).await else { return false };
    let mut entries = table.iter().filter(|entry| entry.address == server).peekable();
    entries.peek().is_some() && entries.all(|entry| entry.state == NeighborState::Unusable)
}
