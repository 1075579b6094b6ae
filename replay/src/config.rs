//! `omium.toml`: what the operator says about a server, and what he grants to the tools of workflows.

mod secrets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use omium_agents::native::{Grants, PrivateHost, Program, Programs, Secrets};
use omium_engine::Host;
use omium_schemas::{Label, TenantId};
use serde::Deserialize;
use toml::{Spanned, Value};

use secrets::Source;
pub(crate) use secrets::UPSTREAM_KEY;

/// The tenant that `omium dev` and `omium serve` bring along.
pub(crate) const TENANT: &str = "default";
/// Variables that are secrets of `omium dev`.
const PREFIX: &str = "OMIUM_SECRET_";
/// How long the file may be.
const MOST: u64 = 1 << 20;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    server: Server,
    host: Allowed,
    tenants: BTreeMap<String, Spanned<Tenant>>,
}

/// What flags say too; a flag counts more.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Server {
    upstream: Option<Spanned<String>>,
    host_names: Vec<String>,
    grace: Option<Spanned<String>>,
    keep: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Allowed {
    programs: Option<Vec<Spanned<Value>>>,
    private: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tenant {
    programs: Vec<Spanned<Value>>,
    private: Vec<Spanned<String>>,
    secrets: BTreeMap<String, Spanned<Value>>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) upstream: Option<String>,
    pub(crate) host_names: Vec<String>,
    pub(crate) grace: Option<Duration>,
    pub(crate) keep: Option<Duration>,
    /// Nothing where the file says nothing, which is not the same as an empty list.
    programs: Option<Vec<Program>>,
    private: Option<Vec<PrivateHost>>,
    tenants: BTreeMap<String, Own>,
}

/// What a single tenant has.
#[derive(Debug, Default)]
struct Own {
    programs: Vec<Program>,
    private: Vec<PrivateHost>,
    secrets: BTreeMap<String, Source>,
}

/// The file that counts: the one that is named, else the one in the data folder if there is one.
pub(crate) fn place(named: Option<&Path>, data: &Path) -> Option<PathBuf> {
    let usual = || Some(data.join("omium.toml")).filter(|file| file.exists());
    named.map(Path::to_owned).or_else(usual)
}

impl Config {
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Config> {
        let Some(file) = file else { return Ok(Config::default()) };
        let named = || format!("{} cannot be read", file.display());
        let length = std::fs::metadata(file).with_context(named)?.len();
        anyhow::ensure!(length <= MOST, "{} has {length} bytes; {MOST} are allowed", file.display());
        let text = std::fs::read_to_string(file).with_context(named)?;
        Config::read(&text).map_err(|Wrong { at, said }| {
            let (line, column) = position(&text, at);
            anyhow!("{}:{line}:{column}: {said}", file.display())
        })
    }

    fn read(text: &str) -> Result<Config, Wrong> {
        // What the parser shows of the line may be a secret that somebody wrote there.
        let written: Written = toml::from_str(text).map_err(|error| Wrong {
            at: error.span().map_or(0, |span| span.start),
            said: secrets::without_values(error.message()),
        })?;
        let Server { upstream, host_names, grace, keep } = written.server;
        let keep = keep.map(|time| valued(&time, |text| crate::serve::kept(text), "server.keep"));
        let upstream =
            upstream.map(|url| valued(&url, |url| crate::serve::upstream_url(url), "server.upstream"));
        let grace = grace.map(|time| {
            let parsed =
                |text: &String| humantime::parse_duration(text).map_err(|why| format!("{why}; write 30s"));
            valued(&time, parsed, "server.grace")
        });
        let Allowed { programs: allowed, private } = written.host;
        let mut tenants = BTreeMap::new();
        for (name, tenant) in written.tenants {
            let at = tenant.span().start;
            if name.parse::<Label>().is_err() {
                let said = format!("`tenants.{name}`: a tenant's name has 1 to 64 of A-Z a-z 0-9 _ . -");
                return Err(Wrong { at, said });
            }
            let key = |field: &str| format!("tenants.{name}.{field}");
            let Tenant { programs: allowed, private: hosts, secrets } = tenant.into_inner();
            let own = Own {
                programs: programs(&allowed, &key("programs"))?,
                private: hosts_of(&hosts, &key("private"))?,
                secrets: secrets::read(secrets, &key("secrets"))?,
            };
            tenants.insert(name, own);
        }
        Ok(Config {
            upstream: upstream.transpose()?,
            host_names,
            grace: grace.transpose()?,
            keep: keep.transpose()?,
            programs: allowed.map(|list| programs(&list, "host.programs")).transpose()?,
            private: private.map(|list| hosts_of(&list, "host.private")).transpose()?,
            tenants,
        })
    }

