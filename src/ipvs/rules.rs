//! Rule sets as `-S` writes them and `-R` reads them: one command line each, without the program's name.

use super::Refusal;
use super::command::Command;
use super::line::parse;

/// One rule, and the line that it stands in, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The line.
    pub line: usize,
    /// What it asks for.
    pub command: Command,
}

/// Reads rules. Empty lines are left out, and so are lines that begin with `#`; a line may begin with the word
/// `ipvsadm`.
///
/// # Errors
/// The first line that is refused, with its number.
pub fn read_rules(program: &str, text: &str) -> Result<Vec<Rule>, (usize, Refusal)> {
    let mut rules = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let Some(words) = words(line) else { continue };
        let command = parse(program, &words).map_err(|refusal| (line_number, refusal))?;
        match command {
            Command::Restore => return Err((line_number, Refusal::try_help(program))),
            Command::List(_) | Command::Save { .. } | Command::Help | Command::Version => {
                return Err((
                    line_number,
                    Refusal::line(format!(
                        "{} is no rule; rules are -A, -E, -D, -C, -a, -e, -d, -Z and --set",
                        words[0]
                    )),
                ));
            }
            command => rules.push(Rule { line: line_number, command }),
        }
    }
    Ok(rules)
}

/// The words of a rule; `None` if the line has none.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let words = line.split_ascii_whitespace().filter(|word| *word != "ipvsadm");
    let words: Vec<String> = words.map(str::to_owned).collect();
    words.first().is_some_and(|word| !word.starts_with('#')).then_some(words)
}
