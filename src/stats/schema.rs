//! The JSON Schema of the statistics document.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::report::{Drops, Report, SCHEMA_VERSION};
use crate::verdict::DropReason;

/// The JSON Schema (draft 2020-12) of [`Report`], which docs/stats.schema.json holds.
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Report);
    schema.insert("title".to_owned(), json!("Statistics of pointsman"));
    if let Some(version) = schema.pointer_mut("/properties/schema_version").and_then(Value::as_object_mut) {
        version.insert("const".to_owned(), json!(SCHEMA_VERSION));
    }
    schema
}

impl JsonSchema for Drops {
    fn schema_name() -> Cow<'static, str> {
        "Drops".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let count = generator.subschema_for::<u64>();
        let causes: Map<String, Value> =
            DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), count.clone().to_value())).collect();
        json_schema!({
            "description": "Frames dropped, by cause. Every cause that the program knows is present.",
            "type": "object",
            "properties": causes,
            "required": DropReason::ALL.map(DropReason::name),
            "additionalProperties": count,
        })
    }
}
