//! The shell that runs processors over one partition of the log.
