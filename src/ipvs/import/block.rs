//! The form of a keepalived.conf: lines of words, some of which begin a block.

/// A line, with the block that it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its line, from 1.
    pub(super) line: usize,
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    /// What stands in its block.
    pub(super) inner: Vec<Entry>,
}

impl Entry {
    /// The first word.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word behind the first.
    pub(super) fn value(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }

    /// All words, as they stood there.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// Reads a file. Braces may stand on lines of their own.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, String> {
    let mut open: Vec<Entry> = vec![Entry::default()];
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let mut entry = Entry { line: line_number, ..Entry::default() };
        for word in words(line) {
            match word {
                Word::Open => {
                    // A brace on a line of its own belongs to the line before.
                    let begun = if entry.words.is_empty() {
                        open.last_mut().and_then(|block| block.inner.pop())
                    } else {
                        Some(std::mem::take(&mut entry))
                    };
                    open.push(begun.ok_or_else(|| format!("line {line_number}: a {{ that belongs to nothing"))?);
                    entry.line = line_number;
                }
                Word::Close => {
                    close_line(&mut open, &mut entry);
                    let block = if open.len() > 1 { open.pop() } else { None };
                    let block = block.ok_or_else(|| format!("line {line_number}: a }} without its {{"))?;
                    if let Some(outer) = open.last_mut() {
                        outer.inner.push(block);
                    }
                    entry.line = line_number;
                }
                Word::Text(word) => entry.words.push(word),
            }
        }
        close_line(&mut open, &mut entry);
    }
    match open.as_slice() {
        [_] => Ok(open.remove(0).inner),
        [.., last] => Err(format!("line {}: the {{ of {} is never closed", last.line, last.text())),
        [] => Ok(Vec::new()),
    }
}

fn close_line(open: &mut [Entry], entry: &mut Entry) {
    if entry.words.is_empty() {
        return;
    }
    let line = entry.line;
    if let Some(block) = open.last_mut() {
        block.inner.push(std::mem::replace(entry, Entry { line, ..Entry::default() }));
    }
}

enum Word {
    Open,
    Close,
    Text(String),
}

/// The words of a line up to a comment. What is in quotes is one word.
fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' | '!' => break,
            '{' | '}' => {
                words.push(if first == '{' { Word::Open } else { Word::Close });
                1
            }
            '"' | '\'' => {
                let inner = &rest[1..];
                let end = inner.find(first).unwrap_or(inner.len());
                words.push(Word::Text(inner[..end].to_owned()));
                rest.len().min(end + 2)
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || c == '{' || c == '}').unwrap_or(rest.len());
                words.push(Word::Text(rest[..end].to_owned()));
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    words
}
