//! Rule sets as `-S` writes them and `-R` reads them: one command line each, without the program's name.

use super::Refusal;
use super::command::{Command, parse};

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
        let words = line.split_ascii_whitespace().filter(|word| *word != "ipvsadm");
        let words: Vec<String> = words.map(str::to_owned).collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let command = parse(program, &words).map_err(|refusal| (line_number, refusal))?;
        match command {
            Command::Restore => return Err((line_number, Refusal::try_help(program))),
            Command::List(_) | Command::Save { .. } | Command::Help | Command::Version | Command::Zero(_) => {
                return Err((
                    line_number,
                    Refusal::line(format!("{} is no rule; rules are -A, -E, -D, -C, -a, -e, -d and --set", words[0])),
                ));
            }
            command => rules.push(Rule { line: line_number, command }),
        }
    }
    Ok(rules)
}
