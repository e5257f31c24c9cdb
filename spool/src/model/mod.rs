//! A model of the spool, and a disk that forgets: whatever happens, what was promised holds.

mod drops;
mod full_disk;
mod letters;
pub(crate) mod memory;
mod promises;
mod steps;
mod stories;
