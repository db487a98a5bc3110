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

/// Lets go of the pages of this program's code: what a start needs and nothing after it stays in the
/// page cache, and no longer in this process. What runs next is mapped again, 16 pages a fault.
pub fn release_code() {
    // SAFETY: the callback is called for the program itself first and stops there.
    unsafe {
        libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut());
    }
}

unsafe extern "C" fn release_segments(
    program: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader hands over a valid description whose headers are in memory. Code segments are
    // private mappings of a file that nothing writes to, so dropping them loses nothing.
    unsafe {
        let program = &*program;
        let headers = std::slice::from_raw_parts(program.dlpi_phdr, program.dlpi_phnum.into());
        let page = libc::sysconf(libc::_SC_PAGESIZE).max(1) as usize;
        for code in headers.iter().filter(|header| {
            header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 && header.p_flags & libc::PF_W == 0
        }) {
            let from = program.dlpi_addr as usize + code.p_vaddr as usize;
            let (first, last) = (from & !(page - 1), from + code.p_memsz as usize);
            libc::madvise(first as *mut libc::c_void, last.saturating_sub(first), libc::MADV_DONTNEED);
        }
    }
    1
}
