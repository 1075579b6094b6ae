//! `omium answer`: what a person knows about a call whose outcome is not recorded.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::connection::{Connection, Trouble, segment};
use super::executions::told;
use super::output::{text, value};
use super::{Act, End, Target};

/// Answers what an execution asks: whether a tool that changes something did so before a crash.
#[derive(Args, Debug)]
pub(crate) struct Answer {
    execution: String,
    /// What is known.
    #[arg(value_enum)]
    answer: What,
    /// The question's seq, where there is more than one; `omium show` lists them.
    #[arg(long, value_name = "SEQ")]
    question: Option<u64>,
    /// What the tool answered, where it happened: JSON, `@file`, or `-` for standard input.
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    /// Why, for whoever reads the log.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// It happened; it is not called again.
    Happened,
    /// It did not happen, or may happen twice: it is called again.
    Repeat,
    /// The step fails.
    GiveUp,
}

impl Act for Answer {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let (answer, done) = match self.answer {
            What::Happened => ("happened", "goes on with that result"),
            What::Repeat => ("repeat", "calls it again"),
            What::GiveUp => ("give-up", "gave the step up"),
        };
        let result = self.result.as_deref().map(value).transpose()?;
        let question = match self.question {
            Some(question) => question,
            None => only(target, &self.execution).await?,
        };
        let mut body = json!({ "question": question, "answer": answer, "note": self.note });
        if let Some(result) = result {
            body["result"] = result;
        }
        told(target, &self.execution, "answer", body, done).await
    }
}

/// The question, where there is one.
async fn only(target: &Target, execution: &str) -> Result<u64, Trouble> {
    let path = format!("/api/v1/executions/{}", segment(execution));
    let view = Connection::new(target).get(&path).await?;
    let seqs: Vec<u64> = questions(&view).iter().filter_map(|question| question["seq"].as_u64()).collect();
    match seqs.as_slice() {
        [only] => Ok(*only),
        [] => Err(Trouble::Here(format!("{execution} asks nothing"))),
        several => Err(Trouble::Here(format!(
            "{execution} asks at the seqs {}; say which with --question",
            several.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn questions(view: &Value) -> &[Value] {
    view["questions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What is asked, for people.
pub(super) fn asked(view: &Value) -> Vec<String> {
    let line = |question: &Value| {
        format!(
            "question {}: {} ({}, call {}, given {}); `omium answer {} happened --result JSON | repeat | give-up`",
            question["seq"],
            text(&question["text"]),
            text(&question["agent"]),
            question["call"],
            question["arguments"],
            text(&view["id"]),
        )
    };
    questions(view).iter().map(line).collect()
}
