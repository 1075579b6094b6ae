//! Whom a request believes to speak with. A web page whose name was turned to 127.0.0.1 says its own name here.

use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header};

use crate::refusal::Refusal;

/// Refuses a request that was not meant for this listener.
pub(crate) fn check<B>(request: &Request<B>, names: &[String]) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let said = match (first, second, authority) {
        (_, Some(_), _) => return Err(bad("the request has two `Host` headers")),
        (None, None, Some(authority)) if request.version() >= Version::HTTP_2 => authority,
        (None, None, _) => return Err(bad("the request has no `Host` header")),
        (Some(host), None, _) => host.to_str().map_err(|_| bad("the `Host` header is no text"))?,
    };
    for host in std::iter::once(said).chain(authority) {
        if !is_ours(host, names) {
            return Err(foreign(format!("this node is not {}", shown(host))));
        }
    }
    if opens_socket(request.method(), request.headers()) {
        for origin in request.headers().get_all(header::ORIGIN) {
            let known = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            let host = known.as_ref().and_then(|uri| uri.authority()).map(|authority| authority.as_str());
            if !host.is_some_and(|host| is_ours(host, names)) {
                return Err(foreign("a page of another site may not open a WebSocket here".to_owned()));
            }
        }
    }
    Ok(())
}

/// Whether a URL leads to this machine. A proxy cannot reach that, and would be shown keys and prompts on the way.
pub fn is_loopback(url: &str) -> bool {
    let Some(host) = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)) else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn opens_socket(method: &Method, headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    *method == Method::CONNECT
        || upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn is_ours(authority: &str, names: &[String]) -> bool {
    let Some(host) = host_of(authority) else { return false };
    let loopback = ["127.0.0.1", "localhost", "[::1]"];
    loopback.iter().any(|name| host.eq_ignore_ascii_case(name))
        || names.iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// The name without its port; nothing where it is none.
fn host_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    good.then_some(host)
}

/// What somebody else wrote, short and on one line.
fn shown(host: &str) -> String {
    format!("`{}`", host.chars().filter(|letter| !letter.is_control()).take(80).collect::<String>())
}

fn bad(detail: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad-host", detail, "send one `Host` header with the node's name")
}

fn foreign(detail: String) -> Refusal {
    let hint = "ask it as 127.0.0.1 or localhost, or start it with --host-name NAME";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "foreign-host", detail, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(hosts: &[&str], expected: Result<(), u16>) {
        let request = hosts
            .iter()
            .fold(Request::builder().uri("/metrics"), |request, host| request.header("host", *host));
        let request = request.body(()).unwrap();
        let found = check(&request, &["omium.example".to_owned()]).map_err(|refusal| refusal.status.as_u16());
        assert_eq!(found, expected, "{hosts:?}");
    }

    #[test]
    fn only_names_of_loopback_and_those_that_were_configured_are_ours() {
        for ours in [
            "127.0.0.1",
            "127.0.0.1:7460",
            "localhost:1",
            "LocalHost",
            "[::1]",
            "[::1]:80",
            "omium.example:443",
        ] {
            check_host(&[ours], Ok(()));
        }
        let foreign = [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "user@127.0.0.1",
            "",
            "[::1",
            "0.0.0.0",
            "127.1",
            "[::ffff:127.0.0.1]",
        ];
        for host in foreign {
            check_host(&[host], Err(421));
        }
        check_host(&[], Err(400));
        check_host(&["127.0.0.1", "127.0.0.1"], Err(400));
    }

    #[test]
    fn loopback_is_known_by_its_names_and_addresses() {
        for here in [
            "http://127.0.0.1:8/v1",
            "http://127.9.9.9",
            "http://LOCALHOST/v1",
            "http://[::1]:3",
            "https://a.localhost",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for there in
            ["http://127.0.0.1.example", "https://api.openai.com/v1", "http://10.0.0.1", "", "localhost/"]
        {
            assert!(!is_loopback(there), "{there}");
        }
    }

    #[test]
    fn pages_of_other_sites_open_no_socket() {
        let ask = |origin: &str| {
            let request = Request::builder().header("host", "localhost").header("upgrade", "WebSocket");
            check(&request.header("origin", origin).body(()).unwrap(), &[]).is_ok()
        };
        assert!(ask("http://localhost:3000") && ask("http://127.0.0.1:7460"));
        assert!(!ask("https://evil.example") && !ask("null") && !ask("file://"));
    }
}
