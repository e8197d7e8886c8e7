//! The internet checksum (RFC 1071).

/// Over all `parts`, each filled up to whole words: the field to write where that is zero, else zero for a good one.
#[inline]
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    folded(parts.iter().fold(0, |so_far, part| so_far + sum(part)))
}

/// The words of `bytes` added up, filled up to a whole one. Such sums may be added to each other, and up to 2^32 of them
/// do not overflow.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // A sum of double words comes to the same as one of words once its carries are folded in (RFC 1071, section 2).
    let mut wide = bytes.chunks_exact(4);
    let mut sum = 0;
    for word in &mut wide {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut rest = [0; 4];
    for (byte, last) in rest.iter_mut().zip(wide.remainder()) {
        *byte = *last;
    }
    sum + u64::from(u32::from_be_bytes(rest))
}

/// The checksum of words that were added up by [`sum`].
#[inline]
pub(crate) fn folded(mut sum: u64) -> u16 {
    while let (carry @ 1.., low) = (sum >> 16, sum & 0xffff) {
        sum = low + carry;
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&data]), !0xddf2);
        assert_eq!(checksum(&[&data, &(!0xddf2_u16).to_be_bytes()]), 0);
        assert_eq!(checksum(&[&[0x12]]), !0x1200);
    }

    proptest! {
        #[test]
        fn wide_words_come_to_the_same_as_words(data in prop::collection::vec(any::<u8>(), 0..3000)) {
            let words = data.chunks(2).map(|pair| {
                u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            });
            let mut expected: u32 = words.sum();
            while expected > 0xffff {
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(u32::from(checksum(&[&data])), !expected & 0xffff);
        }
    }
}