    /// What a machine with one developer grants by default: programs and its own addresses; secrets that were set for it.
    pub(crate) fn for_one_developer(mut self) -> Config {
        self.private.get_or_insert_with(PrivateHost::loopback);
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for variable in variables {
            if let Some(name) = variable.strip_prefix(PREFIX).filter(|name| !name.is_empty()) {
                let own = self.tenants.entry(TENANT.to_owned()).or_default();
                own.secrets.entry(name.to_owned()).or_insert_with(|| Source::Env(variable.clone()));
            }
        }
        self
    }

    /// What is granted. A secret that cannot be read now would fail a step later, so it is said at the start.
    pub(crate) fn host(&self, one_developer: bool) -> anyhow::Result<Host> {
        let everybody = Grants {
            programs: match &self.programs {
                None if one_developer => Programs::Any,
                listed => Programs::These(listed.clone().unwrap_or_default()),
            },
            private: self.private.clone().unwrap_or_default(),
            secrets: Secrets::none(),
        };
        let mut tenants = BTreeMap::new();
        for (name, own) in &self.tenants {
            for (secret, source) in &own.secrets {
                source
                    .value()
                    .map_err(|why| anyhow!("omium.toml: `tenants.{name}.secrets.{secret}`: {why}"))?;
            }
            let mut grants = everybody.clone();
            if let Programs::These(programs) = &mut grants.programs {
                programs.extend(own.programs.iter().cloned());
            }
            grants.private.extend(own.private.iter().cloned());
            let secrets = Arc::new(own.secrets.clone());
            // Read when it is needed: a file may have been renewed.
            grants.secrets = Secrets::new(move |name| secrets.get(name)?.value().ok());
            tenants.insert(
                TenantId::named(&name.parse::<Label>().map_err(|why| anyhow!("`{name}`: {why}"))?),
                grants,
            );
        }
        Ok(Host::new(everybody, tenants))
    }

    /// What is granted, by names alone.
    pub(crate) fn told(&self, one_developer: bool) -> String {
        let programs = match &self.programs {
            None if one_developer => "any program".to_owned(),
            listed => listing("programs", listed.iter().flatten()),
        };
        let private = listing("private hosts", self.private.iter().flatten());
        let own = self.tenants.iter().map(|(name, own)| {
            let mut parts = vec![listing("secrets", own.secrets.keys())];
            if !own.programs.is_empty() {
                parts.push(listing("programs", &own.programs));
            }
            if !own.private.is_empty() {
                parts.push(listing("private hosts", &own.private));
            }
            format!("; {name}: {}", parts.join(", "))
        });
        format!("{programs}, {private}{}", own.collect::<String>())
    }
}

fn listing(what: &str, items: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { format!("no {what}") } else { format!("{what} {}", items.join(", ")) }
}

/// Something in the file that cannot be used, and its place in bytes.
#[derive(Debug)]
struct Wrong {
    at: usize,
    said: String,
}

