//! IPv6 headers and their extension headers (RFC 8200).

/// Bytes of the fixed header.
pub(super) const HEADER_LEN: usize = 40;
/// Extension headers that are walked before a packet counts as malformed; the XDP program has the same bound.
const MAX_EXTENSION_HEADERS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The fields of the fixed header that forwarding needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
    /// In bytes, behind the fixed header, as the sender wrote it.
    pub(super) payload_len: usize,
    pub(super) next_header: u8,
}

/// Reads the fixed header at the start of `packet`; `None` if it is cut short or of another version.
#[inline]
pub(super) fn header(packet: &[u8]) -> Option<Header> {
    let fixed = packet.first_chunk::<HEADER_LEN>()?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&fixed[8..24]);
    destination.copy_from_slice(&fixed[24..40]);
    Some(Header {
        source,
        destination,
        payload_len: usize::from(u16::from_be_bytes([fixed[4], fixed[5]])),
        next_header: fixed[6],
    })
}

/// A fragment header (RFC 8200 section 4.5), in host byte order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    /// In units of 8 bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
    pub(super) identification: u32,
}

/// Where the walk over extension headers ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpperLayer {
    pub(super) protocol: u8,
    /// Bytes behind the fixed header.
    pub(super) offset: usize,
    pub(super) fragment: Option<Fragment>,
}

/// Why there is no upper layer to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkError {
    /// A header does not fit, there are too many, or a second fragment header.
    Malformed,
    /// A routing header says that this is not the last destination.
    NotLastDestination,
}

/// Walks the extension headers in `payload`, the bytes behind the fixed header.
#[inline]
pub(super) fn upper_layer(next_header: u8, payload: &[u8]) -> Result<UpperLayer, WalkError> {
    let mut protocol = next_header;
    let mut offset = 0;
    let mut fragment = None;
    for _ in 0..MAX_EXTENSION_HEADERS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let head = chunk::<4>(payload, offset)?;
                let length = (usize::from(head[1]) + 1) * 8;
                if length > payload.len() - offset {
                    return Err(WalkError::Malformed);
                }
                if protocol == ROUTING && head[3] != 0 {
                    return Err(WalkError::NotLastDestination);
                }
                protocol = head[0];
                offset += length;
            }
            FRAGMENT => {
                let head = chunk::<8>(payload, offset)?;
                if fragment.is_some() {
                    return Err(WalkError::Malformed);
                }
                let bits = u16::from_be_bytes([head[2], head[3]]);
                let found = Fragment {
                    offset: bits >> 3,
                    more: bits & 1 != 0,
                    identification: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
                };
                fragment = Some(found);
                protocol = head[0];
                offset += head.len();
                if found.offset != 0 {
                    return Ok(UpperLayer { protocol, offset, fragment });
                }
            }
            _ => return Ok(UpperLayer { protocol, offset, fragment }),
        }
    }
    match protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT => Err(WalkError::Malformed),
        _ => Ok(UpperLayer { protocol, offset, fragment }),
    }
}

#[inline]
fn chunk<const N: usize>(payload: &[u8], offset: usize) -> Result<&[u8; N], WalkError> {
    payload.get(offset..).and_then(|rest| rest.first_chunk::<N>()).ok_or(WalkError::Malformed)
}
