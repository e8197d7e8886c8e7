//! The secret, which no answer shows: documents go out without it and come back with it.

use std::borrow::Cow;

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// What stands in the place of the secret.
pub const HIDDEN: &str = "(hidden)";

/// The document with [`HIDDEN`] in the place of its secret.
#[must_use]
pub fn without_secret(text: &str) -> Cow<'_, str> {
    if !text.contains("secret") {
        return Cow::Borrowed(text);
    }
    replaced(text, |_| Some(HIDDEN))
}

/// The document with `secret` in the place of [`HIDDEN`]: what was shown can be sent back.
#[must_use]
pub fn with_secret<'t>(text: &'t str, secret: Option<&str>) -> Cow<'t, str> {
    if !text.contains(HIDDEN) {
        return Cow::Borrowed(text);
    }
    replaced(text, |found| secret.filter(|_| found == HIDDEN))
}

fn replaced<'t, 's>(text: &'t str, replacement: impl FnOnce(&str) -> Option<&'s str>) -> Cow<'t, str> {
    let Ok(mut document) = text.parse::<DocumentMut>() else { return Cow::Borrowed(text) };
    let director = document.get_mut("director").and_then(Item::as_table_like_mut);
    let Some(value) = director.and_then(secret_of) else { return Cow::Borrowed(text) };
    let Some(new) = value.as_str().and_then(replacement) else { return Cow::Borrowed(text) };
    let decor = value.decor().clone();
    *value = Value::from(new);
    *value.decor_mut() = decor;
    Cow::Owned(document.to_string())
}

fn secret_of(director: &mut dyn TableLike) -> Option<&mut Value> {
    director.get_mut("secret")?.as_value_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_without_the_secret_comes_back_with_it() {
        for text in
            ["[director]\nsecret = \"s\"  # ours\n", "director.secret = \"s\"\n", "director = { secret = 's' }\n"]
        {
            let shown = without_secret(text);
            assert!(shown.contains(HIDDEN) && !shown.contains("\"s\"") && !shown.contains("'s'"), "{shown}");
            assert_eq!(with_secret(&shown, Some("s")), text.replace('\'', "\""));
        }
        for text in ["# (hidden) secret\n[director]\n", "[[[ secret", "x = 1"] {
            assert_eq!(without_secret(text), text);
            assert_eq!(with_secret(text, Some("s")), text);
        }
    }
}
