//! The documents of generator and sink, and their command lines as far as they need no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod program;

use std::collections::BTreeSet;
use std::fs;

use pointsman::generator::report::schema;
use program::run;
use serde_json::{Value, json};

const SCHEMA_FILE: &str = "docs/generator.schema.json";
const DOCUMENTATION: &str = "docs/generator.md";

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(SCHEMA_FILE, &generated).unwrap();
    }
    let committed = fs::read_to_string(SCHEMA_FILE).unwrap();
    assert!(
        committed == generated,
        "{SCHEMA_FILE} is out of date: run UPDATE_SCHEMA=1 cargo test --test generator, and update {DOCUMENTATION}"
    );
}

#[test]
fn the_schema_is_one_and_refuses_what_is_no_document() {
    let schema: Value = serde_json::from_str(&fs::read_to_string(SCHEMA_FILE).unwrap()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for other in [json!({}), json!({"kind": "generator"}), json!({"kind": "director"}), json!([])] {
        assert!(!validator.is_valid(&other), "{other}");
    }
}

/// Those that the statistics document has, too, are described there.
#[test]
fn every_field_is_described() {
    let mut names = BTreeSet::new();
    property_names(schema().as_value(), &mut names);
    let text = fs::read_to_string(DOCUMENTATION).unwrap() + &fs::read_to_string("docs/stats.md").unwrap();
    let missing: Vec<_> = names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(names.len() > 60 && missing.is_empty(), "not in {DOCUMENTATION}: {missing:?}");
}

fn property_names(schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        names.extend(properties.keys().cloned());
    }
    match schema {
        Value::Object(members) => members.values().for_each(|member| property_names(member, names)),
        Value::Array(items) => items.iter().for_each(|item| property_names(item, names)),
        _ => {}
    }
}

#[test]
fn nothing_is_sent_or_received_without_an_interface_that_was_named() {
    for arguments in [&["gen", "--service", "udp 192.0.2.1:80"][..], &["sink"]] {
        let said = run(arguments.iter().copied());
        assert!(said.code == Some(2) && said.err.contains("--interface"), "{}", said.err);
    }
    for arguments in
        [&["gen", "-i", "no-such-0", "--service", "udp 192.0.2.1:80", "--count", "1"][..], &["sink", "-i", "no-such-0"]]
    {
        let said = run(arguments.iter().copied());
        assert!(said.code == Some(1) && said.err.contains("no-such-0"), "{}", said.err);
    }
}

#[test]
fn a_wrong_word_is_named_with_what_would_be_right() {
    for (option, value, said) in [
        ("--service", "http 192.0.2.1", "udp 192.0.2.1:53"),
        ("--size", "9000", "64 to 1514"),
        ("--rate", "fast", "250k"),
        ("--flows", "0", "64k"),
        ("--order", "random", "shuffled"),
        ("--burst", "513", "1 to 512"),
        ("--queues", "1,1", "0-3"),
    ] {
        let output = run(["gen", "-i", "no-such-0", "--service", "udp 192.0.2.1:80", option, value]);
        assert!(output.code == Some(2) && output.err.contains(said), "{option} {value}: {}", output.err);
    }
    let output = run(["sink", "-i", "no-such-0", "--real-server", "01:00:5e:00:00:01"]);
    assert!(output.code == Some(2) && output.err.contains("=web1"), "{}", output.err);
}
