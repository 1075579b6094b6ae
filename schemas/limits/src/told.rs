//! What others wrote, shortened for messages.

/// How much of a name is told, in bytes.
pub const NAME: usize = 80;

/// A text of others for a message: one line, at most [`NAME`] bytes.
pub fn told(text: &str) -> String {
    clipped(text, NAME)
}

/// A text of others in at most `most` bytes and on one line.
pub fn clipped(text: &str, most: usize) -> String {
    let begin = clipped_bytes(text, most);
    let mut short: String = begin.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if begin.len() < text.len() {
        short.push('…');
    }
    short
}

/// The beginning of a text in at most so many bytes, as it is.
pub fn clipped_bytes(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_between_letters() {
        assert_eq!(told("short\nname"), "short name");
        assert_eq!(clipped("äöü", 3), "ä…");
        assert!(told(&"x".repeat(1 << 20)).len() <= NAME + 3);
    }
}
