//! Which addresses tools may reach: without leave, none that belong to this machine or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;

/// A name or address that leads to this machine or its network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{host}` leads to {address}, which is no public address; name it under the tool's `allow_private` if it is meant"
)]
pub(super) struct PrivateAddress {
    host: String,
    address: IpAddr,
}

/// Which private addresses a tool may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Private {
    None,
    All,
    /// Hosts, with their port or without.
    These(Vec<String>),
}

impl Private {
    /// `allow_private: true`, or the hosts that are meant: `allow_private: [rates.internal, "10.0.0.7:8080"]`.
    pub(super) fn read(written: Option<&Value>) -> Result<Private, String> {
        match written {
            None | Some(Value::Bool(false)) => Ok(Private::None),
            Some(Value::Bool(true)) => Ok(Private::All),
            Some(list) => serde_json::from_value(list.clone())
                .map(Private::These)
                .map_err(|_| "`allow_private` is `true`, `false` or a list of hosts".to_owned()),
        }
    }

    fn allows(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        match self {
            Private::None => false,
            Private::All => true,
            Private::These(hosts) => {
                let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
                hosts.iter().any(|allowed| *allowed == host || *allowed == with_port)
            }
        }
    }

    /// A client for what the URL leads to: one that connects to public addresses alone, or to all where that is
    /// allowed. It follows no redirects: each place that it is sent to has to be asked about here first.
    pub(super) fn client(&self, url: &Url) -> Result<reqwest::Client, PrivateAddress> {
        static PUBLIC: LazyLock<reqwest::Client> = LazyLock::new(|| build(false));
        static ALL: LazyLock<reqwest::Client> = LazyLock::new(|| build(true));
        if self.allows(url) {
            return Ok(ALL.clone());
        }
        // Addresses that are written out never reach a resolver, so they are looked at here.
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) if !public(address) => Err(PrivateAddress { host: host.to_owned(), address }),
            _ => Ok(PUBLIC.clone()),
        }
    }
}

fn build(allow_private: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        // A pooled connection would outlive the look at its address.
        .pool_max_idle_per_host(0)
        // A proxy would look up the name itself, where nobody checks what it finds.
        .no_proxy();
    let builder = if allow_private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
    builder.build().expect("the options are constant and the TLS provider is compiled in")
}

/// The addresses that are checked are those that are connected to: a name that changes its mind in between gains nothing.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            // One private address among public ones is how names are made to change their mind.
            if let Some(private) = found.iter().find(|address| !public(address.ip())) {
                return Err(PrivateAddress { host, address: private.ip() }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => public_v4(inner),
            None => public_v6(address),
        },
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 and 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let pair = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(pair(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

fn public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // Global unicast is all that is handed out; documentation and Teredo lie in it and are nobody's.
    (first & 0xe000) == 0x2000 && !matches!(address.segments(), [0x2001, 0 | 0xdb8, ..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Private, public};

    #[test]
    fn what_belongs_to_this_machine_or_its_network_is_not_public() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!public(private.parse().unwrap()), "{private}");
        }
        for fine in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(public(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn an_address_is_seen_through_however_it_is_written() {
        for url in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]:80/",
            "http://017700000001/",
            "http://127.1",
        ] {
            assert!(Private::None.client(&url.parse().unwrap()).is_err(), "{url}");
            assert!(Private::All.client(&url.parse().unwrap()).is_ok(), "{url}");
        }
        assert!(Private::None.client(&"https://1.1.1.1/".parse().unwrap()).is_ok());
    }

    #[test]
    fn hosts_that_are_named_are_allowed_and_their_neighbours_are_not() {
        let named = Private::read(Some(&json!(["10.0.0.7:8080", "10.0.0.8"]))).unwrap();
        for (url, allowed) in [
            ("http://10.0.0.7:8080/x", true),
            ("http://10.0.0.7/", false),
            ("http://10.0.0.8:99/", true),
            ("http://10.0.0.9/", false),
        ] {
            assert_eq!(named.client(&url.parse().unwrap()).is_ok(), allowed, "{url}");
        }
        assert!(Private::read(Some(&json!("yes"))).is_err());
    }
}
