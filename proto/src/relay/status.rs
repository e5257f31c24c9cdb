//! What a node tells about itself: numbers under keys, so that either end may be the newer one.

use alloc::vec::Vec;

/// Makes the struct, the table of its keys, and the two loops over them.
macro_rules! status {
    ($($(#[$doc:meta])* $field:ident = $key:literal,)*) => {
        /// A node's numbers; what it does not tell is `None`.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Status {
            $($(#[$doc])* pub $field: Option<u64>,)*
        }

        impl Status {
            /// Every key on the wire, and the field it stands for.
            pub const KEYS: &[(u8, &str)] = &[$(($key, stringify!($field)),)*];

            pub(crate) fn write(&self, out: &mut Vec<u8>) {
                $(if let Some(value) = self.$field {
                    out.push($key);
                    out.extend_from_slice(&value.to_be_bytes());
                })*
            }

            fn set(&mut self, key: u8, value: u64) {
                match key {
                    $($key => self.$field = Some(value),)*
                    _ => {}
                }
            }
        }
    };
}

status! {
    /// Packages held.
    packages = 1,
    /// Their bytes.
    bytes = 2,
    /// When the oldest of them arrived, in milliseconds since 1970.
    oldest_arrival = 3,
    /// Packages taken in since the node started.
    intake_packages = 4,
    /// Their bytes.
    intake_bytes = 5,
    /// Packages pulled and deleted since the node started.
    drained_packages = 6,
    /// Their bytes.
    drained_bytes = 7,
    /// Packages taken in per minute, lately.
    intake_rate = 8,
    /// Packages drained per minute, lately.
    drain_rate = 9,
    /// Bytes free on the spool's file system.
    free_bytes = 10,
    /// The most packages that the spool holds.
    max_packages = 11,
    /// The most bytes that the spool holds.
    max_bytes = 12,
    /// Bytes that the spool leaves free.
    reserve_bytes = 13,
    /// Files refused since the node started.
    refused = 14,
    /// Packages dropped for newer ones since the node started.
    dropped = 15,
    /// Packages that lie among the dead letters.
    held_back = 16,
    /// Connections now.
    connections = 17,
    /// The most connections.
    max_connections = 18,
    /// When the node's certificate expires, in seconds since 1970.
    cert_expiry = 19,
    /// When the node started, in milliseconds since 1970.
    started = 20,
    /// The node's clock, in milliseconds since 1970.
    clock = 21,
    /// Which limits are reached, a bit each; their meaning is the node's.
    limits_hit = 22,
    /// A sign of the shared files: it changes when they do. Nodes that do not offer them tell none.
    shared_sign = 23,
}

impl Status {
    /// The bytes of a key and its value.
    const ENTRY: usize = 9;

    /// What is not known is passed over: it is a newer node's.
    pub(crate) fn read(payload: &[u8]) -> Self {
        let mut status = Status::default();
        for entry in payload.chunks_exact(Self::ENTRY) {
            if let Some((key, value)) = entry.split_first() {
                status.set(*key, u64::from_be_bytes(value.try_into().expect("entries are 9 bytes")));
            }
        }
        status
    }
}
