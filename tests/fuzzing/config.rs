//! A configuration file, up to the forwarding table.

use pointsman::config;
use pointsman::director::plan::{STAND_IN_SOURCE, offline_plan};
use pointsman::table::ForwardingTable;

/// Slots of all services up to which a table is built; more take too long.
const MOST_SLOTS: u64 = 200_000;

/// The input is the file's text; what is not UTF-8 of it is replaced.
pub fn config(input: &[u8]) {
    const ORIGIN: &str = "the-file.toml";
    let text = String::from_utf8_lossy(input);
    let loaded = match config::parse(&text, ORIGIN) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(error.to_string().contains(ORIGIN), "a mistake without its place: {error}");
            return;
        }
    };
    for warning in &loaded.warnings {
        assert!(warning.to_string().contains(ORIGIN), "a warning without its place: {warning}");
    }
    let config = loaded.config;
    if let Some(secret) = config.director.secret.as_ref().filter(|secret| secret.len() > 24) {
        assert!(!format!("{config:?}").contains(secret.as_str()), "the secret is shown");
    }
    serde_json::to_string(&config).expect("a valid configuration has a JSON form");
    let mut keys: Vec<_> = config.virtual_services.iter().map(|service| service.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), config.virtual_services.len(), "a service is there twice");
    let slots: u64 = config.virtual_services.iter().map(|service| u64::from(service.table_size)).sum();
    if slots <= MOST_SLOTS {
        let table = ForwardingTable::build(&offline_plan(&config, STAND_IN_SOURCE), None);
        for (service, planned) in table.services().iter().zip(&config.virtual_services) {
            let weight: u64 = planned.real_servers.iter().map(|server| u64::from(server.weight)).sum();
            let expected = if weight > 0 { planned.table_size } else { 0 };
            assert_eq!(service.shares().iter().sum::<u32>(), expected, "a slot without a real server");
        }
    }
}
