//! Ingest: 10 KB files, one connection a file, 64 senders, every file durable before its `SEND OK`.

use tidegate_tests::stock::{INSTALLED_FILTERS, Stock};

use crate::load::{self, Outcome};
use crate::site::{agent, cpu_seconds, node};
use crate::{Scale, median, row};

const SIZE: usize = 10_000;
const SENDERS: usize = 64;
/// The stock server serves 10 at once and resets the rest.
const STOCK_SENDERS: usize = 8;
/// The stock server takes some 80 files a second: a full load would measure patience.
const STOCK_SHARE: usize = 20;

pub(crate) fn run(scale: Scale) {
    println!(
        "\n| ingest, {SIZE} bytes, {SENDERS} senders, one connection a file | who | files/s | CPU s per 1,000 | p99 ms |"
    );
    println!("|---|---|---|---|---|");
    let files = scale.files / 2;
    for (work, tls) in [("plain", false), ("mutual TLS", true)] {
        report(work, "buffer node", files, scale.runs, || {
            let (authority, mut node) = node();
            let config = tls.then(|| agent(&authority));
            let pid = node.process().id();
            let before = cpu_seconds(pid);
            let outcome = load::send(node.address(), config.as_ref(), files, SIZE, SENDERS);
            assert_eq!(node.packages().len(), files, "every acknowledged file is a package");
            (outcome, cpu_seconds(pid) - before)
        });
    }
    if Stock::is_real() {
        let files = files / STOCK_SHARE;
        report("plain", "stock server, 8 senders", files, scale.runs, || {
            let stock = Stock::start(&["-i", INSTALLED_FILTERS, "-c", "10"]);
            let before = cpu_seconds(stock.process_id());
            let outcome = load::send(stock.address(), None, files, SIZE, STOCK_SENDERS);
            (outcome, cpu_seconds(stock.process_id()) - before)
        });
    }
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
