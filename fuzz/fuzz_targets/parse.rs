//! Fuzzes the parser and the twin of the XDP program; see `tests/fuzzing/parse.rs`.
#![no_main]

#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;
#[path = "../../tests/packets/mod.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::parse(input));
