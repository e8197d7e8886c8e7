//! From JSON to TOML: values of settings into tables.

use std::sync::LazyLock;

use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, TableLike, Value};

use super::{ChangeError, Settings, list};
use crate::config::{AcceptedKey, accepted_keys};

/// Sets keys of a table; what is not named stays, and so do comments. `path` says which table it is, for the order of
/// new keys: that in which the documentation has them.
pub(super) fn merge(table: &mut Table, settings: &Settings, path: &str) -> Result<(), ChangeError> {
    static KEYS: LazyLock<Vec<AcceptedKey>> = LazyLock::new(accepted_keys);
    let place = |name: &str| KEYS.iter().position(|key| key.table == path && key.name == name).unwrap_or(KEYS.len());
    let mut named: Vec<(&String, &Json)> = settings.iter().collect();
    named.sort_by_key(|(name, _)| place(name));
    for (name, value) in named {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Json::Array(elements) if is_list_of_tables(elements) => {
                let mut tables = ArrayOfTables::new();
                for element in elements.iter().filter_map(Json::as_object) {
                    let mut new = Table::new();
                    merge(&mut new, element, &below)?;
                    tables.push(new);
                }
                table.insert(name, Item::ArrayOfTables(tables));
            }
            Json::Object(element) if path.is_empty() => {
                let mut new = Table::new();
                merge(&mut new, element, &below)?;
                table.insert(name, Item::Table(new));
            }
            value => set(table, name, value, name)?,
        }
    }
    Ok(())
}

/// The array of tables of a key, which may be written as a list of inline tables: it is then rewritten.
pub(super) fn tables_of<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut ArrayOfTables> {
    list::rewrite(table, key);
    table.get_mut(key)?.as_array_of_tables_mut()
}

fn is_list_of_tables(elements: &[Json]) -> bool {
    !elements.is_empty() && elements.iter().all(Json::is_object)
}

/// Sets one key; `path` is its path below the settings.
fn set(table: &mut dyn TableLike, name: &str, value: &Json, path: &str) -> Result<(), ChangeError> {
    if value.is_null() {
        table.remove(name);
        return Ok(());
    }
    if let (Json::Object(settings), Some(below)) = (value, table.get_mut(name).and_then(Item::as_table_like_mut)) {
        return settings.iter().try_for_each(|(name, value)| set(below, name, value, &format!("{path}.{name}")));
    }
    let mut new = converted(value, path)?;
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            // The comment behind it stays.
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => drop(table.insert(name, Item::Value(new))),
    }
    Ok(())
}

/// A value on one line.
fn converted(value: &Json, path: &str) -> Result<Value, ChangeError> {
    let refuse = |problem| ChangeError::Value { key: path.to_owned(), problem };
    Ok(match value {
        Json::Null => return Err(refuse("a list cannot have null in it; leave it out")),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(float)) if !number.is_u64() => Value::from(float),
            _ => return Err(refuse("the number is too large; use one below 2^63")),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(elements) => {
            let mut array = Array::new();
            for (at, element) in elements.iter().enumerate() {
                array.push(converted(element, &format!("{path}[{at}]"))?);
            }
            Value::Array(array)
        }
        Json::Object(settings) => {
            let mut table = InlineTable::new();
            for (name, value) in settings.iter().filter(|(_, value)| !value.is_null()) {
                table.insert(name, converted(value, &format!("{path}.{name}"))?);
            }
            Value::InlineTable(table)
        }
    })
}
