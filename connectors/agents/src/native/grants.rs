//! What the operator grants to tools on this machine. A definition asks, and gets nothing that does not stand here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use omium_limits::told;
use reqwest::Url;

/// What tools of one tenant may do on this machine and in its network; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// The programs that may be started (MCP servers over stdio).
    pub programs: Programs,
    /// The private addresses that may be reached, where a tool asks for them by `allow_private`.
    pub private: Vec<PrivateHost>,
    /// The secrets that a definition may name.
    pub secrets: Secrets,
}

/// Programs that may be started.
#[derive(Clone, Debug)]
pub enum Programs {
    /// Whatever a definition names, as suits a machine with one developer.
    Any,
    /// These alone.
    These(Vec<Program>),
}

impl Default for Programs {
    fn default() -> Programs {
        Programs::These(Vec::new())
    }
}

/// A program with the arguments that it has to begin with, and the variables that a definition may set for it. Variables
/// are named one by one: there are too many by which a loader or an interpreter runs other code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    command: Vec<String>,
    env: Vec<String>,
}

impl Program {
    /// A bare name, which PATH leads to, or an absolute path.
    pub fn new(command: Vec<String>, env: Vec<String>) -> Result<Program, String> {
        let first = command.first().map_or("", String::as_str);
        let place = !first.contains('/') || first.starts_with('/');
        if first.is_empty() || !place {
            return Err(format!("`{}` is neither a program's name nor an absolute path", told(first)));
        }
        if let Some(name) = env.iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!("`{}` is no variable's name", told(name)));
        }
        Ok(Program { command, env })
    }

    fn grants(&self, command: &[String], env: &[&str]) -> bool {
        command.starts_with(&self.command) && env.iter().all(|name| self.env.iter().any(|own| own == name))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command.join(" "))?;
        if self.env.is_empty() { Ok(()) } else { write!(f, " (with {})", self.env.join(", ")) }
    }
}

/// A private host or network, with one port of it or all: `rates.internal`, `10.0.0.0/8`, `127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateHost {
    place: Place,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Whatever address it leads to.
    Name(String),
    Network {
        address: IpAddr,
        bits: u8,
    },
}

impl PrivateHost {
    /// This machine's own addresses.
    pub fn loopback() -> Vec<PrivateHost> {
        let network =
            |address: IpAddr, bits| PrivateHost { place: Place::Network { address, bits }, port: None };
        vec![network(Ipv4Addr::new(127, 0, 0, 0).into(), 8), network(Ipv6Addr::LOCALHOST.into(), 128)]
    }

    fn has_port_of(&self, url: &Url) -> bool {
        self.port.is_none() || self.port == url.port_or_known_default()
    }

    /// Whether it names the URL's host.
    pub(crate) fn names(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        matches!(&self.place, Place::Name(name) if name == host) && self.has_port_of(url)
    }

    /// Whether it is a network in which the URL's host may be.
    pub(crate) fn is_network_for(&self, url: &Url) -> bool {
        matches!(self.place, Place::Network { .. }) && self.has_port_of(url)
    }

    /// Whether it is a network that holds the address.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let Place::Network { address: network, bits } = &self.place else { return false };
        match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(*network) ^ u32::from(address);
                differ.checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(*network) ^ u128::from(address);
                differ.checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for PrivateHost {
    type Err = String;

    fn from_str(text: &str) -> Result<PrivateHost, String> {
        let wrong = || {
            format!(
                "`{}` is no host or network; write rates.internal, 10.0.0.0/8 or 127.0.0.1:8080",
                told(text)
            )
        };
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?;
            return Ok(PrivateHost { place: Place::Network { address, bits }, port: None });
        }
        let whole = |address: IpAddr| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            Place::Network { address, bits }
        };
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(PrivateHost { place: whole(address), port: None });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(PrivateHost { place: whole(address.ip()), port: Some(address.port()) });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        // A name is one that stands in a URL as it is written here; `0x7f.1` would be an address there.
        let name = name.to_ascii_lowercase();
        let url = Url::parse(&format!("http://{name}/")).map_err(|_| wrong())?;
        if url.host_str() != Some(&name) || name.is_empty() || name.contains('*') || url.domain().is_none() {
            return Err(wrong());
        }
        Ok(PrivateHost { place: Place::Name(name), port })
    }
}

