//! The traits every processor implements, and their given/when/then test kit.
