//! The core's only source of randomness: everything drawn follows from the seed it was built with.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::log::Salt;

/// Draws ids and secrets. ChaCha20, so that one drawn token tells nothing about the next.
#[derive(Debug)]
pub(crate) struct Rng(ChaCha20Rng);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Rng {
        Rng(ChaCha20Rng::from_seed(seed))
    }

    /// One for the log alone: what it draws changes nothing that the others draw.
    pub(crate) fn of_log(seed: [u8; 32]) -> Rng {
        let mut rng = ChaCha20Rng::from_seed(seed);
        rng.set_stream(1);
        Rng(rng)
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        let random = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
        Uuid::from_random(random)
    }

    pub(crate) fn salt(&mut self) -> Salt {
        Salt(self.0.next_u64().to_le_bytes())
    }

    pub(crate) fn secret(&mut self) -> Secret {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        Secret(bytes)
    }
}

/// A random (version 4) UUID, see RFC 9562.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(u128);

impl Uuid {
    /// Makes 128 random bits a version 4 UUID.
    pub fn from_random(random: u128) -> Uuid {
        const VERSION: u128 = 0xf << 76;
        const VARIANT: u128 = 0b11 << 62;
        Uuid(random & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62)
    }

    /// The UUID's sixteen bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// A UUID from its sixteen bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Uuid {
        Uuid(u128::from_be_bytes(bytes))
    }

    /// Reads the usual form, 32 hexadecimal digits in groups of 8-4-4-4-12.
    pub fn parse(text: &str) -> Option<Uuid> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if !well_formed {
            return None;
        }
        u128::from_str_radix(&text.replace('-', ""), 16).ok().map(Uuid)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c, d) = (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff, n >> 48 & 0xffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", n & 0xffff_ffff_ffff)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token that proves who somebody is. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The token as it goes over the wire: 64 hexadecimal digits.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `text` is this token; takes the same time wherever the two differ.
    pub fn matches(&self, text: &str) -> bool {
        let own = self.reveal();
        own.len() == text.len() && own.bytes().zip(text.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_version_4_and_reads_back() {
        let uuid = Rng::new([7; 32]).uuid();
        let text = uuid.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert_eq!(Uuid::parse(&text), Some(uuid));
        assert_eq!(Uuid::from_bytes(uuid.to_bytes()), uuid);
        for bad in ["", "x", &text[1..], &text.replace('-', ""), &text.replace('-', "+")] {
            assert_eq!(Uuid::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_matches_itself_only_and_is_never_printed() {
        let mut rng = Rng::new([7; 32]);
        let (one, other) = (rng.secret(), rng.secret());
        assert!(one.matches(&one.reveal()));
        assert!(!one.matches(&other.reveal()));
        assert!(!one.matches(""));
        assert_eq!(format!("{one:?}"), "Secret(…)");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(Rng::new([1; 32]).uuid(), Rng::new([1; 32]).uuid());
        assert_ne!(Rng::new([1; 32]).uuid(), Rng::new([2; 32]).uuid());
    }
}
