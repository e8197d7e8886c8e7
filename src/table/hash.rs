//! The flow hash: which number a flow is, the same on every director that has the same secret.
//!
//! Each step multiplies two 64-bit words into 128 bits and folds the halves together by exclusive or, after keying both
//! words. The keys come from the cluster's secret by SHA-256, so that nobody without it can aim flows at one real
//! server. It is a fast keyed mixing function, not a message authentication code.

use sha2::{Digest, Sha256};

use crate::wire::{Family, Subject};

/// The secret that is used where the configuration sets none.
pub const DEFAULT_SECRET: &str = "pointsman";

const KEYS: usize = 6;

/// Keys of the flow hash, made from a cluster's secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowHasher {
    keys: [u64; KEYS],
}

impl FlowHasher {
    /// Key `i` is the first eight bytes, little endian, of SHA-256 over `"pointsman flow hash"`, the byte `i` and the
    /// secret. Its lowest bit is set.
    pub fn new(secret: &str) -> Self {
        let mut keys = [0; KEYS];
        for (index, key) in (0u8..).zip(&mut keys) {
            let digest = Sha256::new()
                .chain_update(b"pointsman flow hash")
                .chain_update([index])
                .chain_update(secret.as_bytes())
                .finalize();
            let mut first = [0; 8];
            first.copy_from_slice(&digest[..8]);
            *key = u64::from_le_bytes(first) | 1;
        }
        Self { keys }
    }

    /// The hash of a flow by protocol, addresses and ports. Fragments without ports hash with ports of 0: those that find
    /// no entry of their first fragment all go one way, which may be another than the first one's.
    #[inline]
    pub fn flow(&self, subject: &Subject) -> u64 {
        let rest = u64::from(subject.client_port) << 32
            | u64::from(subject.service_port) << 16
            | u64::from(subject.protocol) << 8
            | subject.family as u64;
        match subject.family {
            Family::V4 => {
                let addresses = u64::from(word32(&subject.client)) << 32 | u64::from(word32(&subject.vip));
                self.finish(addresses, rest)
            }
            Family::V6 => {
                let (client_high, client_low) = words(&subject.client);
                let (vip_high, vip_low) = words(&subject.vip);
                let client = fold(client_high ^ self.keys[2], client_low ^ self.keys[3]);
                let vip = fold(vip_high ^ self.keys[4], vip_low ^ self.keys[5]);
                self.finish(client.rotate_left(32) ^ vip, rest)
            }
        }
    }

    /// The hash of a client by its address alone, for `persistence = "client"`.
    #[inline]
    pub fn client(&self, subject: &Subject) -> u64 {
        let (high, low) = words(&subject.client);
        let address = fold(high ^ self.keys[2], low ^ self.keys[3]);
        self.finish(address, subject.family as u64)
    }

    /// The hash of any bytes, for what is computed off the packets' path.
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut state = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = self.finish(state, u64::from_le_bytes(word));
        }
        self.finish(state, !0)
    }

    /// The `attempt`-th further hash of a flow whose first choice is not alive.
    #[inline]
    pub fn again(&self, hash: u64, attempt: u64) -> u64 {
        self.finish(hash, attempt)
    }

    #[inline]
    fn finish(&self, a: u64, b: u64) -> u64 {
        let mixed = fold(a ^ self.keys[0], b ^ self.keys[1]);
        fold(mixed ^ self.keys[4], a.rotate_left(29) ^ self.keys[5])
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (high, low) = halves(u128::from(a) * u128::from(b));
    high ^ low
}

/// The upper and the lower 64 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "taking the halves is what it is for")]
pub(super) fn halves(value: u128) -> (u64, u64) {
    ((value >> 64) as u64, value as u64)
}

#[inline]
fn word32(address: &[u8; 16]) -> u32 {
    u32::from_be_bytes([address[0], address[1], address[2], address[3]])
}

#[inline]
fn words(address: &[u8; 16]) -> (u64, u64) {
    halves(u128::from_be_bytes(*address))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "cutting numbers down is how the patterns are made")]
mod tests {
    use super::*;
    use crate::wire::Shape;

    const BUCKETS: usize = 1021;
    const FLOWS: u64 = 100_000;

