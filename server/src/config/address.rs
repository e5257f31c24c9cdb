//! Where a site is: a host name or IP address, with or without a port.

use std::net::{IpAddr, Ipv6Addr};

/// Longest host name, that of the DNS; a longer one is a mistake.
const HOST_MAX: usize = 253;

/// Reads `host`, `host:port`, `1.2.3.4`, `1.2.3.4:port`, `fe80::1`, `[fe80::1]` and `[fe80::1]:port`.
pub(super) fn parse(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = split(text);
    let port = match port {
        None => None,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("holds {text:?}, whose port is not one from 1 to 65535")),
        },
    };
    if host.parse::<Ipv6Addr>().is_ok() || is_host(host) {
        return Ok((host.to_owned(), port));
    }
    Err(format!(
        "holds {text:?}, which is no address; write a host name, an IP address, host:port or [IPv6]:port"
    ))
}

/// One spelling for all spellings of an address.
pub(super) fn canonical(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => ("", None),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    host.len() <= HOST_MAX && host.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_an_operator_writes_is_understood() {
        for (text, host, port) in [
            ("plant-7.example", "plant-7.example", None),
            ("plant-7.example:41122", "plant-7.example", Some(41122)),
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:1", "192.0.2.7", Some(1)),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("[2001:db8::7]:41122", "2001:db8::7", Some(41122)),
        ] {
            assert_eq!(parse(text), Ok((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for text in [
            "",
            "a b",
            "host:",
            "host:0",
            "host:70000",
            "[::1",
            "[::1]7",
            "[::1]:x",
            "tcp://host",
            "a..b",
            "::g",
        ] {
            parse(text).expect_err(text);
        }
    }
}
