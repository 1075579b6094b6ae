//! Keys: who is let in, and as what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use omium_api::port::{Caller, Failure, FailureKind, Keys, NewKey, Role};
use omium_api::views::{IssuedKey, KeyView};
use omium_execution::Key;
use omium_schemas::catalogue::{CreateTenant, IssueKey, KeyRole, RevokeKey};
use omium_schemas::{Digest, Label, TenantId, Time};

use super::control::random;
use super::executions::now;
use super::{Engine, view};
use crate::readable::hex;

/// How long a key that was good counts as good while nobody can look: a revocation acts after that time at the latest.
const VERIFIED: Duration = Duration::from_secs(10);
/// How many keys are remembered.
const MOST_VERIFIED: usize = 10_000;

/// Keys that were good when somebody looked last.
#[derive(Default)]
pub(super) struct Verified(Mutex<BTreeMap<String, (Digest, Caller, Instant)>>);

impl Verified {
    fn get(&self, public: &str, verifier: &Digest) -> Option<Caller> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (good, caller, at) = known.get(public)?;
        (good == verifier && at.elapsed() < VERIFIED).then(|| caller.clone())
    }

    fn put(&self, verifier: Digest, caller: &Caller) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_VERIFIED && !known.contains_key(&caller.key) {
            known.retain(|_, (.., at)| at.elapsed() < VERIFIED);
            if known.len() >= MOST_VERIFIED {
                return;
            }
        }
        known.insert(caller.key.clone(), (verifier, caller.clone(), Instant::now()));
    }
}

/// In microseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000_000;

impl Engine {
    /// Makes a tenant where there is none, and a key for it.
    pub async fn admit(&self, label: &str, role: KeyRole) -> Result<String, Failure> {
        let name: Label = label.parse().map_err(|_| {
            Failure::new(
                FailureKind::Invalid,
                "bad-name",
                format!("`{label}` is no name for a tenant"),
                "use 1 to 64 of A-Z a-z 0-9 _ . -",
            )
        })?;
        let tenant = TenantId::named(&name);
        if !self.control().await?.tenants.contains_key(&tenant) {
            self.tell_control(None, CreateTenant { label: label.to_owned() }).await?;
        }
        Ok(self.issued(None, tenant, (role, None, None)).await?.bearer)
    }

    async fn issued(
        &self,
        by: Option<&Caller>,
        tenant: TenantId,
        (role, expires_at, name): (KeyRole, Option<Time>, Option<String>),
    ) -> Result<IssuedKey, Failure> {
        let (public, secret) = (random_hex::<8>(), random_hex::<24>());
        // The secret is random and long: its plain digest tells nobody anything.
        let verifier = Digest::of(secret.as_bytes());
        let key = Key { tenant, role, verifier, expires_at, name };
        let view = shown(&public, &key);
        let (bearer, name) = (format!("om_{public}_{secret}"), key.name);
        self.tell_control(by, IssueKey { tenant, key: public, verifier, role, expires_at, name }).await?;
        Ok(IssuedKey { view, bearer })
    }

    /// Whether the key that began an attempt is still one of the tenant's.
    pub(super) async fn key_is_good(&self, tenant: TenantId, public: &str) -> Result<bool, Failure> {
        let control = self.control().await?;
        Ok(control
            .keys
            .get(public)
            .is_some_and(|key| key.tenant == tenant && key.expires_at.is_none_or(|end| end > now())))
    }
}

#[async_trait]
impl Keys for Engine {
    /// Whose key this is; nothing where it is none. Where that cannot be read now, whoever was known a moment ago is let
    /// in still, and others are told to come back: "no" would send them away for good.
    async fn authenticate(&self, text: &str) -> Result<Option<Caller>, Failure> {
        let Some((public, secret)) = text.strip_prefix("om_").and_then(|key| key.split_once('_')) else {
            return Ok(None);
        };
        let verifier = Digest::of(secret.as_bytes());
        let control = match self.control().await {
            Ok(control) => control,
            Err(failure) => return self.verified.get(public, &verifier).map(Some).ok_or(failure),
        };
        let Some(key) = control.keys.get(public) else { return Ok(None) };
        if key.expires_at.is_some_and(|end| end <= now()) || verifier != key.verifier {
            return Ok(None);
        }
        let Some(label) = control.tenants.get(&key.tenant).cloned() else { return Ok(None) };
        let caller = Caller { tenant: key.tenant, label, role: role(key.role), key: public.to_owned() };
        self.verified.put(verifier, &caller);
        Ok(Some(caller))
    }

    /// Whether the key of somebody who was let in before still opens what it did. A node that cannot look now does not
    /// send away those whom it knew.
    async fn knows(&self, caller: &Caller) -> bool {
        let Ok(control) = self.control().await else { return true };
        control.keys.get(&caller.key).is_some_and(|key| {
            let fresh = key.expires_at.is_none_or(|end| end > now());
            fresh && key.tenant == caller.tenant && role(key.role) == caller.role
        })
    }

    async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Failure> {
        let control = self.control().await?;
        let own = control.keys.iter().filter(|(_, key)| key.tenant == caller.tenant);
        Ok(own.map(|(public, key)| shown(public, key)).collect())
    }

    async fn issue_key(
        &self,
        caller: &Caller,
        NewKey { role, days, name }: NewKey,
    ) -> Result<IssuedKey, Failure> {
        let ends = |days| Time(now().0.saturating_add(u64::from(days) * DAY));
        self.issued(Some(caller), caller.tenant, (recorded(role), days.map(ends), name)).await
    }

    async fn revoke_key(&self, caller: &Caller, public: &str) -> Result<KeyView, Failure> {
        let control = self.control().await?;
        let key = control.keys.get(public).filter(|key| key.tenant == caller.tenant).ok_or_else(|| {
            Failure::new(
                FailureKind::NotFound,
                "not-found",
                format!("there is no key `{public}`"),
                "`omium keys list` shows those that there are, by their public parts",
            )
        })?;
        self.tell_control(Some(caller), RevokeKey { tenant: caller.tenant, key: public.to_owned() }).await?;
        Ok(shown(public, key))
    }
}

fn role(role: KeyRole) -> Role {
    match role {
        KeyRole::Viewer => Role::Viewer,
        KeyRole::Worker => Role::Worker,
        KeyRole::Developer => Role::Developer,
        KeyRole::Admin => Role::Admin,
    }
}

fn recorded(role: Role) -> KeyRole {
    match role {
        Role::Viewer => KeyRole::Viewer,
        Role::Worker => KeyRole::Worker,
        Role::Developer => KeyRole::Developer,
        Role::Admin => KeyRole::Admin,
    }
}

fn shown(public: &str, key: &Key) -> KeyView {
    KeyView {
        key: public.to_owned(),
        name: key.name.clone(),
        role: role(key.role),
        expires_at: key.expires_at.map(view::time),
    }
}

fn random_hex<const N: usize>() -> String {
    hex(&random::<N>())
}
