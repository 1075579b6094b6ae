//! The control stream: tenants, keys, and the versions of workflows.

use std::collections::BTreeMap;

use omium_processor::{Recorded, Refusal, Why};
use omium_schemas::catalogue::{
    Command, CreateTenant, Event, IssueKey, KeyIssued, KeyRevoked, KeyRole, PublishWorkflow, RevokeKey,
    TenantCreated, WorkflowPublished,
};
use omium_schemas::{Content, Digest, TenantId, Time};
use serde::{Deserialize, Serialize};

use crate::draft::{conflict, invalid};
use crate::prices::{self, Prices};

/// What control holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Tenants, with their labels.
    pub tenants: BTreeMap<TenantId, String>,
    /// Keys, by their public part.
    pub keys: BTreeMap<String, Key>,
    /// Versions of workflows, the first one first.
    pub workflows: BTreeMap<(TenantId, String), Vec<Version>>,
    /// What models cost.
    pub prices: BTreeMap<TenantId, Prices>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Whose.
    pub tenant: TenantId,
    /// What it may do.
    pub role: KeyRole,
    /// The digest by which its secret is known.
    pub verifier: Digest,
    /// When it ends.
    pub expires_at: Option<Time>,
}

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The digest of its text.
    pub digest: Digest,
    /// Its text (sealed).
    pub definition: Content,
    /// When it was published.
    pub at: Time,
}

/// How many versions of one workflow are kept; an installation publishes a handful a week.
const MAX_VERSIONS: usize = 10_000;

pub(crate) fn decide(control: Option<&Control>, command: &Command) -> Result<Vec<Event>, Refusal> {
    let empty = Control::default();
    let control = control.unwrap_or(&empty);
    match command {
        Command::CreateTenant(CreateTenant { label, .. }) => {
            let Ok(tenant) = label.parse().map(|label| TenantId::named(&label)) else {
                return invalid(format!(
                    "`{label}` is no name for a tenant; it has 1 to 64 of A-Z a-z 0-9 _ . -"
                ));
            };
            if control.tenants.contains_key(&tenant) {
                return conflict(format!("there is a tenant `{label}` already"));
            }
            Ok(vec![TenantCreated { tenant, label: label.clone() }.into()])
        }
        Command::IssueKey(IssueKey { tenant, key, role, expires_at, .. }) => {
            if control.keys.contains_key(key) {
                return conflict(format!("there is a key `{key}` already"));
            }
            Ok(vec![
                KeyIssued { tenant: *tenant, key: key.clone(), role: *role, expires_at: *expires_at }.into(),
            ])
        }
        Command::RevokeKey(RevokeKey { tenant, key, .. }) => match control.keys.get(key) {
            Some(known) if known.tenant == *tenant => {
                Ok(vec![KeyRevoked { tenant: *tenant, key: key.clone() }.into()])
            }
            _ => Err(Refusal::new(Why::NotFound, format!("there is no key `{key}`"))),
        },
        Command::PublishWorkflow(PublishWorkflow { tenant, workflow, version, .. }) => {
            let versions = control.workflows.get(&(*tenant, workflow.clone()));
            if versions.is_some_and(|versions| versions.len() >= MAX_VERSIONS) {
                return invalid(format!(
                    "`{workflow}` has {MAX_VERSIONS} versions; publish it under another name"
                ));
            }
            // The same text again is the same version.
            if versions.and_then(|versions| versions.last()).is_some_and(|last| last.digest == *version) {
                return Ok(Vec::new());
            }
            Ok(vec![
                WorkflowPublished { tenant: *tenant, workflow: workflow.clone(), version: *version }.into(),
            ])
        }
        Command::SetPrice(set) => prices::decide(control.prices.get(&set.tenant), set),
        other => invalid(format!("{} is nothing that control understands", other.name())),
    }
}

impl Control {
    pub(crate) fn apply(&mut self, recorded: &Recorded<'_>) {
        match (recorded.event, recorded.command) {
            (Event::TenantCreated(TenantCreated { tenant, label }), _) => {
                self.tenants.insert(*tenant, label.clone());
            }
            (Event::KeyIssued(issued), Command::IssueKey(IssueKey { verifier, .. })) => {
                let KeyIssued { tenant, key, role, expires_at } = issued.clone();
                self.keys.insert(key, Key { tenant, role, verifier: *verifier, expires_at });
            }
            (Event::KeyRevoked(KeyRevoked { key, .. }), _) => {
                self.keys.remove(key);
            }
            (Event::PriceSet(set), Command::SetPrice(command)) => {
                self.prices.entry(set.tenant).or_default().apply(set, prices::said(command));
            }
            (
                Event::WorkflowPublished(published),
                Command::PublishWorkflow(PublishWorkflow { definition, .. }),
            ) => {
                let WorkflowPublished { tenant, workflow, version } = published.clone();
                let version = Version { digest: version, definition: definition.clone(), at: recorded.time };
                self.workflows.entry((tenant, workflow)).or_default().push(version);
            }
            _ => {}
        }
    }
}
