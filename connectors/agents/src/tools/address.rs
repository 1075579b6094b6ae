//! Which addresses tools may reach: without leave, none that belong to this machine or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;

use crate::native::PrivateHost;

/// A name or address that leads to this machine or its network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` leads to {address}, which is no public address; {}", self.advice())]
pub(super) struct PrivateAddress {
    host: String,
    address: IpAddr,
    asked: bool,
}

impl PrivateAddress {
    fn advice(&self) -> &'static str {
        match self.asked {
            false => "name it under the tool's `allow_private` if it is meant",
            true => "the operator grants it under `[host] private` in omium.toml",
        }
    }
}

/// Which private addresses a tool asks for.
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

    /// Whether the tool asks for the URL's host.
    pub(super) fn asks(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        match self {
            Private::None => false,
            Private::All => true,
            Private::These(hosts) => {
                let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
                hosts.iter().any(|asked| *asked == host || *asked == with_port)
            }
        }
    }

    /// A client for what the URL leads to: one that connects to public addresses, and to private ones where the tool asks
    /// for them and they are granted. It follows no redirects: each place that it is sent to has to be asked about first.
    pub(super) fn client(
        &self,
        url: &Url,
        granted: &[PrivateHost],
    ) -> Result<reqwest::Client, PrivateAddress> {
        static PUBLIC: LazyLock<reqwest::Client> = LazyLock::new(|| build(Some(Allowed::default())));
        static ALL: LazyLock<reqwest::Client> = LazyLock::new(|| build(None));
        let asked = self.asks(url);
        if asked && granted.iter().any(|host| host.names(url)) {
            return Ok(ALL.clone());
        }
        let granted = if asked { granted } else { &[] };
        // Addresses that are written out never reach a resolver, so they are looked at here.
        match address_of(url) {
            Some(address) if reachable(address, url, granted) => Ok(ALL.clone()),
            Some(address) => {
                Err(PrivateAddress { host: url.host_str().unwrap_or_default().to_owned(), address, asked })
            }
            None if !asked => Ok(PUBLIC.clone()),
            None => {
                let networks = granted.iter().filter(|host| host.is_network_for(url)).cloned().collect();
                Ok(build(Some(Allowed { networks, asked })))
            }
        }
    }
}

/// The address that is the URL's host, where it is none by name.
pub(crate) fn address_of(url: &Url) -> Option<IpAddr> {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an address may be connected to: it is public, or in a network that is granted with the URL's port.
pub(crate) fn reachable(address: IpAddr, url: &Url, granted: &[PrivateHost]) -> bool {
    public(address) || granted.iter().any(|host| host.is_network_for(url) && holds(host, address))
}

/// An IPv6 address that stands for an IPv4 address leads there.
fn holds(network: &PrivateHost, address: IpAddr) -> bool {
    let inner = match address {
        IpAddr::V6(address) if !address.is_loopback() => embedded(address).map(IpAddr::V4),
        _ => None,
    };
    network.holds(inner.unwrap_or(address))
}

/// With which addresses connections are made; with all where nothing is said.
fn build(allowed: Option<Allowed>) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        // A pooled connection would outlive the look at its address.
        .pool_max_idle_per_host(0)
        // A proxy would look up the name itself, where nobody checks what it finds.
        .no_proxy();
    let builder = match allowed {
        None => builder,
        Some(allowed) => builder.dns_resolver(Arc::new(allowed)),
    };
    builder.build().expect("the options are constant and the TLS provider is compiled in")
}

/// Public addresses, and those of networks that are granted. The addresses that are checked are those that are connected
/// to: a name that changes its mind in between gains nothing.
#[derive(Clone, Debug, Default)]
struct Allowed {
    networks: Vec<PrivateHost>,
    asked: bool,
}

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        let Allowed { networks, asked } = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed =
                |address: IpAddr| public(address) || networks.iter().any(|known| holds(known, address));
            // One private address among public ones is how names are made to change their mind.
            if let Some(private) = found.iter().find(|address| !allowed(address.ip())) {
                return Err(PrivateAddress { host, address: private.ip(), asked }.into());
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

    use super::{Private, PrivateHost, public};

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
            let (url, own) = (url.parse().unwrap(), PrivateHost::loopback());
            assert!(Private::None.client(&url, &own).is_err(), "{url}");
            assert!(Private::All.client(&url, &[]).is_err(), "asking is not enough: {url}");
            assert!(Private::All.client(&url, &own).is_ok(), "{url}");
        }
        assert!(Private::None.client(&"https://1.1.1.1/".parse().unwrap(), &[]).is_ok());
    }

    #[test]
    fn what_is_granted_counts_with_its_port_and_whatever_an_address_is_wrapped_in() {
        let granted = |url: &str, grant: &str| {
            Private::All.client(&url.parse().unwrap(), &[grant.parse().unwrap()]).is_ok()
        };
        assert!(granted("http://127.0.0.1:8080/", "127.0.0.1:8080"));
        assert!(granted("http://[::ffff:10.0.0.1]/", "10.0.0.0/8") && granted("http://[::1]/", "::1"));
        assert!(!granted("http://127.0.0.1:8081/", "127.0.0.1:8080"));
        assert!(!granted("http://127.0.0.2:8080/", "127.0.0.1:8080"));
        assert!(!granted("http://169.254.169.254/", "10.0.0.0/8"));
        assert!(!granted("http://[::1]/", "127.0.0.0/8") && !granted("http://0.0.0.0/", "127.0.0.0/8"));
        assert!(!granted("http://10.0.0.1/", "rates.internal"));
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
            let granted = ["10.0.0.0/8".parse().unwrap()];
            assert_eq!(named.client(&url.parse().unwrap(), &granted).is_ok(), allowed, "{url}");
        }
        assert!(Private::read(Some(&json!("yes"))).is_err());
    }
}
