//! What no text of the project says: how it came to be, and where it happened to lie.

use crate::layout::File;

/// A pattern, and why it may not appear. Words are matched whole and without regard to case.
pub const WORDS: &[(&str, &str)] = &[
    ("this issue", "text describes what is, not the work that made it"),
    ("the issue asks", "text describes what is, not the work that made it"),
    ("per the issue", "text describes what is, not the work that made it"),
    ("in this session", "text describes what is, not the work that made it"),
    ("previous session", "text describes what is, not the work that made it"),
    ("next session", "text describes what is, not the work that made it"),
    ("coding agent", "text describes what is, not who wrote it"),
    ("as an ai", "text describes what is, not who wrote it"),
    ("todo", "do it, or leave it out"),
    ("fixme", "do it, or leave it out"),
    ("xxx", "do it, or leave it out"),
    ("hack", "say why it is right, or make it right"),
];

/// Beginnings of paths that exist on one machine only.
pub const HOMES: &[&str] = &["/home/", "/root/", "/Users/", "/work/"];

/// Lines that hold a word that may not appear.
pub fn unwanted(files: &[File]) -> Vec<String> {
    lines(files, |line| {
        let lower = line.to_lowercase();
        WORDS.iter().find(|(word, _)| has_word(&lower, word)).map(|(word, why)| format!("'{word}': {why}"))
    })
}

/// Lines that name a place of one machine.
pub fn homes(files: &[File]) -> Vec<String> {
    lines(files, |line| {
        HOMES
            .iter()
            .find(|home| starts_path(line, home))
            .map(|home| format!("'{home}': no path of one machine may stand here"))
    })
}

/// Numbered issues, sessions and the like: `issue 3`, `#12 of the tracker`.
pub fn numbered(files: &[File]) -> Vec<String> {
    lines(files, |line| {
        let lower = line.to_lowercase();
        ["issue ", "issue #", "session ", "milestone "]
            .iter()
            .find(|word| lower.match_indices(**word).any(|(at, _)| is_number_after(&lower, at + word.len())))
            .map(|word| format!("'{word}N': text describes what is, not the work that made it"))
    })
}

fn lines(files: &[File], judge: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(why) = judge(line) {
                found.push(format!("{}:{}: {why}", file.path, number + 1));
            }
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// A path begins where no path goes on: `see /home/x`, but not `$HOME/home/x`.
fn starts_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '/' | '*' | ':' | '>')
        })
    })
}

fn is_number_after(line: &str, at: usize) -> bool {
    line[at..].starts_with(|c: char| c.is_ascii_digit())
}
