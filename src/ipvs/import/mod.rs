//! From what other directors are configured by to a configuration: saved rule sets and keepalived's configuration.

mod block;
mod check;
mod keepalived;

use std::collections::BTreeSet;

use super::command::Command;
use super::edit::edits;
use super::line::parse;
use super::rules::{self, Rule};
use super::{BAD_LINE, Refusal};
use crate::config;
use crate::config::edit::apply;
use crate::service::ServiceKey;

/// A configuration, and what of the source is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration, in TOML.
    pub document: String,
    /// What was not taken over, a sentence for each, with its line.
    pub warnings: Vec<String>,
}

/// What stands at the head of an imported configuration.
const HEAD: &str = "\
# Made by `pointsman ipvs import`. A running director needs [[interface]] tables and should have a secret:
#   [director]
#   secret = \"...\"
#   [[interface]]
#   name = \"eth0\"

";

/// Makes a configuration of a saved rule set or of a keepalived.conf; which of them it is shows in the text.
///
/// # Errors
/// The text is neither, or what comes out is not accepted as a configuration.
pub fn import(text: &str) -> Result<Imported, Refusal> {
    let refused = |message: String| Refusal { message, code: BAD_LINE };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let (document, warnings) = match lines.next() {
        None => return Err(refused("there is nothing in it but comments".to_owned())),
        Some(line) if line.starts_with('-') || line.starts_with("ipvsadm") => of_rules(text).map_err(refused)?,
        Some(_) if text.contains('{') => keepalived::convert(text).map_err(refused)?,
        Some(line) => {
            return Err(refused(format!(
                "{line:?} begins neither a rule set (what `ipvsadm -S -n` prints) nor a keepalived.conf"
            )));
        }
    };
    let document = format!("{HEAD}{document}");
    config::parse(&document, "imported").map_err(|error| refused(error.to_string()))?;
    Ok(Imported { document, warnings })
}

/// Of a rule set. Rules for what pointsman does not have are left out.
fn of_rules(text: &str) -> Result<(String, Vec<String>), String> {
    let mut taken = Vec::new();
    let mut warnings = Vec::new();
    let mut services: BTreeSet<ServiceKey> = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let Some(words) = rules::words(line) else { continue };
        let command = match parse("ipvsadm", &words) {
            Ok(command) => command,
            Err(refusal) => {
                warnings.push(format!("line {}: left out: {refusal}", at + 1));
                continue;
            }
        };
        let known = match &command {
            Command::AddService(service, _) => services.insert(*service),
            Command::EditService(service, _) | Command::AddServer(service, _) => services.contains(service),
            Command::EditServer(service, _) | Command::DeleteServer(service, _) => services.contains(service),
            Command::DeleteService(service) => services.remove(service),
            Command::Clear => {
                services.clear();
                true
            }
            Command::SetTimeouts(_) => true,
            _ => false,
        };
        if known {
            taken.push(Rule { line: at + 1, command });
        } else {
            warnings.push(format!("line {}: left out: its virtual service is not here, or there already", at + 1));
        }
    }
    let at_line = |position: usize, message: String| format!("line {}: {message}", taken[position].line);
    let prepared = edits(&taken, &[]);
    let edited = apply("", &prepared.changes).map_err(|why| at_line(prepared.rules[why.position], why.to_string()))?;
    Ok((edited.text, warnings))
}
