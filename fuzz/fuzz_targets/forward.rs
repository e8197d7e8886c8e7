//! Fuzzes the forwarding decision and a whole worker; see `tests/fuzzing/forward.rs`.
#![no_main]

#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;
#[path = "../../tests/packets/mod.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::forward(input));
