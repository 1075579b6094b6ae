//! House rules as tests: the arrows between crates, file sizes, words that may not appear.
