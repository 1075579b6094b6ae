//! How much of everything the listener lets in.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that no connection may take: the log, the store and the blobs open files at any time, and an error there
/// ends the process.
const FOR_FILES: usize = 256;
/// More connections than this cost memory and serve nobody.
const MOST_CONNECTIONS: usize = 8_192;

/// What one listener lets in.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Those of them that callers of one tenant may hold.
    pub connections_of_tenant: usize,
    /// How long a stranger may take to send a head, and how long he may rest.
    pub head: Duration,
    /// How long the connection of a known caller may rest.
    pub idle: Duration,
    /// How long a reader may take nothing while something waits for it.
    pub stall: Duration,
    /// How long a body may take before a rate is asked of it.
    pub body: Duration,
    /// The least rate of a body after that, in bytes a second.
    pub rate: usize,
    /// Bytes of bodies in the node at once.
    pub incoming: usize,
    /// The same of one tenant.
    pub incoming_of_tenant: usize,
    /// Bytes of long answers that wait for their readers.
    pub outgoing: usize,
    /// Bytes of events that wait for those who follow executions.
    pub following: usize,
    /// The same of one tenant.
    pub following_of_tenant: usize,
    /// Names, beside those of loopback, under which it may be asked.
    pub hosts: Vec<String>,
    /// How long requests in flight may take to end once the listener stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: connections(1_024),
            connections_of_tenant: share(connections(1_024)),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            body: Duration::from_secs(10),
            rate: 64 << 10,
            incoming: 256 << 20,
            incoming_of_tenant: 128 << 20,
            outgoing: 256 << 20,
            following: 256 << 20,
            following_of_tenant: 128 << 20,
            hosts: Vec::new(),
            grace: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Limits for a process that may open so many descriptors.
    pub fn with_descriptors(descriptors: usize) -> Limits {
        let connections = connections(descriptors);
        Limits { connections, connections_of_tenant: share(connections), ..Limits::default() }
    }
}

/// Half of what files leave over: a call of a model takes a descriptor on the other side too.
fn connections(descriptors: usize) -> usize {
    (descriptors.saturating_sub(FOR_FILES) / 2).clamp(16, MOST_CONNECTIONS)
}

/// Half, so that one tenant alone cannot fill the node. A node that takes few connections has none to divide.
fn share(connections: usize) -> usize {
    (connections / 2).max(64)
}

/// Raises the soft limit of descriptors to the hard one, and says how many there are then.
pub fn raise_descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The default of a shell, 1,024, is for programs that use `select`.
    if current != maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let known = getrlimit(Resource::Nofile).current;
    known.map_or(usize::MAX, |known| usize::try_from(known).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_descriptors_however_few_there_are() {
        assert_eq!(connections(1_024), 384);
        assert_eq!(connections(20_000), MOST_CONNECTIONS);
        assert_eq!(connections(256), 16);
        assert_eq!(connections(usize::MAX), MOST_CONNECTIONS);
        assert_eq!((share(connections(1_024)), share(connections(256))), (192, 64));
    }
}
