//! Services, real servers and configurations as JSON. Their keys are those of the configuration, which the reading code
//! lists: a new key needs nothing here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::edit::Settings;
use crate::config::{AcceptedKey, ValueKind, accepted_keys};

const SERVICE: &str = "virtual_service";
const REAL_SERVER: &str = "virtual_service.real_server";

/// What is done with the keys of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// All that are required must be there.
    Add,
    /// Those that change; `null` takes a key away.
    Edit,
    /// What is in force; `null` where a key is not set.
    Show,
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, $table:expr, $use:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Settings);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                table_schema($table, $use)
            }
        }
    };
}

document!(
    /// A virtual service that is to be added.
    NewService, SERVICE, Use::Add
);
document!(
    /// Settings of a virtual service.
    ServiceEdit, SERVICE, Use::Edit
);
document!(
    /// A virtual service as it is in force, with its real servers.
    ServiceDocument, SERVICE, Use::Show
);
document!(
    /// A real server that is to be added.
    NewRealServer, REAL_SERVER, Use::Add
);
document!(
    /// Settings of a real server.
    RealServerEdit, REAL_SERVER, Use::Edit
);
document!(
    /// A real server as it is in force.
    RealServerDocument, REAL_SERVER, Use::Show
);
document!(
    /// A whole configuration.
    ConfigDocument, "", Use::Edit
);

/// The schema of a table of the configuration.
fn table_schema(table: &str, usage: Use) -> Schema {
    let all = accepted_keys();
    let of_table: Vec<&AcceptedKey> = all.iter().filter(|key| key.table == table).collect();
    let properties: Map<String, Value> =
        of_table.iter().map(|key| (key.name.to_owned(), key_schema(key, usage))).collect();
    let mut schema = json_schema!({ "type": "object", "properties": properties });
    if usage != Use::Show {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    if usage == Use::Add {
        let required: Vec<&str> = of_table.iter().filter(|key| key.required).map(|key| key.name).collect();
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn key_schema(key: &AcceptedKey, usage: Use) -> Value {
    let table = if key.table.is_empty() { key.name.to_owned() } else { format!("{}.{}", key.table, key.name) };
    // The tables of a list are whole ones, whatever is done with the list.
    let element = if usage == Use::Show { Use::Show } else { Use::Add };
    let value = match key.value {
        ValueKind::Any => json!({}),
        ValueKind::Text => json!({ "type": "string" }),
        ValueKind::Flag => json!({ "type": "boolean" }),
        ValueKind::Integer => json!({ "type": "integer" }),
        ValueKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        ValueKind::Table => table_schema(&table, usage).to_value(),
        ValueKind::Tables => json!({ "type": "array", "items": table_schema(&table, element) }),
    };
    let mut value = match (usage, key.value) {
        (Use::Add, _) if key.required => value,
        (_, ValueKind::Any) => value,
        _ => json!({ "anyOf": [value, { "type": "null" }] }),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("description".to_owned(), json!(key.expects));
    }
    value
}
