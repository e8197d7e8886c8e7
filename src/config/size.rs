//! Sizes of files as people write them.

/// What a size looks like, for messages.
pub const EXPECTED: &str = "a size from 64K to 1T such as \"100M\" (K, M, G and T are powers of 1024)";

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// Bytes of a size such as `100M`; `None` if it is none from 64 KiB to 1 TiB.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let unit = |unit: char| UNITS.iter().find(|(name, _)| *name == unit.to_ascii_uppercase());
    let (digits, shift) = match text.chars().last().and_then(unit) {
        Some((_, shift)) => (&text[..text.len() - 1], *shift),
        None => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (64 << 10..=1 << 40).contains(&bytes).then_some(bytes)
}

/// The size in its largest whole unit.
#[must_use]
pub fn format(bytes: u64) -> String {
    match UNITS.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, again) in
            [("100M", 100 << 20, "100M"), ("64k", 64 << 10, "64K"), ("65537", 65537, "65537"), ("1024G", 1 << 40, "1T")]
        {
            assert_eq!(parse(text), Some(bytes), "{text}");
            assert_eq!(format(bytes), again);
        }
        for text in ["", "M", "1", "63K", "2T", "-1M", "1.5G", "99999999999999999999", "100MB", "16777216T", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
