//! Settings as a command line has them: `weight=2`.

use std::str::FromStr;

use serde_json::{Value, json};

use super::Settings;
use crate::config::{ValueKind, accepted_keys};

/// One key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value as it was written; empty takes the key away.
    pub text: String,
}

/// A text that sets nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} sets nothing; write KEY=VALUE, as weight=2, or KEY= to take a key away")]
pub struct ParseSettingError(String);

impl FromStr for Setting {
    type Err = ParseSettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), text: value.trim().to_owned() })
            }
            _ => Err(ParseSettingError(text.to_owned())),
        }
    }
}

impl Setting {
    /// Settings of a table, as `virtual_service`. Of the same key the last one holds.
    #[must_use]
    pub fn collect(settings: &[Self], table: &str) -> Settings {
        let keys = accepted_keys();
        let is_text =
            |name: &str| keys.iter().any(|key| key.table == table && key.name == name && key.value == ValueKind::Text);
        settings.iter().map(|setting| (setting.key.clone(), setting.value(is_text(&setting.key)))).collect()
    }

    /// The value in JSON: what TOML reads, or else a string, so that quotes may be left out.
    fn value(&self, is_text: bool) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        match toml::from_str::<toml::Table>(&format!("value = {}", self.text)).map(|mut table| table.remove("value")) {
            Ok(Some(toml::Value::String(text))) => json!(text),
            Ok(Some(value)) if !is_text && !matches!(value, toml::Value::Datetime(_)) => {
                serde_json::to_value(value).unwrap_or_else(|_| json!(self.text))
            }
            _ => json!(self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_need_quotes_only_where_they_would_be_something_else() {
        for (table, text, value) in [
            ("virtual_service.real_server", "weight=2", json!({ "weight": 2 })),
            ("virtual_service.real_server", " weight = ", json!({ "weight": null })),
            ("virtual_service.real_server", "mac=02:00:00:00:00:01", json!({ "mac": "02:00:00:00:00:01" })),
            ("virtual_service.real_server", "quic_server_id=1234", json!({ "quic_server_id": "1234" })),
            ("virtual_service.real_server", "mac=\"x\"", json!({ "mac": "x" })),
            ("virtual_service", "scheduler=mh", json!({ "scheduler": "mh" })),
            ("virtual_service", "quic=true", json!({ "quic": true })),
            ("virtual_service", "new_key={ a = [1, \"b\"] }", json!({ "new_key": { "a": [1, "b"] } })),
            ("virtual_service", "new_key=1979-05-27", json!({ "new_key": "1979-05-27" })),
        ] {
            assert_eq!(Value::Object(Setting::collect(&[text.parse().unwrap()], table)), value, "{text}");
        }
        assert!("weight".parse::<Setting>().is_err() && "=2".parse::<Setting>().is_err());
    }
}
