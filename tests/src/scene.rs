//! A stock site with data files and others, and what must come of it.

use std::net::SocketAddr;

use crate::central::Central;
use crate::oracle::Oracle;
use crate::stock::{INSTALLED_FILTERS, Stock};
use crate::{address, until};

/// For the sync server: its turns follow each other quickly.
pub const SETTINGS: &str = "sync_interval = \"200ms\"\nsync_timeout = \"5s\"\nsync_backoff_max = \"500ms\"";

/// For the stock server: it may be pulled, files may be overwritten.
pub const OPTIONS: [&str; 4] = ["-I", "-o", "-i", INSTALLED_FILTERS];

/// Files that a puller must leave alone.
const NOT_DATA: [&str; 6] = ["conf/a.conf", "md5/a.md5", "b.zip", "c.conf", ".hidden", "notes.txt"];

/// A data file, different for each index.
pub fn data(index: usize) -> (String, Vec<u8>) {
    let name = format!("web{index:02}.{}.data", 1_700_000_000 + index);
    let bytes = format!(
        "<?xml version='1.0'?>\n<agent_data agent_name='web{index:02}'>{}</agent_data>\n",
        "x".repeat(3000)
    );
    (name, bytes.into_bytes())
}

/// A stock site, and what must come of it.
#[derive(Debug)]
pub struct Scene {
    /// The site.
    pub stock: Stock,
    /// What must arrive.
    pub oracle: Oracle,
    /// What must be gone from the site.
    pub names: Vec<String>,
}

impl Scene {
    /// One without data files.
    pub fn new(options: &[&str]) -> Scene {
        Scene::new_at(address::unused_socket(), options)
    }

    fn new_at(address: SocketAddr, options: &[&str]) -> Scene {
        let stock = Stock::start_at(address, options);
        let scene = Scene { stock, oracle: Oracle::default(), names: Vec::new() };
        std::fs::create_dir(scene.stock.storage().join("directory.1.data")).expect("the storage is ours");
        NOT_DATA.iter().for_each(|name| drop(scene.stock.put(name, b"shared")));
        scene
    }

    /// One with so many data files.
    pub fn with_data(files: usize, options: &[&str]) -> Scene {
        Scene::with_data_at(address::unused_socket(), files, options)
    }

    /// The same on an address that its certificate names.
    pub fn with_data_at(address: SocketAddr, files: usize, options: &[&str]) -> Scene {
        let mut scene = Scene::new_at(address, options);
        scene.add(0..files);
        scene
    }

    /// More data files.
    pub fn add(&mut self, indexes: std::ops::Range<usize>) {
        for index in indexes {
            let (name, bytes) = data(index);
            self.stock.put(&name, &bytes);
            self.oracle.expect(&name, &bytes);
            self.names.push(name);
        }
    }

    /// Waits until everything is in the pipeline and gone from the site, and judges.
    ///
    /// # Panics
    /// When something is lost, doubled or strange, or the server ends.
    pub fn comes_out_right(&self, what: &str, central: &mut Central) {
        until::holds(&format!("{what}: everything arrives"), || {
            assert!(!central.process().has_ended(), "{what}: the server ended: {}", central.process().log());
            self.oracle.is_complete(&central.pipeline.consume())
        });
        until::holds(&format!("{what}: the site is empty"), || {
            self.names.iter().all(|name| !self.stock.storage().join(name).exists())
        });
        central.process().terminate();
        let verdict = self.oracle.judge(&central.pipeline.consume());
        assert!(verdict.is_clean(), "{what}: {verdict}");
        for name in NOT_DATA {
            assert!(self.stock.storage().join(name).is_file(), "{what}: {name} stays");
        }
    }
}
