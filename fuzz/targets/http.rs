#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plugd::fuzz::feed("http", bytes));
