//! Relay at both ends, byte for byte.

mod joined;
mod pair;
