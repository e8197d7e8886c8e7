//! Reads one TOML table key by key. A key of the wrong type or an unknown one is a finding, not the end of reading.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::Findings;

/// A key that a table may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What a value is: "99999 is not *a port*".
    pub(super) noun: &'static str,
    /// What would be right: "use *0 (any port) to 65535*".
    pub(super) expects: &'static str,
    pub(super) required: bool,
    pub(super) value: ValueKind,
}

/// What a value is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueKind {
    /// One of several kinds.
    #[default]
    Any,
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer,
    /// A list of strings.
    Texts,
    /// A table.
    Table,
    /// An array of tables.
    Tables,
}

impl Key {
    pub(super) const fn optional(name: &'static str, noun: &'static str, expects: &'static str) -> Self {
        Self { name, noun, expects, required: false, value: ValueKind::Any }
    }

    const fn holding(self, value: ValueKind) -> Self {
        Self { value, ..self }
    }

    pub(super) const fn required(name: &'static str, noun: &'static str, expects: &'static str) -> Self {
        Self { name, noun, expects, required: true, value: ValueKind::Any }
    }
}

/// A value of the right type, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<T> {
    pub(super) value: T,
    /// Byte offset of the value.
    pub(super) at: usize,
    pub(super) key: Key,
}

/// A word such as `"auto"` where otherwise a `T` stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum WordOr<'t, T> {
    Word(&'t str),
    Other(T),
}

/// Element of a list, and its byte offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table's place in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Full path, such as `virtual_service[2]`; empty for the file itself.
    pub(super) path: String,
    /// Byte offset of its header.
    pub(super) at: usize,
}

impl Place {
    /// Full path of a key of this table.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// A table that is being read.
pub(super) struct Table<'t> {
    pub(super) place: Place,
    /// How the file writes it, such as `[[virtual_service]]`.
    header: &'static str,
    entries: &'t DeTable<'t>,
    text: &'t str,
    findings: &'t Findings,
    /// Every key that was asked for, present or not: the reading code is the list of what is accepted.
    accepted: Vec<Key>,
    missing: Vec<Key>,
}

impl<'t> Table<'t> {
    /// The file itself.
    pub(super) fn root(entries: &'t DeTable<'t>, text: &'t str, findings: &'t Findings) -> Self {
        let (place, header) = (Place::default(), "the file");
        Self { place, header, entries, text, findings, accepted: Vec::new(), missing: Vec::new() }
    }

    /// Every key that was asked for so far.
    pub(super) fn accepted(&self) -> &[Key] {
        &self.accepted
    }