impl Wrong {
    fn new(at: usize, key: &str, why: impl std::fmt::Display) -> Wrong {
        Wrong { at, said: format!("`{key}`: {why}") }
    }
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn valued<T>(
    written: &Spanned<String>,
    read: impl Fn(&String) -> Result<T, String>,
    key: &str,
) -> Result<T, Wrong> {
    read(written.get_ref()).map_err(|why| Wrong::new(written.span().start, key, why))
}

fn hosts_of(written: &[Spanned<String>], key: &str) -> Result<Vec<PrivateHost>, Wrong> {
    written.iter().map(|host| valued(host, |text| text.parse(), key)).collect()
}

const PROGRAM: &str = "a program is \"NAME\" (with whatever arguments), [\"NAME\", \"ARGUMENT\"] (what it has to begin with) \
                       or { command = [\"NAME\", \"ARGUMENT\"], env = [\"VARIABLE\"] }";

fn programs(written: &[Spanned<Value>], key: &str) -> Result<Vec<Program>, Wrong> {
    let read = |entry: &Spanned<Value>| {
        let wrong = |why: String| Wrong::new(entry.span().start, key, why);
        let (command, env) = words_of(entry.get_ref()).ok_or_else(|| wrong(PROGRAM.to_owned()))?;
        Program::new(command, env).map_err(|why| wrong(format!("{why}; {PROGRAM}")))
    };
    written.iter().map(read).collect()
}

fn words_of(value: &Value) -> Option<(Vec<String>, Vec<String>)> {
    let list = |value: &Value| match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::String(name) => Some(vec![name.clone()]),
        _ => None,
    };
    match value {
        Value::Table(entries) if entries.keys().all(|key| ["command", "env"].contains(&key.as_str())) => {
            let env = entries.get("env").map_or(Some(Vec::new()), list)?;
            Some((list(entries.get("command")?)?, env))
        }
        other => list(other).map(|command| (command, Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let Wrong { at, said } = Config::read(text).unwrap_err();
        let (line, column) = position(text, at);
        format!("{line}:{column}: {said}")
    }

    #[test]
    fn what_is_written_is_granted_and_told_by_name() {
        let config = Config::read(
            r#"
            [server]
            upstream = "https://models.example/v1"
            host_names = ["omium.internal"]
            grace = "10s"
            [host]
            programs = ["rates", ["npx", "-y", "x"], { command = ["/opt/x"], env = ["KEY"] }]
            private = ["rates.internal", "10.0.0.0/8", "127.0.0.1:8080"]
            [tenants.acme]
            private = ["acme.internal"]
            [tenants.acme.secrets]
            RATES_KEY = { env = "ACME_RATES" }
            "#,
        )
        .unwrap();
        assert_eq!((config.host_names.len(), config.grace), (1, Some(Duration::from_secs(10))));
        assert_eq!(
            config.told(false),
            "programs rates, npx -y x, /opt/x (with KEY), private hosts rates.internal, 10.0.0.0/8, 127.0.0.1:8080; \
             acme: secrets RATES_KEY, private hosts acme.internal"
        );
        assert_eq!(Config::default().told(false), "no programs, no private hosts");
        assert!(Config::default().told(true).starts_with("any program"));
    }

    #[test]
    fn the_example_of_the_guide_can_be_used() {
        let guide = include_str!("../../gateway/docs/host.md");
        let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let told = Config::read(example).unwrap().told(false);
        assert!(
            told.ends_with("; default: secrets DESK_KEY, RATES_KEY, private hosts ledger.internal:8443"),
            "{told}"
        );
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place_and_what_is_allowed() {
        assert_eq!(
            wrong("[host]\nprivate = []\n  progams = []\n"),
            "3:3: unknown field `progams`, expected `programs` or `private`"
        );
        assert!(wrong("[hots]\n").contains("expected one of `server`, `host`, `tenants`"));
        assert!(
            wrong("[host]\nprivate = [\"10.0.0.0/8\",\n \"10/99\"]")
                .starts_with("3:2: `host.private`: `10/99` is no")
        );
        assert!(
            wrong("[host]\nprograms = [{ run = \"x\" }]").starts_with("2:13: `host.programs`: a program is")
        );
        assert!(
            wrong("[host]\nprograms = [\"./x\"]").contains("neither a program's name nor an absolute path")
        );
        assert!(wrong("[server]\ngrace = \"soon\"").starts_with("2:9: `server.grace`: "));
        assert!(wrong("[tenants.\"a b\"]\n").contains("a tenant's name has"));
    }

    #[test]
    fn a_secret_that_stands_in_the_file_is_refused_and_never_told() {
        for text in [
            "[tenants.a.secrets]\nK = \"s3cr3t\"",
            "[tenants.a.secrets]\nK = { value = \"s3cr3t\" }",
            "[tenants.a.secrets]\nK = { env = [\"s3cr3t\"] }",
            "[tenants.a]\nsecrets = \"s3cr3t\"",
            "[tenants]\na = \"s3cr3t\"",
            "[tenants.a.secrets]\nK = s3cr3t",
            "[host]\nprivate = \"s3cr3t\"",
        ] {
            let said = wrong(text);
            assert!(said.starts_with("2:") && !said.contains("s3cr3t"), "{said}");
        }
        let said = wrong("[tenants.a.secrets]\nK = { env = \"OPENAI_API_KEY\" }");
        assert!(said.contains("the models' own key"), "{said}");
    }
}
