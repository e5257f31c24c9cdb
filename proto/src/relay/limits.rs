//! Every limit of relay, and what happens beyond it. `PROTOCOL.md` gives the same numbers, with their reasons; a test
//! compares them.

use crate::Time;

/// What both ends call the protocol in ALPN. Another major version gets another name.
pub const ALPN: &[u8] = b"tidegate/1";

/// The version that `HELLO` and `WELCOME` carry. Versions under one ALPN name differ only in what old ends ignore.
pub const VERSION: u16 = 1;

/// The bytes of a frame before its payload: kind and length.
pub const HEADER: usize = 4;

/// The longest payload. Beyond it: `CLOSE(protocol)`.
pub const PAYLOAD_MAX: usize = 65_536;

/// The longest name of an end, and of its software, in `HELLO` and `WELCOME`. Our own are cut; a peer's beyond it:
/// `CLOSE(protocol)`.
pub const LABEL_MAX: usize = 64;

/// The longest text of a `CLOSE`. Our own is cut; a peer's beyond it: `CLOSE(protocol)`.
pub const TEXT_MAX: usize = 200;

/// The longest class in a loss record. Our own is cut; a peer's beyond it: `CLOSE(protocol)`.
pub const CLASS_MAX: usize = 32;

/// What a package costs of the credit beside its body. Beyond the credit: `CLOSE(protocol)`.
pub const RECORD_COST: u64 = 1024;

/// The largest window of the compressed stream, as a power of two: 1 MiB. Beyond it: `CLOSE(protocol)`.
pub const WINDOW_LOG: u32 = 20;

/// Compressed bytes that may come without one byte coming out: two of the largest blocks. Beyond it:
/// `CLOSE(protocol)`.
pub const BARREN_MAX: usize = 262_144;

/// Bytes decompressed at a time, and the longest body event.
pub const INFLATED_STEP: usize = 65_536;

/// Output that waits to be written. Beyond it a puller takes no input; a node has no room (with a rate beyond its burst,
/// where that is less), and takes no input beyond twice as much.
pub const OUTPUT_SOFT: usize = 262_144;

/// The most bytes that a node's `write` takes at once.
pub const WRITE_MAX: usize = 65_536;

/// Packages sent and not acknowledged. Beyond it the node sends no further one.
pub const IN_FLIGHT_MAX: usize = 65_536;

/// Loss records sent and not acknowledged. The node sends no more; a puller that gets more: `CLOSE(protocol)`.
pub const LOSSES_IN_FLIGHT_MAX: usize = 4096;

/// The bounds of the keep-alive time: what is outside is taken for the nearest.
pub const KEEP_ALIVE_MIN: Time = Time::from_secs(1);
/// See [`KEEP_ALIVE_MIN`].
pub const KEEP_ALIVE_MAX: Time = Time::from_secs(300);

/// An end that has said nothing for this part of the keep-alive time says `PING`.
pub const PING_PART: u32 = 3;

/// A node that has nothing to send, or no credit to send it, for this long ends the compressed frame and frees its
/// context.
pub const REST: Time = Time::from_millis(200);

/// A zstd frame of no more than this, before compression, that did not begin within [`REST`] of another is lone: it ends
/// as soon as there is nothing more to send.
pub const LONE_MAX: usize = 65_536;

/// A node whose owner has given nothing for this long flushes what the compressor still holds.
pub const FLUSH_AFTER: Time = Time::from_millis(20);

/// How much a rate allows at once: what it gives in this time …
pub const BURST: Time = Time::from_millis(250);
/// … but at least this much.
pub const BURST_MIN: u64 = 65_536;

/// The buckets over which a node spreads its shared files. A number beyond them: `CLOSE(protocol)`.
pub const SHARED_BUCKETS: usize = 1024;

/// The most bytes of a shared file in one frame; of one that is fetched, each part but the last has so many. Beyond it:
/// `CLOSE(protocol)`.
pub const SHARED_PART: usize = 16_384;

/// A shared file of at most this is always placed from its beginning, so its parts need not wait for the answer to `PLACE`.
/// A node that wants the rest of such a one: `CLOSE(protocol)`.
pub const SHARED_AT_ONCE: u64 = 49_152;

/// Shared files that a puller lets itself be told of on a connection. Beyond it: `CLOSE(protocol)`.
pub const SHARED_ITEMS_MAX: usize = 200_000;

/// How much a rate allows at once at least on a connection for shared files, in place of [`BURST_MIN`]: a package on the
/// connection beside it waits for so much.
pub const SHARED_BURST_MIN: u64 = 16_384;

/// Bytes of requests that are unanswered, or of their answers where those may be longer. Beyond it the puller asks nothing
/// further, but one request alone may be larger; the node reads nothing while one is unanswered.
pub const SHARED_IN_FLIGHT: usize = 65_536;
