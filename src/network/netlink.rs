//! The two ways to talk rtnetlink: ask and wait for the whole answer, or listen.
//!
//! They are apart on purpose: an answer never queues behind a flood of events, and an overrun of the event queue never
//! loses an answer. A socket belongs to the network namespace of the thread that opened it, wherever it is used later.

use std::io;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::NetworkError;

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_ALIGNTO: usize = 4;

/// The kernel fills at most 32 KiB at a time (af_netlink.c, netlink_dump), so that this truncates nothing.
const INBOX_BYTES: usize = 64 * 1024;
/// The kernel answers within microseconds; a bound keeps a reload from hanging whatever happens.
const ANSWER_TIMEOUT_SECONDS: i64 = 5;
/// How often a dump is read anew when the table changed under it.
const DUMP_ATTEMPTS: usize = 10;
/// Room for a burst of events, as when an interface with a thousand neighbours goes down.
const EVENT_QUEUE_BYTES: libc::c_int = 1024 * 1024;

/// What a request asks for besides its message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// The whole table.
    Dump,
    /// One object, or the deed and its acknowledgement, with these further `NLM_F_*` flags.
    One(u16),
}

/// A socket for questions and commands, one at a time.
pub(super) struct Requester {
    socket: Socket,
    sequence: u32,
    inbox: Vec<u8>,
}

impl Requester {
    pub(super) fn open() -> Result<Self, NetworkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            setsockopt(&socket, ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_SECONDS, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetworkError::system("open a netlink socket", source))?;
        Ok(Self { socket, sequence: 0, inbox: Vec::with_capacity(INBOX_BYTES) })
    }

    /// Sends `request` and collects what `parse` makes of each message (type, payload) of the answer.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error; `TimedOut` or `Interrupted` where no consistent answer came.
    pub(super) fn exchange<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        ask: Ask,
        parse: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request, ask)?;
            if let Some(answer) = self.receive(&parse)? {
                return Ok(answer);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the table kept changing while it was read; try again"))
    }

    fn send(&mut self, request: &RouteNetlinkMessage, ask: Ask) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST
            | match ask {
                Ask::Dump => NLM_F_DUMP,
                Ask::One(flags) => NLM_F_ACK | flags,
            };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.clone()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// The whole answer, or `None` where the table changed while it was dumped.
    fn receive<T>(&mut self, parse: &impl Fn(u16, &[u8]) -> Option<T>) -> io::Result<Option<Vec<T>>> {
        let mut answer = Vec::new();
        let mut consistent = true;
        loop {
            receive_datagram(&self.socket, &mut self.inbox).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"),
                _ => error,
            })?;
            for message in messages(&self.inbox) {
                if message.sequence_number() != self.sequence {
                    continue; // the rest of an answer that was given up
                }
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        return match status(message.payload()) {
                            0 => Ok(consistent.then_some(answer)),
                            errno => Err(io::Error::from_raw_os_error(errno)),
                        };
                    }
                    kind => answer.extend(parse(kind, message.payload())),
                }
            }
        }
    }
}

/// A socket that hears of changes.
pub(super) struct EventSocket {
    socket: Socket,
    inbox: Vec<u8>,
}

/// What came of one attempt to hear an event.
pub(super) enum Heard {
    /// A datagram was handed over.
    Events,
    /// Nothing is waiting.
    Nothing,
    /// The queue overflowed: events are lost and the tables must be read anew.
    Overrun,
}

impl EventSocket {
    /// Subscribes to the multicast `groups` (`RTNLGRP_*`).
    pub(super) fn open(groups: &[u32]) -> Result<Self, NetworkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.set_rx_buf_sz(EVENT_QUEUE_BYTES)?;
            for group in groups {
                socket.add_membership(*group)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|source| NetworkError::system("subscribe to network events", source))?;
        Ok(Self { socket, inbox: Vec::with_capacity(INBOX_BYTES) })
    }

    /// Hands each message (type, payload) of the next waiting datagram to `each`.
    pub(super) fn hear(&mut self, mut each: impl FnMut(u16, &[u8])) -> io::Result<Heard> {
        match receive_datagram(&self.socket, &mut self.inbox) {
            Ok(()) => {
                for message in messages(&self.inbox) {
                    each(message.message_type(), message.payload());
                }
                Ok(Heard::Events)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads one datagram from the kernel into `inbox`; one from another process, which anybody may send, is passed over.
fn receive_datagram(socket: &Socket, inbox: &mut Vec<u8>) -> io::Result<()> {
    loop {
        inbox.clear();
        let (length, sender) = match socket.recv_from(inbox, libc::MSG_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        if sender.port_number() != 0 {
            continue;
        }
        if length > inbox.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message is longer than 64 KiB"));
        }
        return Ok(());
    }
}

/// The messages of a datagram; ends at the first that does not fit it.
fn messages(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO)..).unwrap_or_default();
        Some(message)
    })
}

/// The positive errno that ends an answer, 0 for success: both NLMSG_ERROR and NLMSG_DONE begin with a negated errno.
fn status(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = 16 + u32::try_from(payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(NLMSG_ALIGNTO), 0);
        bytes
    }

    #[test]
    fn a_datagram_holds_several_messages_of_odd_lengths() {
        let datagram = [message(16, &[1, 2, 3]), message(28, &[]), message(NLMSG_DONE, &[9; 5])].concat();
        let seen: Vec<_> = messages(&datagram).map(|m| (m.message_type(), m.payload().to_vec())).collect();
        assert_eq!(seen, [(16, vec![1, 2, 3]), (28, vec![]), (NLMSG_DONE, vec![9; 5])]);
    }

    #[test]
    fn the_status_of_an_answer_is_an_errno() {
        assert_eq!(status(&(-libc::EPERM).to_ne_bytes()), libc::EPERM);
        assert_eq!(status(&0i32.to_ne_bytes()), 0);
        assert_eq!(status(&[]), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
        }
    }
}
