//! The allocator of the binaries, and how soon it gives back to the system what is free.

use std::ffi::{c_int, c_long};

/// A frame is a handful of small pieces that one thread makes and another lets go of: what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's own list, which the bindings do not name.
const PURGE_DELAY: c_int = 15;

/// Free memory goes back after this many milliseconds. Of itself the allocator waits a second and then until somebody
/// allocates: a node that has been asked for much would keep hundreds of MiB for as long as it rests.
const SOON: c_long = 10;

/// Lets the allocator give back soon what is free. To be called at the beginning of `main`; what `MIMALLOC_PURGE_DELAY`
/// says counts more.
pub fn give_back_soon() {
    // SAFETY: a setter of one number, for any thread at any time; the option is one that this version has.
    #[allow(unsafe_code, reason = "the bindings have no safe form of it")]
    unsafe {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, SOON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "the bindings have no safe form of it")]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: getters and setters of one number.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        give_back_soon();
        let after = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!((before, after), (1_000, SOON), "another version of mimalloc has another list of options");
    }
}
