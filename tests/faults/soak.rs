//! How large a sweep is. Shared by every suite that has one, so that one word enlarges them all.

/// What minutes are to hours.
const SOAK: usize = 100;

/// The size of every push; a hundred times as much where `PLUGD_SOAK` is set, whatever its value.
pub fn times(size: usize) -> usize {
    if std::env::var_os("PLUGD_SOAK").is_some() { size * SOAK } else { size }
}
