//! Every limit of the protocol, and what happens beyond it.

use crate::{BodyRate, Time};

/// The longest name a sender may give, in bytes. Beyond it: `… ERR (invalid file name)`. With the prefix that the
/// spool adds it still fits the 255 bytes of a file name.
pub const NAME_MAX: usize = 200;

/// The longest name in a listing, in bytes: a sender's name and the 10 digits that keep two files of that name apart.
/// Beyond it: `RECV ERR (file has an invalid file name)`, `MV ERR`.
pub const LISTED_NAME_MAX: usize = NAME_MAX + 10;

/// The longest line, its `\n` included: the block size of the reference, and the default of
/// [`ResponderSettings::line`](crate::ResponderSettings::line). Beyond it the connection closes.
pub const LINE_MAX: usize = 1024;

/// The default of [`ResponderSettings::max_size`](crate::ResponderSettings::max_size), that of the reference. Beyond
/// it: `… ERR (file is too big)`.
pub const MAX_SIZE: u64 = 2_000_000;

/// The default of [`ResponderSettings::idle`](crate::ResponderSettings::idle). A line that is not complete by then
/// closes the connection.
pub const IDLE: Time = Time::from_secs(30);

/// The default of [`ResponderSettings::body_rate`](crate::ResponderSettings::body_rate), and what an initiator always
/// asks of a peer that sends it a body. A slower one is disconnected.
pub const BODY_RATE: BodyRate = BodyRate { bytes_per_second: 100, window: Time::from_secs(30) };

/// The most bytes of a peer that a message quotes. Beyond it the rest is counted.
pub const QUOTE_MAX: usize = 200;
