//! What is about QUIC in the `[[virtual_service]]` tables.

use super::{Check, Seen};
use crate::config::raw::{RawRealServer, RawVirtualService};
use crate::config::reader::quoted;
use crate::wire::quic::ServerId;

/// Octets of the server ids of a service whose flows are kept by connection id; `None` for any other.
pub(super) fn service(raw: &RawVirtualService<'_>, check: Check<'_>) -> Option<u8> {
    let mut length = 0;
    check.number(raw.quic_server_id_length.as_ref(), 1..=15, &mut length);
    let Some(quic) = raw.quic.as_ref().filter(|quic| quic.value) else {
        if let Some(field) = &raw.quic_server_id_length {
            check.refuse_with(field, "is for services with quic = true only; set that or remove this".to_owned());
        }
        return None;
    };
    if raw.protocol.as_ref().is_some_and(|protocol| protocol.value == "tcp") {
        let message = "QUIC runs over UDP and this service is tcp; set protocol = \"udp\" or remove quic";
        check.refuse_with(quic, message.to_owned());
    }
    if raw.quic_server_id_length.is_none() {
        let message = "quic_server_id_length is missing; set it to the length of the server ids, 1 to 15 bytes";
        check.refuse_with(quic, message.to_owned());
    }
    if !raw.real_servers.is_empty() && raw.real_servers.iter().all(|server| server.quic_server_id.is_none()) {
        let message =
            "no real server has a quic_server_id, so all flows are kept by address and port alone; give each one";
        check.findings.warn(quic.at, check.place.path_of(quic.key.name), message.to_owned());
    }
    Some(length)
}

/// The server id of a real server; `length` is that of its service.
pub(super) fn real_server(
    raw: &RawRealServer<'_>,
    length: Option<u8>,
    index: usize,
    taken: &mut Seen<ServerId>,
    check: Check<'_>,
) -> Option<ServerId> {
    let field = raw.quic_server_id.as_ref()?;
    let Some(length) = length else {
        let message = "is for services with quic = true only; set that in the virtual service or remove this";
        check.refuse_with(field, message.to_owned());
        return None;
    };
    let Ok(id) = field.value.parse::<ServerId>() else {
        check.refuse(field, format_args!("{} is not a server id", quoted(field.value)));
        return None;
    };
    // Without a length that holds there is a finding already.
    if length > 0 && id.len() != usize::from(length) {
        let (has, units) = (id.len(), if id.len() == 1 { "byte" } else { "bytes" });
        check.refuse_with(field, format!("has {has} {units} and quic_server_id_length is {length}; make them equal"));
    }
    if let Some(first) = taken.before(id, index) {
        check.refuse_with(field, format!("{id} is that of real_server[{first}] already; give each its own"));
    }
    Some(id)
}
