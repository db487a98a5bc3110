//! Memory that was needed once is given back: the keeper lives for years on what it needs now.
#![expect(unsafe_code, reason = "the allocator's knobs have no safe interface")]

/// One arena for all threads: each further one keeps what its thread once needed (glibc makes
/// eight for each processor).
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) with a known parameter; called before other threads are started.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free pages to the kernel: after the command line was read, after the first scan.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time and touches no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}
