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

/// Returns what is free to the kernel: after the command line was read, after the first starts.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time and touches no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
    drop_text();
}

/// The program's own pages that nobody writes, its text above all: the kernel has them in its cache and maps again what
/// is needed from now on. Most of a program is for its start, or for other commands.
fn drop_text() {
    // Both are put there by the linker: the first byte of the program, and the last of its text.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let (from, to) = (&raw const __executable_start, &raw const etext);
    let page = rustix::param::page_size();
    let length = (to.addr() & !page.wrapping_sub(1)).saturating_sub(from.addr());
    // SAFETY: all that lies between the two is mapped from the file, and the program does not write there (what the loader
    // writes comes behind the text), so what is dropped is read again as it was. A debugger's breakpoints go with it.
    // Gaps between its parts are passed over.
    unsafe {
        libc::madvise(from.cast_mut().cast(), length, libc::MADV_DONTNEED);
    }
}
