//! ICMP echo, RFC 792 and RFC 4443.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::failure::{Answer, Failure, Good};
use super::packet::watch;
use super::source::OwnAddress;

const PAYLOAD: &[u8; 16] = b"pointsman-health";

/// Types of request and reply.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// Sends an echo request and waits for its reply. The caller ends a wait that is too long.
pub(super) async fn ask(own: OwnAddress, server: IpAddr) -> Answer {
    let socket = open(own, server).map_err(Failure::system("open a raw socket"))?;
    let socket = watch(socket).map_err(Failure::system("open a raw socket"))?;
    // Every raw socket sees every reply, so each question has a number of its own.
    let number: [u8; 4] = fastrand::u32(..).to_be_bytes();
    let (request_type, reply_type) = if server.is_ipv4() { V4 } else { V6 };
    let request = message(request_type, number);
    socket.get_ref().send(&request).map_err(Failure::system("send"))?;
    let mut buffer = [0; 2048];
    loop {
        let mut ready = socket.readable().await.map_err(Failure::system("receive"))?;
        match ready.try_io(|socket| io::Read::read(&mut socket.get_ref(), &mut buffer)) {
            Ok(Ok(bytes)) if is_reply(&buffer[..bytes], server.is_ipv4(), reply_type, number) => {
                return Ok(Good("an echo reply".to_owned()));
            }
            Ok(Err(source)) => return Err(Failure::System { step: "receive", source }),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

fn open(own: OwnAddress, server: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) =
        if server.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    if let Some(own) = own.to_bind() {
        socket.bind(&own.into())?;
    }
    // Only what this server sends is received.
    socket.connect(&SocketAddr::new(server, 0).into())?;
    Ok(socket)
}

fn message(of_type: u8, number: [u8; 4]) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = of_type;
    message[4..8].copy_from_slice(&number);
    message[8..].copy_from_slice(PAYLOAD);
    // For ICMPv6 the kernel replaces it by its own, RFC 3542 section 3.1.
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8; 24]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

/// A raw IPv4 socket gives the IP header too, an IPv6 one does not.
fn is_reply(packet: &[u8], with_ipv4_header: bool, reply_type: u8, number: [u8; 4]) -> bool {
    let header = if with_ipv4_header { packet.first().map_or(0, |first| usize::from(first & 0xf) * 4) } else { 0 };
    let message = packet.get(header..).unwrap_or_default();
    message.first() == Some(&reply_type)
        && message.get(4..8) == Some(&number[..])
        && message.get(8..) == Some(&PAYLOAD[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_sums_up_to_all_ones() {
        for number in [[0; 4], [0xff; 4], [1, 2, 3, 4]] {
            let message = message(8, number);
            assert_eq!(checksum(&message), 0);
            assert!(is_reply(&message, false, 8, number));
            assert!(!is_reply(&message, false, 0, number));
            assert!(!is_reply(&message[..23], false, 8, number));
            let mut packet = vec![0x46; 24];
            packet.extend(message);
            assert!(is_reply(&packet, true, 8, number));
        }
        for end in 0..24 {
            assert!(!is_reply(&[0x4f; 24][..end], true, 8, [0; 4]));
        }
    }
}
