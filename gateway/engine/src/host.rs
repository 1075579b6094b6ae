//! What the operator grants to tools: the same to everybody, and more to single tenants.

use std::collections::BTreeMap;

use omium_agents::native::{Grants, NotGranted, not_granted};
use omium_api::port::{Failure, FailureKind};
use omium_schemas::TenantId;
use omium_workflow::{Definition, Places, Problem, Problems};
use serde_json::json;

/// What is granted on this host; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Host {
    everybody: Grants,
    tenants: BTreeMap<TenantId, Grants>,
}

impl Host {
    /// What single tenants are granted is all that they are granted.
    pub fn new(everybody: Grants, tenants: BTreeMap<TenantId, Grants>) -> Host {
        Host { everybody, tenants }
    }

    pub(super) fn of(&self, tenant: TenantId) -> &Grants {
        self.tenants.get(&tenant).unwrap_or(&self.everybody)
    }

    /// Refuses a definition whose tools ask for more than is granted.
    pub(super) fn allows(
        &self,
        tenant: TenantId,
        file: &str,
        text: &str,
        definition: &Definition,
    ) -> Result<(), Failure> {
        let refused = not_granted(&definition.tools, self.of(tenant));
        if refused.is_empty() {
            return Ok(());
        }
        let places = Places::of(text).tools;
        let problem = |NotGranted { tool, what, hint }: NotGranted| Problem {
            place: places.get(&tool).copied().unwrap_or_default(),
            text: what,
            hint,
        };
        let problems = refused.into_iter().map(problem).collect();
        let problems = Problems { file: omium_limits::told(file), problems };
        Err(Failure {
            problems: json!(problems),
            ..Failure::new(
                FailureKind::Invalid,
                "not-granted",
                problems.to_string(),
                "a definition asks; who runs this server grants, in omium.toml",
            )
        })
    }
}
