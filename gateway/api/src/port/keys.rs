//! Who is let in, and as what.

use async_trait::async_trait;
use omium_schemas::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::views::{IssuedKey, KeyView};

/// Who asks, as his key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For whom.
    pub tenant: TenantId,
    /// The tenant's name.
    pub label: String,
    /// What he may do.
    pub role: Role,
    /// The public part of his key: the actor in the log.
    pub key: String,
}

/// What a key may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Performs steps.
    Worker,
    /// Publishes, starts and steers.
    Developer,
    /// Manages keys.
    Admin,
}

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What it may do.
    pub role: Role,
    /// How many days it lasts; until it is revoked where none are named.
    pub days: Option<u32>,
    /// What people call it.
    pub name: Option<String>,
}

/// The keys of tenants.
#[async_trait]
pub trait Keys: Send + Sync + 'static {
    /// Whose key this is; nothing where it is unknown, revoked or too old.
    async fn authenticate(&self, key: &str) -> Result<Option<Caller>, Failure>;

    /// Whether a caller's key is still what it was when he was let in: what goes on for long asks again and again.
    async fn knows(&self, caller: &Caller) -> bool;

    /// The keys of the tenant.
    async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Failure>;

    /// Lets a new key in.
    async fn issue_key(&self, caller: &Caller, wanted: NewKey) -> Result<IssuedKey, Failure>;

    /// Shuts a key out, and says what it was.
    async fn revoke_key(&self, caller: &Caller, key: &str) -> Result<KeyView, Failure>;
}
