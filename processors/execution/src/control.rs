//! The control stream: tenants, keys, and the versions of workflows.

use std::collections::BTreeMap;

use omium_processor::{Recorded, Refusal, Why};
use omium_schemas::catalogue::{
    Command, CreateTenant, DropGuard, Event, Guard, GuardDropped, GuardSet, IssueKey, KeyIssued, KeyRevoked,
    KeyRole, PublishWorkflow, RevokeKey, SetGuard, TenantCreated, WorkflowPublished,
};
use omium_schemas::{Content, Digest, Label, TenantId, Time};
use serde::{Deserialize, Serialize};

use crate::concerns::concerns;
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
    /// Checks on agents of programs, by their names.
    pub guards: BTreeMap<TenantId, SetGuards>,
    /// What models cost.
    pub prices: BTreeMap<TenantId, Prices>,
}

/// A tenant's checks by name, each with the program that it is for; all programs where none is named.
pub type SetGuards = BTreeMap<String, (Option<String>, Guard)>;

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
    /// What people call it.
    pub name: Option<String>,
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
/// How many bytes of definitions a tenant may have, over all versions of all workflows: they lie in one stream's state.
const MAX_DEFINITIONS: u64 = 32 << 20;
/// How many keys a tenant may have at once.
const MAX_KEYS: usize = 1_000;
/// How many checks a tenant may have.
const MAX_GUARDS: usize = 1_000;

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
        Command::IssueKey(IssueKey { tenant, key, role, expires_at, name, .. }) => {
            if let Some(name) = name.as_ref().filter(|name| name.parse::<Label>().is_err()) {
                let name = omium_limits::told(name);
                return invalid(format!(
                    "`{name}` is no name for a key; it has 1 to 64 of A-Z a-z 0-9 _ . -"
                ));
            }
            if control.keys.contains_key(key) {
                return conflict(format!("there is a key `{key}` already"));
            }
            if control.keys.values().filter(|known| known.tenant == *tenant).count() >= MAX_KEYS {
                return invalid(format!(
                    "there are {MAX_KEYS} keys, the most that there may be; revoke some first"
                ));
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
        Command::PublishWorkflow(PublishWorkflow { tenant, workflow, version, definition, .. }) => {
            let versions = control.workflows.get(&(*tenant, workflow.clone()));
            if versions.is_some_and(|versions| versions.len() >= MAX_VERSIONS) {
                return invalid(format!(
                    "`{workflow}` has {MAX_VERSIONS} versions; publish it under another name"
                ));
            }
            let own = control
                .workflows
                .iter()
                .filter(|((of, _), _)| of == tenant)
                .flat_map(|(_, versions)| versions);
            let bytes: u64 = own.map(|version| version.definition.length()).sum();
            if bytes.saturating_add(definition.length()) > MAX_DEFINITIONS {
                return invalid(format!(
                    "the tenant's definitions have {bytes} bytes, and {MAX_DEFINITIONS} are the most; make them shorter, \
                     or publish under another tenant"
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
        Command::SetGuard(set) => set_guard(control, set),
        Command::DropGuard(DropGuard { tenant, name, .. }) => {
            let known = control.guards.get(tenant).is_some_and(|guards| guards.contains_key(name));
            if !known {
                let text =
                    format!("there is no guard `{name}`; `omium guard list` shows those that there are");
                return Err(Refusal::new(Why::NotFound, text));
            }
            Ok(vec![GuardDropped { tenant: *tenant, name: name.clone() }.into()])
        }
        Command::SetPrice(set) => prices::decide(control.prices.get(&set.tenant), set),
        other => invalid(format!("{} is nothing that control understands", other.name())),
    }
}

fn set_guard(control: &Control, set: &SetGuard) -> Result<Vec<Event>, Refusal> {
    let guards = control.guards.get(&set.tenant);
    if guards.is_some_and(|guards| guards.len() >= MAX_GUARDS && !guards.contains_key(&set.guard.name)) {
        return invalid(format!(
            "there are {MAX_GUARDS} guards, the most that there may be; remove some first"
        ));
    }
    Ok(vec![GuardSet { tenant: set.tenant, name: set.guard.name.clone() }.into()])
}

impl Control {
    /// The checks that a program is under which starts now.
    pub fn guards_of(&self, tenant: TenantId, program: &str) -> Vec<Guard> {
        let guards = self.guards.get(&tenant).into_iter().flat_map(BTreeMap::values);
        let meant = |only: &Option<String>| only.as_ref().is_none_or(|only| only == program);
        guards.filter(|(only, _)| meant(only)).map(|(_, guard)| guard.clone()).collect()
    }

    pub(crate) fn apply(&mut self, recorded: &Recorded<'_>) {
        if !concerns(recorded.event) {
            return;
        }
        match (recorded.event, recorded.command) {
            (Event::TenantCreated(TenantCreated { tenant, label }), _) => {
                self.tenants.insert(*tenant, label.clone());
            }
            (Event::KeyIssued(issued), Command::IssueKey(IssueKey { verifier, name, .. })) => {
                let KeyIssued { tenant, key, role, expires_at } = issued.clone();
                self.keys
                    .insert(key, Key { tenant, role, verifier: *verifier, expires_at, name: name.clone() });
            }
            (Event::KeyRevoked(KeyRevoked { key, .. }), _) => {
                self.keys.remove(key);
            }
            (Event::GuardSet(GuardSet { tenant, name }), Command::SetGuard(set)) => {
                let guards = self.guards.entry(*tenant).or_default();
                guards.insert(name.clone(), (set.program.clone(), set.guard.clone()));
            }
            (Event::GuardDropped(GuardDropped { tenant, name }), _) => {
                if let Some(guards) = self.guards.get_mut(tenant) {
                    guards.remove(name);
                }
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
