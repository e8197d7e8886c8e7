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

    /// The hash of a flow by protocol, addresses and ports. Fragments without ports hash with ports of 0, so that all
    /// of a datagram's go the same way.
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
