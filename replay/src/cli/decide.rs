//! What a person decides about the finding that a program waits for.

use clap::Args;
use serde_json::json;

use super::connection::Trouble;
use super::executions::told;
use super::{Act, End, Target};

/// Applies a remedy to the finding that a program waits for: the best one, or the one that is named.
#[derive(Args, Debug)]
pub(crate) struct Approve {
    execution: String,
    /// The remedy's number, as `omium show` lists it.
    #[arg(long, value_name = "NUMBER")]
    remedy: Option<i32>,
    /// Why a model without a price may be asked, for those who read the log. A remedy takes no note.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Act for Approve {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let body = json!({ "decision": "apply", "remedy": self.remedy, "note": self.note });
        told(
            target,
            &self.execution,
            "decision",
            body,
            "may go on with the remedy; run it with `omium exec --resume`",
        )
        .await
    }
}

/// Takes the answer as it is: the finding that a program waits for is none.
#[derive(Args, Debug)]
pub(crate) struct Dismiss {
    execution: String,
    /// Why, for those who read the log.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Act for Dismiss {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let body = json!({ "decision": "dismiss", "note": self.note });
        told(
            target,
            &self.execution,
            "decision",
            body,
            "may go on with the answer as it is; run it with `omium exec --resume`",
        )
        .await
    }
}

/// Ends a program that waits for a decision about a finding.
#[derive(Args, Debug)]
pub(crate) struct Refuse {
    execution: String,
    /// Why, for those who read the log.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Act for Refuse {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let body = json!({ "decision": "refuse", "note": self.note });
        told(target, &self.execution, "decision", body, "does not go on").await
    }
}
