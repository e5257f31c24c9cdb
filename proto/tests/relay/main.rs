//! Relay at both ends: alone, against peers that lie, and joined in memory.

mod document;
mod hostile_node;
mod hostile_puller;
mod joined;
mod pair;
mod properties;
mod script;
mod shared;
mod time;
mod transcripts;
mod wire;
