//! The configuration from the outside: files in, settings or messages out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pointsman::config::{self, Config, ConfigError, Loaded};
use proptest::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs")
}

/// Each file in `tests/configs` says exactly what the `.expected` beside it says: `bad-*` mistakes, `good-*` warnings.
/// With `BLESS=1` the expectations are written anew, to be read before they are committed.
#[test]
fn every_file_gets_its_messages() {
    let mut files = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        files += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let said = match config::parse(&text, name) {
            Ok(Loaded { warnings, .. }) => {
                assert!(name.starts_with("good-"), "{name} was accepted");
                warnings.iter().map(|warning| format!("{warning}\n")).collect::<String>()
            }
            Err(error) => {
                assert!(name.starts_with("bad-"), "{name} was refused: {error}");
                format!("{error}\n")
            }
        };
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "the messages of {name}");
    }
    assert!(files >= 12, "only {files} files were found");
}
