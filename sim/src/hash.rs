//! A hash that is the same on every machine: FNV-1a.

/// The hash of the bytes so far. Two different texts hardly ever share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) u64);

impl Hash {
    /// Of nothing.
    pub(crate) const NOTHING: Hash = Hash(0xcbf2_9ce4_8422_2325);

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
