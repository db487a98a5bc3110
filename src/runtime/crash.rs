//! A panic anywhere in the controller ends it, and the keeper starts the next, which finds everything again within
//! milliseconds. A thread or a task that ended alone would leave one that looks alive: statuses that nobody
//! writes, pipes that nobody reads, manifests that nobody sees.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From now on. What happened is said first.
pub(super) fn ends_all() {
    leave_no_core();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        std::process::abort();
    }));
    #[cfg(debug_assertions)]
    panic_for_a_test();
}

/// What was read from files of secrets is in our memory. One byte: 0 would still be handed to a program that
/// collects cores (core(5)).
fn leave_no_core() {
    let given = getrlimit(Resource::Core);
    let least = given.maximum.map_or(1, |most| most.min(1));
    let _as_it_was = setrlimit(Resource::Core, Rlimit { current: Some(least), ..given });
}

/// Once, in a thread of its own, where the file that `PLUGD_TEST_PANIC` names can be taken away.
#[cfg(debug_assertions)]
fn panic_for_a_test() {
    let asked = std::env::var_os("PLUGD_TEST_PANIC").is_some_and(|file| std::fs::remove_file(file).is_ok());
    if asked {
        let ended = std::thread::Builder::new().name("lost".into()).spawn(|| panic!("a test asked for it"));
        drop(ended);
    }
}