    fn subject(family: Family, client: u128, client_port: u16) -> Subject {
        let vip = u128::from_be_bytes(match family {
            Family::V4 => [192, 168, 88, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Family::V6 => [0xfd, 0, 0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x15],
        });
        Subject {
            client: client.to_be_bytes(),
            vip: vip.to_be_bytes(),
            client_port,
            service_port: 80,
            protocol: 6,
            family,
            shape: Shape::Datagram,
            fragment_id: 0,
            l3_offset: 14,
            l4_offset: 34,
            l4_len: 20,
        }
    }

    fn hashers() -> impl Iterator<Item = FlowHasher> {
        (0..4).map(|secret| FlowHasher::new(&format!("secret {secret}")))
    }

    /// The bucket that a Maglev table of that size would choose.
    fn bucket(hash: u64) -> usize {
        halves(u128::from(hash) * BUCKETS as u128).0 as usize
    }

    /// How far the counts are from equal, in standard deviations of what chance does (Pearson's chi-squared).
    fn deviation(buckets: impl Iterator<Item = usize>) -> f64 {
        let mut counts = vec![0u32; BUCKETS];
        buckets.for_each(|bucket| counts[bucket] += 1);
        let expected = f64::from(counts.iter().sum::<u32>()) / BUCKETS as f64;
        let squares: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        let freedom = BUCKETS as f64 - 1.0;
        (squares - freedom) / (2.0 * freedom).sqrt()
    }

    /// Its name, the `i`-th flow of it, and whether the clients differ.
    type Pattern = (&'static str, fn(u64) -> Subject, bool);

    /// Clients as they come: in a row, a subnet each, behind one address, or with ports that step.
    fn patterns() -> Vec<Pattern> {
        use Family::{V4, V6};
        let in_client_mode = true;
        vec![
            ("IPv4 in a row", |i| subject(V4, u128::from(0x0a00_0000 + i) << 96, 40_000), in_client_mode),
            ("IPv4, a /16 each", |i| subject(V4, u128::from((i << 16 | i >> 16) as u32) << 96, 40_000), in_client_mode),
            ("IPv4 by ports", |i| subject(V4, (u128::from(0x0a00_0001 + (i >> 16))) << 96, i as u16), false),
            (
                "IPv4 by even ports",
                |i| subject(V4, (u128::from(0x0a00_0001 + (i >> 12))) << 96, (i << 4) as u16),
                false,
            ),
            ("IPv6 in a row", |i| subject(V6, 0xfd00 << 112 | u128::from(i), 40_000), in_client_mode),
            ("IPv6, a /64 each", |i| subject(V6, 0xfd00 << 112 | u128::from(i) << 64 | 1, 40_000), in_client_mode),
            ("IPv6 by ports", |i| subject(V6, 0xfd00 << 112 | u128::from(i >> 16), i as u16), false),
        ]
    }

    #[test]
    fn slots_are_hit_as_by_chance() {
        for hasher in hashers() {
            for (name, subject, in_client_mode) in patterns() {
                let by_flow = deviation((0..FLOWS).map(|i| bucket(hasher.flow(&subject(i)))));
                assert!(by_flow.abs() < 6.0, "{name}: {by_flow}");
                if in_client_mode {
                    let by_client = deviation((0..FLOWS).map(|i| bucket(hasher.client(&subject(i)))));
                    assert!(by_client.abs() < 6.0, "{name}, by client: {by_client}");
                }
            }
        }
    }

    #[test]
    fn the_second_choice_does_not_depend_on_the_first() {
        for hasher in hashers() {
            for (name, subject, _) in patterns() {
                // Those whose first choice is one tenth of the table go over all of it.
                let hashes = (0..FLOWS).map(|i| hasher.flow(&subject(i))).filter(|hash| bucket(*hash) < BUCKETS / 10);
                let second = deviation(hashes.clone().map(|hash| bucket(hasher.again(hash, 1))));
                let third = deviation(hashes.map(|hash| bucket(hasher.again(hash, 2))));
                assert!(second.abs() < 6.0 && third.abs() < 6.0, "{name}: {second}, {third}");
            }
        }
    }

    #[test]
    fn each_bit_of_a_flow_changes_each_bit_of_the_hash_half_of_the_time() {
        const SAMPLES: u64 = 2000;
        let hasher = FlowHasher::new("a secret");
        let bits_of = |family| match family {
            Family::V4 => 96..128,
            Family::V6 => 0..128,
        };
        for family in [Family::V4, Family::V6] {
            for flipped in bits_of(family).map(Some).chain([None]) {
                let mut changed = [0u64; 64];
                for sample in 0..SAMPLES {
                    let client = u128::from(hasher.again(sample, 7)) << 64 | u128::from(hasher.again(sample, 8));
                    let client = if family == Family::V4 { client >> 96 << 96 } else { client };
                    let flow = subject(family, client, 1024);
                    let other = match flipped {
                        Some(bit) => subject(family, client ^ 1 << bit, 1024),
                        None => subject(family, client, 1025),
                    };
                    let difference = hasher.flow(&flow) ^ hasher.flow(&other);
                    (0..64).for_each(|bit| changed[bit] += difference >> bit & 1);
                }
                for (bit, count) in changed.into_iter().enumerate() {
                    let share = count as f64 / SAMPLES as f64;
                    assert!((share - 0.5).abs() < 0.06, "{family:?} {flipped:?} changes bit {bit} by {share}");
                }
            }
        }
    }
}
