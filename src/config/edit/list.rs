//! Lists of inline tables, rewritten as arrays of tables with the comments that stand in them.

use toml_edit::{Array, ArrayOfTables, Decor, InlineTable, Item, RawString, Table, Value};

/// Comments about a table or a key, each from its `#` on.
#[derive(Default)]
struct Comments {
    /// On lines of their own above it.
    above: Vec<String>,
    /// Behind it on its line.
    beside: Vec<String>,
}

/// Rewrites the list of `key` if it is one of inline tables.
pub(super) fn rewrite(table: &mut Table, key: &str) {
    let is_list = |array: &Array| !array.is_empty() && array.iter().all(Value::is_inline_table);
    if !table.get(key).and_then(Item::as_array).is_some_and(is_list) {
        return;
    }
    let around = take_around(table, key);
    let Some(item) = table.get_mut(key) else { return };
    let Item::Value(Value::Array(array)) = std::mem::take(item) else { return };
    let (of_elements, below) = inside(array.iter().map(Value::decor), array.trailing());
    let elements = array.into_iter().filter_map(|value| value.as_inline_table().cloned());
    let mut tables: ArrayOfTables =
        elements.zip(of_elements).map(|(element, comments)| rewritten(element, comments)).collect();
    if let Some(first) = tables.get_mut(0) {
        put_above(first, &around);
    }
    if let Some(last) = tables.len().checked_sub(1).and_then(|last| tables.get_mut(last)) {
        put_below(last, &below);
    }
    *item = Item::ArrayOfTables(tables);
}

/// Takes the value of `key` away, whose place an array of tables is to take. Returns the comments in and around it.
pub(super) fn take_empty(table: &mut Table, key: &str) -> Vec<String> {
    let mut comments = take_around(table, key);
    if let Some(Item::Value(Value::Array(array))) = table.remove(key) {
        comments.extend(lines(Some(array.trailing())).map(str::to_owned));
    }
    comments
}

/// Writes comments on lines of their own above the header of a table.
pub(super) fn put_above(table: &mut Table, comments: &[String]) {
    if comments.is_empty() {
        return;
    }
    let before = table.decor().prefix().and_then(RawString::as_str).unwrap_or("\n");
    let prefix = format!("\n{}{}", on_lines(comments), before.trim_start_matches('\n'));
    table.decor_mut().set_prefix(prefix);
}

fn put_below(table: &mut Table, comments: &[String]) {
    if comments.is_empty() {
        return;
    }
    let mut values: Vec<&mut Value> = table.iter_mut().filter_map(|(_, item)| item.as_value_mut()).collect();
    if let Some(last) = values.last_mut() {
        let before = last.decor().suffix().and_then(RawString::as_str).unwrap_or_default();
        let suffix = format!("{before}\n{}", on_lines(comments).trim_end());
        last.decor_mut().set_suffix(suffix);
    }
}

/// The comments above a key, and those behind its value. They are taken away from the key, which an array of tables
/// would repeat them with.
fn take_around(table: &mut Table, key: &str) -> Vec<String> {
    let behind: Vec<String> = table
        .get(key)
        .and_then(Item::as_value)
        .map_or_else(Vec::new, |value| lines(value.decor().suffix()).map(str::to_owned).collect());
    let Some(mut key) = table.key_mut(key) else { return behind };
    let mut comments: Vec<String> = lines(key.leaf_decor().prefix()).map(str::to_owned).collect();
    key.leaf_decor_mut().clear();
    comments.extend(behind);
    comments
}

/// One element, with the comments in it at its keys.
fn rewritten(element: InlineTable, comments: Comments) -> Table {
    let keys: Vec<String> = element.iter().map(|(key, _)| key.to_owned()).collect();
    // A key's prefix and its value's suffix, as if they were of one thing.
    let decors: Vec<Decor> = keys.iter().map(|key| around_pair(&element, key)).collect();
    let (of_keys, below) = inside(decors.iter(), element.trailing());
    let mut table = element.into_table();
    for (name, comments) in keys.iter().zip(of_keys) {
        if let Some(mut key) = table.key_mut(name).filter(|_| !comments.above.is_empty()) {
            key.leaf_decor_mut().set_prefix(on_lines(&comments.above));
        }
        if let Some(value) = table.get_mut(name).and_then(Item::as_value_mut).filter(|_| !comments.beside.is_empty()) {
            value.decor_mut().set_suffix(on_line(&comments.beside));
        }
    }
    put_below(&mut table, &below);
    put_above(&mut table, &comments.above);
    if !comments.beside.is_empty() {
        table.decor_mut().set_suffix(on_line(&comments.beside));
    }
    table
}

fn around_pair(element: &InlineTable, name: &str) -> Decor {
    let prefix = element.key(name).and_then(|key| key.leaf_decor().prefix()).cloned().unwrap_or_default();
    let suffix = element.get(name).and_then(|value| value.decor().suffix()).cloned().unwrap_or_default();
    Decor::new(prefix, suffix)
}

/// The comments of each thing in brackets, and those below the last. What stands on a line behind a thing and its comma
/// belongs to it, although the document has it in front of the next.
fn inside<'d>(decors: impl Iterator<Item = &'d Decor>, trailing: &RawString) -> (Vec<Comments>, Vec<String>) {
    let mut all: Vec<Comments> = Vec::new();
    let mut carried = Vec::new();
    for decor in decors {
        let mut above = std::mem::take(&mut carried);
        above.extend(behind(&mut all, decor.prefix()));
        all.push(Comments { above, beside: Vec::new() });
        carried = behind(&mut all, decor.suffix());
    }
    carried.extend(behind(&mut all, Some(trailing)));
    (all, carried)
}

/// Gives the comment on the first line to the thing before; returns the others.
fn behind(all: &mut [Comments], raw: Option<&RawString>) -> Vec<String> {
    let text = raw.and_then(RawString::as_str).unwrap_or_default();
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (first, rest) = (comments_in(first), comments_in(rest).map(str::to_owned));
    match all.last_mut() {
        Some(before) => {
            before.beside.extend(first.map(str::to_owned));
            rest.collect()
        }
        None => first.map(str::to_owned).chain(rest).collect(),
    }
}

fn lines(raw: Option<&RawString>) -> impl Iterator<Item = &str> {
    comments_in(raw.and_then(RawString::as_str).unwrap_or_default())
}

/// The comments of a text that is nothing but comments and white space.
fn comments_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn on_lines(comments: &[String]) -> String {
    comments.iter().map(|comment| format!("{comment}\n")).collect()
}

fn on_line(comments: &[String]) -> String {
    comments.iter().map(|comment| format!(" {comment}")).collect()
}