    pub(super) fn text(&mut self, key: Key) -> Option<Field<&'t str>> {
        let value = self.take(key.holding(ValueKind::Text))?;
        match value.get_ref() {
            DeValue::String(text) => Some(field(text, value, key)),
            _ => self.wrong_type(value, key),
        }
    }

    pub(super) fn flag(&mut self, key: Key) -> Option<Field<bool>> {
        let value = self.take(key.holding(ValueKind::Flag))?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(field(*flag, value, key)),
            _ => self.wrong_type(value, key),
        }
    }

    pub(super) fn integer(&mut self, key: Key) -> Option<Field<i64>> {
        let value = self.take(key.holding(ValueKind::Integer))?;
        match value.get_ref() {
            DeValue::Integer(digits) => self.number(digits, value, key).map(|number| field(number, value, key)),
            _ => self.wrong_type(value, key),
        }
    }

    pub(super) fn word_or_integer(&mut self, key: Key) -> Option<Field<WordOr<'t, i64>>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(word) => Some(field(WordOr::Word(word), value, key)),
            DeValue::Integer(digits) => {
                self.number(digits, value, key).map(|number| field(WordOr::Other(number), value, key))
            }
            _ => self.wrong_type(value, key),
        }
    }

    /// A list keeps its well-formed elements only: the others are findings already.
    pub(super) fn word_or_integers(
        &mut self,
        key: Key,
        element_noun: &str,
    ) -> Option<Field<WordOr<'t, Vec<Item<i64>>>>> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(word) => Some(field(WordOr::Word(word), value, key)),
            DeValue::Array(elements) => {
                let items = elements.iter().enumerate().filter_map(|(index, element)| match element.get_ref() {
                    DeValue::Integer(digits) => {
                        self.number(digits, element, key).map(|value| Item { value, at: element.span().start })
                    }
                    _ => self.wrong_element(element, key, index, element_noun),
                });
                Some(field(WordOr::Other(items.collect()), value, key))
            }
            _ => self.wrong_type(value, key),
        }
    }

    pub(super) fn texts(&mut self, key: Key, element_noun: &str) -> Option<Field<Vec<Item<&'t str>>>> {
        let value = self.take(key.holding(ValueKind::Texts))?;
        match value.get_ref() {
            DeValue::Array(elements) => {
                let items = elements.iter().enumerate().filter_map(|(index, element)| match element.get_ref() {
                    DeValue::String(text) => Some(Item { value: &**text, at: element.span().start }),
                    _ => self.wrong_element(element, key, index, element_noun),
                });
                Some(field(items.collect(), value, key))
            }
            _ => self.wrong_type(value, key),
        }
    }

    /// One table below this one, read by `read`.
    pub(super) fn table<T>(&mut self, key: Key, header: &'static str, read: fn(&mut Table<'t>) -> T) -> Option<T> {
        let value = self.take(key.holding(ValueKind::Table))?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(self.nested(entries, self.place.path_of(key.name), value, header, read)),
            _ => self.wrong_type(value, key),
        }
    }

    /// The tables of an array of tables, each read by `read`.
    pub(super) fn tables<T>(&mut self, key: Key, header: &'static str, read: fn(&mut Table<'t>) -> T) -> Vec<T> {
        let Some(value) = self.take(key.holding(ValueKind::Tables)) else { return Vec::new() };
        let DeValue::Array(elements) = value.get_ref() else {
            self.wrong_type::<()>(value, key);
            return Vec::new();
        };
        let path = self.place.path_of(key.name);
        let tables = elements.iter().enumerate().filter_map(|(index, element)| match element.get_ref() {
            DeValue::Table(entries) => Some(self.nested(entries, format!("{path}[{index}]"), element, header, read)),
            _ => self.wrong_element(element, key, index, "a table"),
        });
        tables.collect()
    }

    /// The same, but `None` where the key is not there.
    pub(super) fn tables_if_any<T>(
        &mut self,
        key: Key,
        header: &'static str,
        read: fn(&mut Table<'t>) -> T,
    ) -> Option<Vec<T>> {
        let is_there = self.entries.contains_key(key.name);
        let tables = self.tables(key, header, read);
        is_there.then_some(tables)
    }

    /// Reports the keys that nobody asked for, and the required ones that are not there.
    pub(super) fn finish(mut self) {
        for (name, _) in self.entries {
            if self.accepted.iter().any(|key| key.name == name.get_ref()) {
                continue;
            }
            if self.findings.is_full() {
                self.findings.refuse(name.span().start, String::new(), String::new());
                continue;
            }
            let suggestion = nearest(name.get_ref(), &self.accepted);
            let advice = match suggestion {
                Some(key) => format!("did you mean {}?", key.name),
                None => super::raw::advice_for_stray(name.get_ref(), self.header, &self.accepted),
            };
            let path = self.place.path_of(&printable_key(name.get_ref()));
            self.findings.refuse(name.span().start, path, format!("unknown key; {advice}"));
            // The slip of the pen is reported; that its right spelling is not there goes without saying.
            self.missing.retain(|key| Some(key.name) != suggestion.map(|key| key.name));
        }
        for key in &self.missing {
            let path = self.place.path_of(key.name);
            self.findings.refuse(self.place.at, path, format!("missing; set it to {}", key.expects));
        }
    }

    fn take(&mut self, key: Key) -> Option<&'t Spanned<DeValue<'t>>> {
        self.accepted.push(key);
        let value = self.entries.get(key.name);
        if value.is_none() && key.required {
            self.missing.push(key);
        }
        value
    }

    fn nested<T>(
        &self,
        entries: &'t DeTable<'t>,
        path: String,
        value: &Spanned<DeValue<'_>>,
        header: &'static str,
        read: fn(&mut Table<'t>) -> T,
    ) -> T {
        let place = Place { path, at: value.span().start };
        let mut table = Table { place, header, entries, accepted: Vec::new(), missing: Vec::new(), ..*self };
        let result = read(&mut table);
        table.finish();
        result
    }

    fn number(&self, digits: &DeInteger<'_>, value: &Spanned<DeValue<'_>>, key: Key) -> Option<i64> {
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        if number.is_none() {
            let message = format!("{} is not {}; use {}", self.shown(value), key.noun, key.expects);
            self.findings.refuse(value.span().start, self.place.path_of(key.name), message);
        }
        number
    }

    fn wrong_type<T>(&self, value: &Spanned<DeValue<'_>>, key: Key) -> Option<T> {
        self.refuse_type(value, key, self.place.path_of(key.name), key.noun)
    }

    fn wrong_element<T>(&self, element: &Spanned<DeValue<'_>>, key: Key, index: usize, noun: &str) -> Option<T> {
        self.refuse_type(element, key, format!("{}[{index}]", self.place.path_of(key.name)), noun)
    }

    fn refuse_type<T>(&self, value: &Spanned<DeValue<'_>>, key: Key, path: String, noun: &str) -> Option<T> {
        let problem = match value.get_ref() {
            DeValue::Array(_) => format!("a list is not {noun}"),
            DeValue::Table(_) => format!("a table is not {noun}"),
            // What was meant as a secret must not end up in a log.
            _ if key.name == "secret" => format!("the value is not a string, so not {noun}"),
            scalar => {
                let article = if scalar.is_integer() { "an" } else { "a" };
                format!("{} is {article} {}, not {noun}", self.shown(value), scalar.type_str())
            }
        };
        self.findings.refuse(value.span().start, path, format!("{problem}; use {}", key.expects));
        None
    }

    /// The value as the file writes it.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref() {
            DeValue::String(text) => quoted(text),
            _ => clipped(self.text.get(value.span()).unwrap_or("this")),
        }
    }
}

fn field<T>(value: T, at: &Spanned<DeValue<'_>>, key: Key) -> Field<T> {
    Field { value, at: at.span().start, key }
}

/// A text from the file in quotes, safe for a terminal and not too long.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", clipped(text))
}

/// An unknown key as a path shows it.
pub(super) fn printable_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { clipped(name) } else { quoted(name) }
}

fn clipped(text: &str) -> String {
    const MAX_SHOWN: usize = 60;
    let mut shown: String = text.chars().take(MAX_SHOWN).collect::<String>().escape_debug().to_string();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The accepted key that `name` is most likely a slip for.
fn nearest<'k>(name: &str, accepted: &'k [Key]) -> Option<&'k Key> {
    const LONGEST_NAME: usize = 40;
    const CLOSE: f64 = 0.8;
    if name.len() > LONGEST_NAME {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    accepted
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(&name, key.name), key))
        .map(|(likeness, key)| (if key.name.starts_with(&name) && name.len() > 2 { 1.0 } else { likeness }, key))
        .filter(|(likeness, key)| *likeness >= CLOSE || (key.name.len() < 8 && *likeness >= 0.6))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}
