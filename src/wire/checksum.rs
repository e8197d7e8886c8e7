//! The internet checksum (RFC 1071).

/// Over all `parts`, each filled up to whole words: the field to write where that is zero, else zero for a good one.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| {
        part.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
    });
    let mut sum = words.fold(0_u32, u32::wrapping_add);
    while let (carry @ 1.., low) = (sum >> 16, sum & 0xffff) {
        sum = low + carry;
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&data]), !0xddf2);
        assert_eq!(checksum(&[&data, &(!0xddf2_u16).to_be_bytes()]), 0);
        assert_eq!(checksum(&[&[0x12]]), !0x1200);
    }
}
