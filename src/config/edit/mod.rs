//! Changes of a configuration's text: what a command at run time does to the document that the director runs by.
//!
//! A change edits the text and nothing else. What comes out is a text like any other: it goes through
//! [`parse`](super::parse) as a file does, which is where values are judged. So comments stay, and there is one door
//! to the director. Keys and values pass through as they are: a key that the configuration knows needs no code here.

mod document;
mod list;
mod secret;
mod setting;
mod value;

pub use secret::{HIDDEN, with_secret, without_secret};
pub use setting::{ParseSettingError, Setting};

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::service::{ServiceKey, as_text};
use document::Document;

/// Keys and values of a virtual service or a real server, as in the file. `null` takes a key away, so that its default
/// holds again; tables below are merged in the same way (RFC 7396).
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Puts another document in the place of all.
    Replace {
        /// The document, in TOML.
        document: String,
    },
    /// Sets keys of the director as a whole. Those that need a restart are only noted.
    EditDirector {
        /// The keys that change.
        settings: Settings,
    },
    /// Takes all virtual services away.
    Clear {
        /// Whether a service or a real server that the same batch adds again keeps the keys that it is not given:
        /// health checks, MAC addresses and the like.
        #[serde(default)]
        keep_settings: bool,
    },
    /// Adds a virtual service, which must not be there.
    AddService {
        /// Its name, as `tcp 192.0.2.1:80`.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
        /// Its keys, and its real servers if it is to have any.
        #[serde(default)]
        settings: Settings,
    },
    /// Sets keys of a virtual service.
    EditService {
        /// Its name.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
        /// The keys that change.
        settings: Settings,
    },
    /// Takes a virtual service and its real servers away.
    DeleteService {
        /// Its name.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
    },
    /// Adds a real server, which the service must not have.
    AddRealServer {
        /// The service's name.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
        /// Its address.
        address: IpAddr,
        /// Its keys.
        #[serde(default)]
        settings: Settings,
    },
    /// Sets keys of a real server.
    EditRealServer {
        /// The service's name.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
        /// Its address.
        address: IpAddr,
        /// The keys that change.
        settings: Settings,
    },
    /// Takes a real server away.
    DeleteRealServer {
        /// The service's name.
        #[serde(with = "as_text")]
        #[schemars(with = "String")]
        service: ServiceKey,
        /// Its address.
        address: IpAddr,
    },
}

/// Why a change cannot be made. What a value may be is not judged here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A service that is to be added.
    #[error("there is a virtual service {0} already; edit it, or delete it first")]
    ServiceExists(ServiceKey),
    /// A service that is to be changed.
    #[error("there is no virtual service {0}; add it first")]
    NoService(ServiceKey),
    /// A real server that is to be added.
    #[error("{service} has a real server {address} already; edit it, or delete it first")]
    RealServerExists {
        /// The service.
        service: ServiceKey,
        /// The real server.
        address: IpAddr,
    },
    /// A real server that is to be changed.
    #[error("{service} has no real server {address}; add it first")]
    NoRealServer {
        /// The service.
        service: ServiceKey,
        /// The real server.
        address: IpAddr,
    },
    /// A key that is part of the name has another value in the settings.
    #[error("{key} is part of the name and cannot be changed; delete the old one and add a new one")]
    Name {
        /// The key.
        key: String,
    },
    /// A value that TOML has not.
    #[error("{key}: {problem}")]
    Value {
        /// Path of the key below the settings.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The document that is to be changed is none.
    #[error(transparent)]
    Document(#[from] ConfigError),
}

/// A change that cannot be made, and which of the given ones it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct RefusedChange {
    /// Its position, from 0.
    pub position: usize,
    /// Why.
    #[source]
    pub error: ChangeError,
}

/// A changed document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Its text.
    pub text: String,
    /// Whether the text is a whole document as it was given.
    as_given: bool,
    /// For each change the table that it touched last, as a path in the text; empty if it left none.
    tables: Vec<String>,
}

impl Edited {
    /// Whether the text is one that was given as a whole, so that its lines are known to who gave it.
    #[must_use]
    pub fn is_as_given(&self) -> bool {
        self.as_given
    }

    /// The change that wrote what stands at `path`, a key as a [`Finding`](super::Finding) names it, and the rest of
    /// the path below the table that the change was about.
    #[must_use]
    pub fn author_of<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        let below = |table: &str| match path.strip_prefix(table) {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('.'),
            None => None,
        };
        let candidates = self.tables.iter().enumerate().rev().filter(|(_, table)| !table.is_empty());
        let found = candidates.filter_map(|(at, table)| Some((at, table.len(), below(table)?)));
        found.max_by_key(|(at, length, _)| (*length, *at)).map(|(at, _, rest)| (at, rest))
    }
}

/// Makes all `changes` of the document `text`, in their order: all or none. The text is parsed once, whatever their
/// number.
///
/// # Errors
/// The first change that cannot be made.
pub fn apply(text: &str, changes: &[Change]) -> Result<Edited, RefusedChange> {
    let last_whole = changes.iter().rposition(|change| matches!(change, Change::Replace { .. }));
    let (text, first) = match last_whole.map(|at| (at, &changes[at])) {
        Some((at, Change::Replace { document })) => (document.as_str(), at + 1),
        _ => (text, 0),
    };
    let mut tables = vec![String::new(); first];
    let rest = &changes[first..];
    if rest.is_empty() {
        return Ok(Edited { text: text.to_owned(), as_given: last_whole.is_some(), tables });
    }
    let refused = |position| move |error| RefusedChange { position, error };
    let mut document = Document::read(text).map_err(refused(first.saturating_sub(1)))?;
    let mut marks = Vec::with_capacity(rest.len());
    for (at, change) in rest.iter().enumerate() {
        marks.push(document.make(change).map_err(refused(first + at))?);
    }
    let (text, paths) = document.write(&marks);
    tables.extend(paths);
    Ok(Edited { text, as_given: false, tables })
}

/// A document of settings: every table that a file may have, in TOML.
///
/// # Errors
/// A value that TOML has not.
pub fn document_of(settings: &Settings) -> Result<String, ChangeError> {
    let mut document = toml_edit::DocumentMut::new();
    value::merge(document.as_table_mut(), settings, "")?;
    Ok(document.to_string())
}

#[cfg(test)]
mod tests;
