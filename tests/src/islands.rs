//! A centre and its sites, each in a network namespace of its own, where only the centre can dial.
//!
//! ```text
//!  site 0 ══ veth ══ centre ══ veth ══ site 1        no route from site to site
//! ```
//!
//! No firewall is needed: a site has a route to the centre only for what leaves its listening port ([`PORT`]), so it can
//! answer there, and whatever it dials itself, from any other port, is unreachable. IPv6 is off, lest the links'
//! own addresses be a way round.
//!
//! A namespace lives as long as the process that holds it, a guard's.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::address::PORT;
use crate::process::Process;
use crate::{binary, until};

/// A network of its own.
#[derive(Debug)]
pub struct Island {
    holder: Process,
}

/// The centre, and sites that it can dial.
#[derive(Debug)]
pub struct Islands {
    /// Whence sites are dialled.
    pub centre: Island,
    /// In their order.
    pub sites: Vec<Island>,
}

impl Island {
    fn new() -> Island {
        let mut command = Command::new(binary::system("unshare", "util-linux"));
        let mut holder = Process::start("namespace", command.args(["--net", "sleep", "infinity"]));
        let ours = std::fs::read_link("/proc/self/ns/net").expect("Linux tells it");
        let theirs = format!("/proc/{}/ns/net", holder.id());
        until::holds("the namespace is there", || {
            assert!(!holder.has_ended(), "no network namespace: {}", holder.log());
            std::fs::read_link(&theirs).is_ok_and(|namespace| namespace != ours)
        });
        let island = Island { holder };
        island.ip(&["link", "set", "lo", "up"]);
        island.enter(|| {
            // What this thread sees there is its namespace's.
            for scope in ["all", "default"] {
                let off = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
                if std::fs::exists(&off).unwrap_or_default() {
                    std::fs::write(&off, "1").expect("the namespace is ours");
                }
            }
        });
        island
    }

    /// Does something there: what it starts, threads and processes, stays there.
    ///
    /// # Panics
    /// When it does, or the system does not let a thread in.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        let within = || {
            let namespace = File::open(&path).expect("the holder runs");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace is ours");
            act()
        };
        let done = std::thread::scope(|scope| scope.spawn(within).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ip(&self, arguments: &[&str]) {
        let output = self.enter(|| {
            let mut command = Command::new(binary::system("ip", "iproute2"));
            command.args(arguments).output().expect("ip starts")
        });
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Islands {
    /// So many sites.
    pub fn new(sites: u8) -> Islands {
        let islands = Islands { centre: Island::new(), sites: (0..sites).map(|_| Island::new()).collect() };
        for (number, site) in (0..).zip(&islands.sites) {
            let link = format!("site{number}");
            let [centre, there] =
                [Islands::centre(number).to_string(), Islands::site(number).ip().to_string()];
            let holder = site.holder.id().to_string();
            let peer = ["type", "veth", "peer", "name", "centre", "netns", &holder];
            islands.centre.ip(&[&["link", "add", link.as_str()][..], &peer].concat());
            for (island, link, own) in [(&islands.centre, link.as_str(), &centre), (site, "centre", &there)] {
                island.ip(&["addr", "add", &format!("{own}/32"), "dev", link]);
                island.ip(&["link", "set", link, "up"]);
            }
            islands.centre.ip(&["route", "add", &there, "dev", &link]);
            site.ip(&["route", "add", &centre, "dev", "centre", "table", "100"]);
            site.ip(&["rule", "add", "ipproto", "tcp", "sport", &PORT.to_string(), "lookup", "100"]);
        }
        islands
    }

    /// Where a site listens for the centre.
    pub fn site(number: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 77, number, 2), PORT))
    }

    /// The centre's end of the link to a site.
    pub fn centre(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, number, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::small_disk::inside_namespace;

    #[test]
    fn only_the_centre_can_dial() {
        if !inside_namespace("islands::tests::only_the_centre_can_dial") {
            return;
        }
        let islands = Islands::new(2);
        for (number, site) in (0..).zip(&islands.sites) {
            let [centre, there] = [SocketAddr::from((Islands::centre(number), PORT)), Islands::site(number)];
            let listeners = [(&islands.centre, centre), (site, there)].map(|(island, own)| {
                island.enter(|| TcpListener::bind(own)).expect("the address is its own")
            });
            islands.centre.enter(|| TcpStream::connect(centre)).expect("the centre listens");
            islands.centre.enter(|| TcpStream::connect(there)).expect("the site answers");
            for elsewhere in [centre, Islands::site(1 - number)] {
                let tried = site.enter(|| TcpStream::connect(elsewhere)).expect_err("there is no way");
                assert_eq!(tried.kind(), ErrorKind::NetworkUnreachable, "from site {number} to {elsewhere}");
            }
            drop(listeners);
        }
    }
}
