//! Ingest: 10 KB files, one connection a file, 64 senders, every file durable before its `SEND OK`.

use std::net::SocketAddr;

use tidegate_tests::client::Client;
use tidegate_tests::stock::{INSTALLED_FILTERS, Stock};

use crate::durable;
use crate::load::{self, Named, Outcome};
use crate::site::{agent, cpu_seconds, node};
use crate::{Scale, median, row};

const SIZE: usize = 10_000;
const SENDERS: usize = 64;
/// Processes of a client at once.
const CLIENTS: usize = 8;
/// A process a file takes a hundred times as long.
const CLIENT_SHARE: usize = 20;
/// The stock server serves 10 at once and resets the rest.
const STOCK_SENDERS: usize = 8;
/// The stock server takes some 80 files a second: a full load would measure patience.
const STOCK_SHARE: usize = 20;

pub(crate) fn run(scale: Scale) {
    println!(
        "\n| ingest, {SIZE} bytes, {SENDERS} senders, one connection a file | who | files/s | CPU s per 1,000 | p99 ms |"
    );
    println!("|---|---|---|---|---|");
    let all = load::agent_files(scale.files / 2, SIZE);
    for (work, tls) in [("plain", false), ("mutual TLS", true)] {
        for company in [false, true] {
            let who = if company { "buffer node, with a neighbour" } else { "buffer node" };
            report(work, who, all.len(), scale.runs, || {
                let (authority, mut node) = node();
                let _neighbour = company.then(|| durable::neighbour(&node.storage()));
                let config = tls.then(|| agent(&authority));
                let pid = node.process().id();
                let before = cpu_seconds(pid);
                let outcome = load::send(node.address(), config.as_ref(), &all, SENDERS);
                assert_eq!(node.packages().len(), all.len(), "every acknowledged file is a package");
                (outcome, cpu_seconds(pid) - before)
            });
        }
    }
    for (client, who) in [
        (Client::Real, "buffer node, from tentacle_client"),
        (Client::Ours, "buffer node, from tidegate-send"),
    ] {
        let files = &all[..all.len() / CLIENT_SHARE];
        report("plain, one process a file, 8 at once", who, files.len(), scale.runs, || {
            let (_authority, mut node) = node();
            let pid = node.process().id();
            let before = cpu_seconds(pid);
            let outcome = send_by(&client, node.address(), files);
            (outcome, cpu_seconds(pid) - before)
        });
    }
    if Stock::is_real() {
        let files = &all[..all.len() / STOCK_SHARE];
        report("plain", "stock server, 8 senders", files.len(), scale.runs, || {
            let stock = Stock::start(&["-i", INSTALLED_FILTERS, "-c", "10"]);
            let before = cpu_seconds(stock.process_id());
            let outcome = load::send(stock.address(), None, files, STOCK_SENDERS);
            (outcome, cpu_seconds(stock.process_id()) - before)
        });
    }
}

/// As agents do it: a process for each file.
fn send_by(client: &Client, address: SocketAddr, files: &[Named]) -> Outcome {
    let directory = tempfile::tempdir().expect("a temporary directory");
    load::drive(files, CLIENTS, |name, bytes| {
        std::fs::write(directory.path().join(name), bytes).expect("the directory is ours");
        client.run(directory.path(), None, address, &[name]).succeeds();
    })
}

fn report(work: &str, who: &str, files: usize, runs: usize, mut run: impl FnMut() -> (Outcome, f64)) {
    let results: Vec<_> = (0..runs).map(|_| run()).collect();
    let rate =
        median(results.iter().map(|(outcome, _)| files as f64 / outcome.elapsed.as_secs_f64()).collect());
    let cpu = median(results.iter().map(|(_, cpu)| cpu * 1000.0 / files as f64).collect());
    let p99 = median(
        results
            .iter()
            .map(|(outcome, _)| load::quantile(&outcome.waits, 0.99).as_secs_f64() * 1000.0)
            .collect(),
    );
    row(work, who, format_args!("{rate:.0} | {cpu:.2} | {p99:.0}"));
}
