//! IPv4 headers (RFC 791).

/// Bytes of a header without options.
pub(super) const MIN_HEADER_LEN: usize = 20;
/// The bits of flags and offset that only fragments have: more fragments, and the offset.
pub(super) const FRAGMENT_MASK: u16 = 0x3fff;

/// The fields of an IPv4 header that forwarding needs, in host byte order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: [u8; 4],
    pub(super) destination: [u8; 4],
    pub(super) protocol: u8,
    pub(super) identification: u16,
    /// In units of 8 bytes.
    pub(super) fragment_offset: u16,
    pub(super) more_fragments: bool,
    /// In bytes, options included: 20 to 60, and all of them are there.
    pub(super) header_len: usize,
    /// In bytes, header included, as the sender wrote it.
    pub(super) total_len: usize,
}

/// Reads the header at the start of `packet`; `None` if it is cut short, of another version or shorter than itself.
#[inline]
pub(super) fn header(packet: &[u8]) -> Option<Header> {
    let fixed = packet.first_chunk::<MIN_HEADER_LEN>()?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] >> 4 != 4 || header_len < MIN_HEADER_LEN || header_len > packet.len() {
        return None;
    }
    let flags_and_offset = u16::from_be_bytes([fixed[6], fixed[7]]);
    Some(Header {
        source: [fixed[12], fixed[13], fixed[14], fixed[15]],
        destination: [fixed[16], fixed[17], fixed[18], fixed[19]],
        protocol: fixed[9],
        identification: u16::from_be_bytes([fixed[4], fixed[5]]),
        fragment_offset: flags_and_offset & 0x1fff,
        more_fragments: flags_and_offset & 0x2000 != 0,
        header_len,
        total_len: usize::from(u16::from_be_bytes([fixed[2], fixed[3]])),
    })
}
