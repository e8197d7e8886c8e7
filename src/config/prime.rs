//! Primes for table sizes.

/// Whether `n` is a prime, by trial division: at most 2,048 steps up to the largest table size.
pub(super) fn is_prime(n: u32) -> bool {
    if n < 4 {
        return n >= 2;
    }
    !n.is_multiple_of(2)
        && (3..)
            .step_by(2)
            .take_while(|d| u64::from(*d) * u64::from(*d) <= u64::from(n))
            .all(|d: u32| !n.is_multiple_of(d))
}

/// The greatest prime up to `n`.
pub(super) fn at_most(n: u32) -> Option<u32> {
    (2..=n).rev().find(|candidate| is_prime(*candidate))
}

/// The smallest prime from `n` up to `limit`.
pub(super) fn at_least(n: u32, limit: u32) -> Option<u32> {
    (n.max(2)..=limit).find(|candidate| is_prime(*candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_TABLE_SIZE, MAX_TABLE_SIZE};

    #[test]
    fn agrees_with_a_sieve() {
        const N: usize = 10_000;
        let mut composite = [false; N];
        for n in 2..N {
            assert_eq!(is_prime(u32::try_from(n).unwrap()), !composite[n], "{n}");
            for multiple in (2 * n..N).step_by(n) {
                composite[multiple] = true;
            }
        }
        assert!(!is_prime(0) && !is_prime(1));
    }

    #[test]
    fn known_neighbours() {
        assert_eq!((at_most(65_536), at_least(65_536, 70_000)), (Some(65_521), Some(65_537)));
        assert_eq!((at_most(1), at_least(0, 9), at_least(8, 10)), (None, Some(2), None));
        assert!(is_prime(DEFAULT_TABLE_SIZE));
        assert_eq!(at_most(1 << 24), Some(MAX_TABLE_SIZE));
    }
}
