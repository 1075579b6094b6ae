//! What is known about one connection: who speaks, since when nothing happens, and what waits for its reader.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use omium_schemas::TenantId;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::limits::Limits;
use crate::reader::Progress;

/// A connection. Its socket lives as long as anybody has this.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) stream: TcpStream,
    /// Whose key its first good request had: the tenant that it counts for.
    tenant: OnceLock<TenantId>,
    /// Its tenant had as many as one may have: it ends with its answer.
    turned_away: AtomicBool,
    state: Mutex<State>,
}

struct State {
    in_flight: usize,
    /// When it was opened, or its last request ended.
    rests_since: Instant,
    /// When the first bytes of a head came whose end has not.
    head_since: Option<Instant>,
    /// Since when its reader takes nothing although there is something.
    blocked_since: Option<Instant>,
    http2: bool,
    /// It is a WebSocket by now.
    upgraded: bool,
    answers: Vec<Weak<Progress>>,
}

/// Who yields first where there is no room: strangers that rest, the oldest first, then strangers that are served.
pub(crate) type Rank = (bool, Instant, u64);

impl Connection {
    pub(crate) fn new(id: u64, stream: TcpStream) -> Connection {
        let state = State {
            in_flight: 0,
            rests_since: Instant::now(),
            head_since: None,
            blocked_since: None,
            http2: false,
            upgraded: false,
            answers: Vec::new(),
        };
        let (tenant, turned_away) = (OnceLock::new(), AtomicBool::new(false));
        Connection { id, stream, tenant, turned_away, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.tenant.get().is_some()
    }

    /// The tenant that it counts for, if its caller is known.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.tenant.get().copied()
    }

    /// Counts it for a tenant; the registry's alone to call.
    pub(crate) fn becomes_known(&self, tenant: TenantId) {
        self.tenant.get_or_init(|| tenant);
    }

    pub(crate) fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_turned_away(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Its rank among strangers; nothing where it is none.
    pub(crate) fn rank(&self) -> Option<Rank> {
        let state = self.state();
        (!self.is_known()).then_some((state.in_flight > 0, state.rests_since, self.id))
    }

    pub(crate) fn request_begins(&self, http2: bool) {
        let mut state = self.state();
        state.in_flight += 1;
        state.head_since = None;
        state.http2 = http2;
    }

    pub(crate) fn request_ends(&self) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.rests_since = Instant::now();
    }

    pub(crate) fn becomes_socket(&self) {
        self.state().upgraded = true;
    }

    pub(crate) fn answers(&self, progress: &Arc<Progress>) {
        let mut state = self.state();
        state.answers.retain(|known| known.strong_count() > 0);
        state.answers.push(Arc::downgrade(progress));
    }

    /// Bytes came from the other side.
    pub(crate) fn heard(&self) {
        let mut state = self.state();
        // Frames of HTTP/2 that are no request may come at any time.
        if state.in_flight == 0 && !state.http2 && !state.upgraded && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// Bytes left for the other side, or could not.
    pub(crate) fn written(&self, blocked: bool) {
        let mut state = self.state();
        match (blocked, state.blocked_since) {
            (false, Some(_)) => state.blocked_since = None,
            (true, None) => state.blocked_since = Some(Instant::now()),
            _ => {}
        }
    }

    /// Why it is not kept any longer.
    pub(crate) fn overdue(&self, now: Instant, limits: &Limits) -> Option<&'static str> {
        let state = self.state();
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let stalled =
            |progress: Arc<Progress>| progress.given_at().is_some_and(|at| passed(at, limits.stall));
        if state.blocked_since.is_some_and(|since| passed(since, limits.stall))
            || state.answers.iter().filter_map(Weak::upgrade).any(stalled)
        {
            return Some("its reader takes nothing");
        }
        if state.in_flight > 0 || state.upgraded {
            return None;
        }
        if state.head_since.is_some_and(|since| passed(since, limits.head)) {
            return Some("it did not end its head");
        }
        let limit = if self.is_known() { limits.idle } else { limits.head };
        passed(state.rests_since, limit).then_some("it asked nothing")
    }

    /// Ends it: whoever reads or writes on it sees the end at once.
    pub(crate) fn close(&self) {
        // Where this fails it is closed already.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}
