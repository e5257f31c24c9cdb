//! A spool with a backlog, made without a node: more packages than a node would take within a test's patience.

use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Threads that make files.
const MAKERS: usize = 4;

/// Puts `packages` packages of `size` bytes each into the spool below a node's storage root, which must not be in use,
/// and makes them durable. They arrived in a run of the spool before any of its own.
///
/// # Panics
/// When the disk does not take them.
pub fn lay(storage: &Path, packages: usize, size: usize) {
    let ready = storage.join("spool/ready");
    std::fs::create_dir_all(&ready).expect("the directory is ours");
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let ready = &ready;
            scope.spawn(move || {
                for index in (maker..packages).step_by(MAKERS) {
                    let bytes = content(index, size);
                    let digest: [u8; 32] = Sha256::digest(&bytes).into();
                    let digest = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                    let name = format!("{:016x}-{index:010x}-{digest}-{}", 1_u64 << 40, name(index));
                    std::fs::write(ready.join(name), bytes).expect("the disk has room");
                }
            });
        }
    });
    let directory = std::fs::File::open(&ready).expect("the directory is ours");
    rustix::fs::syncfs(directory).expect("the disk works");
}

/// The name of the package that arrived as the `index`th.
pub fn name(index: usize) -> String {
    format!("plant-host-{:03}.{}.data", index % 1_000, 1_780_000_000 + index / 1_000)
}

fn content(index: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("package {index} ").into_bytes();
    bytes.resize(size, b'.');
    bytes
}
