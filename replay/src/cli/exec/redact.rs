//! Tokens do not stand in what is shown or kept: whoever has one speaks for the attempt.

/// What every token begins with.
const PREFIX: &str = "omx_";

/// The same text with `omx_…` in place of each token.
pub(super) fn redacted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PREFIX) {
        let (before, token) = rest.split_at(at + PREFIX.len());
        kept.push_str(before);
        let end = token
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_'))
            .unwrap_or(token.len());
        if end > 0 {
            kept.push('…');
        }
        rest = &token[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn tokens_are_cut_out_wherever_they_stand() {
        for (text, expected) in [
            ("", ""),
            ("POST http://h/x/ex_1/omx_0Ab-_9/v1 omx_1", "POST http://h/x/ex_1/omx_…/v1 omx_…"),
            ("omx_ and omx_é", "omx_ and omx_é"),
            ("omx_omx_a.omx_b", "omx_….omx_…"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }
}
