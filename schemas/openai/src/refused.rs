//! Errors that providers answer with.

use omium_schemas::catalogue::ModelErrorClass;
use serde_json::Value;

/// How much of what a provider says about an error is kept.
const REASON: usize = 2_000;

/// What an answer that is an error means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its class.
    pub class: ModelErrorClass,
    /// The status and what the provider says, for people.
    pub reason: String,
    /// Whether asking again may help.
    pub retryable: bool,
}

/// Reads an error by its status and, where it is in OpenAI's form, by its code.
pub fn refused(status: u16, body: &[u8]) -> Refused {
    let error: Value = omium_limits::json::parse(body, &crate::answer::LIMITS).unwrap_or_default();
    let code = error["error"]["code"].as_str().unwrap_or_default();
    let said: String = match error["error"]["message"].as_str() {
        Some(message) => message.chars().take(REASON).collect(),
        None => String::from_utf8_lossy(&body[..body.len().min(4 * REASON)]).chars().take(REASON).collect(),
    };
    // A used-up quota answers 429 too, and no patience brings it back.
    let transient = matches!(status, 408 | 409 | 425 | 429) || status >= 500;
    Refused {
        class: class(status, code),
        reason: format!("the model's server answered {status}: {said}"),
        retryable: transient && code != "insufficient_quota",
    }
}

fn class(status: u16, code: &str) -> ModelErrorClass {
    match (status, code) {
        (_, "context_length_exceeded") | (413, _) => ModelErrorClass::ContextTooLong,
        (_, "content_filter" | "content_policy_violation") => ModelErrorClass::ContentFiltered,
        (401 | 403, _) => ModelErrorClass::Unauthenticated,
        (408 | 504, _) => ModelErrorClass::Timeout,
        (429, _) => ModelErrorClass::RateLimited,
        (400 | 404 | 405 | 422, _) => ModelErrorClass::InvalidRequest,
        (500 | 502 | 503 | 529, _) => ModelErrorClass::Overloaded,
        _ => ModelErrorClass::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_more_than_a_status_and_a_text_that_is_no_json_is_told_as_it_is() {
        let full = br#"{"error": {"message": "too long", "code": "context_length_exceeded"}}"#;
        let found = refused(400, full);
        assert_eq!(found.class, ModelErrorClass::ContextTooLong);
        assert_eq!(
            (found.reason.as_str(), found.retryable),
            ("the model's server answered 400: too long", false)
        );

        let empty = br#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#;
        assert_eq!(
            (refused(429, empty).class, refused(429, empty).retryable),
            (ModelErrorClass::RateLimited, false)
        );
        assert!(refused(429, b"slow down").retryable);

        let page = refused(502, b"<html>bad gateway</html>");
        assert_eq!((page.class, page.retryable), (ModelErrorClass::Overloaded, true));
        assert!(page.reason.ends_with("<html>bad gateway</html>"));
    }
}
