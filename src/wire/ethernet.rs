//! Ethernet II frames with up to two VLAN tags (IEEE 802.3, 802.1Q).

use super::MacAddress;

/// Bytes of an untagged header: two addresses and the EtherType.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// EtherType of IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;

const TPID_CUSTOMER: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;
const MAX_TAGS: usize = 2;

/// What follows the Ethernet header and its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Bytes from the start of the frame to the payload: 14, 18 or 22.
    pub offset: usize,
    /// The EtherType; that of a third tag if there is one.
    pub ether_type: u16,
}

/// Finds the payload behind at most two tags; `None` if the frame ends before its EtherType.
#[inline]
pub fn payload(frame: &[u8]) -> Option<Payload> {
    let mut offset = HEADER_LEN;
    let mut ether_type = ether_type_before(frame, offset)?;
    for _ in 0..MAX_TAGS {
        if ether_type != TPID_CUSTOMER && ether_type != TPID_SERVICE {
            break;
        }
        offset += TAG_LEN;
        ether_type = ether_type_before(frame, offset)?;
    }
    Some(Payload { offset, ether_type })
}

/// The address that the frame is sent to; `None` if it is cut short.
#[inline]
pub fn destination(frame: &[u8]) -> Option<MacAddress> {
    frame.first_chunk::<6>().map(|octets| MacAddress::new(*octets))
}

/// Writes destination and source address over the frame's own; a frame shorter than both is left as it is.
#[inline]
pub fn rewrite(frame: &mut [u8], addresses: &[u8; 12]) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        *head = *addresses;
    }
}

#[inline]
fn ether_type_before(frame: &[u8], offset: usize) -> Option<u16> {
    let bytes = frame.get(offset - 2..offset)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_found_behind_no_one_or_two_tags() {
        let mut frame = vec![0; 12];
        assert_eq!(payload(&frame), None);
        frame.extend([0x08, 0x00]);
        assert_eq!(payload(&frame), Some(Payload { offset: 14, ether_type: IPV4 }));
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        assert_eq!(payload(&frame), None, "a tag cut short");
        frame.extend([0, 7, 0x81, 0x00]);
        assert_eq!(payload(&frame), None, "an inner tag cut short");
        frame.extend([0, 9, 0x86, 0xdd]);
        assert_eq!(payload(&frame), Some(Payload { offset: 22, ether_type: IPV6 }));
        frame[20..22].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(payload(&frame), Some(Payload { offset: 22, ether_type: 0x8100 }), "a third tag is no IP");
    }
}
