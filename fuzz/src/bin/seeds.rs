//! Writes what to begin with. It has no input; it is a target because what is built for coverage links as one.
#![no_main]
libfuzzer_sys::fuzz_target!(init: zoo_fuzz::seeds::write_all().expect("the seeds are written"), |_bytes: &[u8]| {});