impl fmt::Display for PrivateHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Name(name) => f.write_str(name)?,
            Place::Network { address, bits } => {
                let one = *bits == if address.is_ipv4() { 32 } else { 128 };
                match (one, self.port) {
                    (true, Some(_)) if address.is_ipv6() => write!(f, "[{address}]")?,
                    (true, _) => write!(f, "{address}")?,
                    (false, _) => write!(f, "{address}/{bits}")?,
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Secrets by name. The program that wires the parts says which there are.
#[derive(Clone)]
pub struct Secrets(Arc<Look>);

type Look = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Secrets {
    /// Looked up when they are needed.
    pub fn new(look: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Secrets {
        Secrets(Arc::new(look))
    }

    /// There are none.
    pub fn none() -> Secrets {
        Secrets::new(|_| None)
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl Default for Secrets {
    fn default() -> Secrets {
        Secrets::none()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// What a tool needs of the machine.
#[derive(Debug)]
pub(crate) enum Ask<'a> {
    Program { command: &'a [String], env: Vec<&'a str> },
    Private(Url),
    Secret(&'a str),
}

/// Something that a tool asks for and the operator does not grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct NotGranted {
    /// The tool.
    pub tool: String,
    /// What it asks for.
    pub what: String,
    /// Who grants it, and where.
    pub hint: String,
}

impl Grants {
    /// Whether programs may be started so.
    pub(crate) fn starts(&self, command: &[String], env: &[&str]) -> bool {
        match &self.programs {
            Programs::Any => true,
            Programs::These(programs) => programs.iter().any(|program| program.grants(command, env)),
        }
    }

    fn reaches(&self, url: &Url) -> bool {
        match super::address_of(url) {
            Some(address) => super::reachable(address, url, &self.private),
            // Which address a name leads to is looked at when it is connected to.
            None => self.private.iter().any(|host| host.names(url) || host.is_network_for(url)),
        }
    }

    /// Says what is missing where it is not granted.
    pub(crate) fn refusal(&self, tool: &str, ask: &Ask<'_>) -> Option<NotGranted> {
        let (what, hint) = match ask {
            Ask::Program { command, env } if !self.starts(command, env) => {
                program_refused(tool, command, env)
            }
            Ask::Private(url) if !self.reaches(url) => private_refused(tool, url),
            Ask::Secret(name) if self.secrets.get(name).is_none() => secret_refused(tool, name),
            _ => return None,
        };
        Some(NotGranted { tool: tool.to_owned(), what, hint })
    }
}

fn program_refused(tool: &str, command: &[String], env: &[&str]) -> (String, String) {
    let (words, names) = (command.join(" "), env.join(", "));
    let with = if env.is_empty() { String::new() } else { format!(" with the variables {}", told(&names)) };
    (
        format!("tool `{tool}` starts the program `{}`{with}, which is not granted here", told(&words)),
        "the operator grants it in omium.toml: `[host] programs = [{ command = [\"PROGRAM\", \"ARGUMENT\"], env = \
         [\"NAME\"] }]`; a `url` needs no program"
            .to_owned(),
    )
}

fn private_refused(tool: &str, url: &Url) -> (String, String) {
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    (
        format!("tool `{tool}` asks by `allow_private` for `{}`, which is not granted here", told(&host)),
        "the operator grants it in omium.toml: `[host] private = [\"HOST\"]`; public addresses need no `allow_private`"
            .to_owned(),
    )
}

fn secret_refused(tool: &str, name: &str) -> (String, String) {
    (
        format!("tool `{tool}` asks for the secret `{}`, which this tenant does not have", told(name)),
        "the operator grants it in omium.toml, below the tenant's name: `[tenants.NAME.secrets]`, then `SECRET = { env = \
         \"VARIABLE\" }` or `{ file = \"PATH\" }`"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_program_is_granted_by_its_first_words_and_its_variables_by_name() {
        let program = Program::new(words("npx -y @acme/files"), words("KEY")).unwrap();
        let grants = Grants { programs: Programs::These(vec![program]), ..Grants::default() };
        assert!(grants.starts(&words("npx -y @acme/files /srv"), &["KEY"]));
        for (command, env) in [
            ("npx -y @acme/other", vec![]),
            ("npx", vec![]),
            ("/usr/bin/npx -y @acme/files", vec![]),
            ("npx -y @acme/files", vec!["LD_PRELOAD"]),
            ("npx -y @acme/files", vec!["KEY", "PATH"]),
            ("sh -c id", vec![]),
        ] {
            assert!(!grants.starts(&words(command), &env), "{command} {env:?}");
        }
        assert!(!Grants::default().starts(&words("true"), &[]));
        for wrong in ["", "./run", "bin/run"] {
            assert!(Program::new(vec![wrong.to_owned()], vec![]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_and_networks_are_read_as_they_are_shown_and_nothing_else_is() {
        for text in [
            "rates.internal",
            "rates.internal:8080",
            "10.0.0.0/8",
            "127.0.0.1:80",
            "::1",
            "[::1]:80",
            "fd00::/8",
        ] {
            assert_eq!(text.parse::<PrivateHost>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "*",
            "a b",
            "10.0.0.0/33",
            "http://x",
            "0x7f.1",
            "2130706433",
            "a:b",
            "x:99999",
            "/8",
            "*.internal",
        ] {
            assert!(wrong.parse::<PrivateHost>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses_alone() {
        let holds = |network: &str, address: &str| {
            network.parse::<PrivateHost>().unwrap().holds(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && holds("0.0.0.0/0", "9.9.9.9") && holds("::1", "::1"));
        assert!(
            !holds("10.0.0.0/8", "11.0.0.1") && !holds("10.0.0.7", "10.0.0.8") && !holds("::/0", "10.0.0.1")
        );
        assert!(!holds("10.internal", "10.0.0.1"));
    }
}
