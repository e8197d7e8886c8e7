//! Markdown as the source of a manual page (man(7)).

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The body of a page; its title and name are for the caller.
pub(super) fn from_markdown(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// Code is shown line by line.
    verbatim: bool,
    /// Names of the columns of a table.
    columns: Vec<String>,
    /// Cells of its row so far.
    cells: Vec<String>,
    /// Of a cell or a heading, which are set when they are whole.
    part: Option<String>,
    /// Which item of each list comes next, if it has numbers.
    lists: Vec<Option<u64>>,
    /// A paragraph that an item begins with is begun by the item.
    item_begins: bool,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.put(&escape(&text, self.verbatim)),
            Event::Code(code) => self.put(&format!("\\fB{}\\fP", escape(&code, false))),
            Event::SoftBreak => self.put(if self.part.is_some() { " " } else { "\n" }),
            Event::HardBreak => self.line(".br"),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::TableCell => self.part = Some(String::new()),
            Tag::Paragraph if !std::mem::take(&mut self.item_begins) => {
                self.line(if self.lists.is_empty() { ".PP" } else { ".IP" });
            }
            Tag::CodeBlock(_) => {
                self.verbatim = true;
                self.line(".PP\n.RS 4\n.nf");
            }
            Tag::List(first) => self.lists.push(first),
            Tag::Item => {
                self.item_begins = true;
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let mark = format!(".IP {number}. 4");
                        *number += 1;
                        self.line(&mark);
                    }
                    _ => self.line(".IP \\(bu 2"),
                }
            }
            Tag::Table(_) => self.columns.clear(),
            Tag::Emphasis => self.put("\\fI"),
            Tag::Strong => self.put("\\fB"),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title = self.part.take().unwrap_or_default();
                let macro_name = if level as usize <= 2 { ".SH" } else { ".SS" };
                // The first one is the page's own title.
                if level as usize > 1 {
                    self.line(&format!("{macro_name} \"{}\"", title.replace('"', "\\(dq")));
                } else {
                    self.line(".SH DESCRIPTION");
                }
            }
            TagEnd::CodeBlock => {
                self.verbatim = false;
                self.line(".fi\n.RE");
            }
            TagEnd::List(_) => drop(self.lists.pop()),
            TagEnd::Item => self.item_begins = false,
            TagEnd::TableCell => self.cells.extend(self.part.take()),
            TagEnd::TableHead => self.columns = std::mem::take(&mut self.cells),
            TagEnd::TableRow => self.row(),
            TagEnd::Emphasis | TagEnd::Strong => self.put("\\fP"),
            _ => {}
        }
    }

    /// Wide tables do not fit a terminal, so a row is a paragraph: its first cell, and below it the others by name.
    fn row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        for (index, cell) in cells.iter().enumerate() {
            let column = self.columns.get(index).map(String::as_str).unwrap_or_default();
            match index {
                0 => self.line(&format!(".TP\n{cell}")),
                1 => self.line(cell),
                _ if cell.is_empty() => {}
                _ => self.line(&format!(".br\n\\fI{column}:\\fP {cell}")),
            }
        }
    }

    fn put(&mut self, text: &str) {
        match &mut self.part {
            Some(part) => part.push_str(text),
            None => {
                let start_of_line = self.text.is_empty() || self.text.ends_with('\n');
                // A dot or an apostrophe there would be a request.
                if start_of_line && text.starts_with(['.', '\'']) {
                    self.text.push_str("\\&");
                }
                self.text.push_str(text);
            }
        }
    }

    /// On lines of its own.
    fn line(&mut self, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.text.push('\n');
    }
}

fn escape(text: &str, verbatim: bool) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if verbatim { text.replace("\n.", "\n\\&.") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_requests_and_escapes() {
        for (markdown, roff) in [
            ("# Title\n\nA *b* **c** `d-e`.\n", ".SH DESCRIPTION\n.PP\nA \\fIb\\fP \\fBc\\fP \\fBd\\-e\\fP."),
            ("## A \"b\"\n### C\n", ".SH \"A \\(dqb\\(dq\"\n.SS \"C\"\n"),
            ("- a\n- b\n", ".IP \\(bu 2\na\n.IP \\(bu 2\nb"),
            ("3. a\n4. b\n", ".IP 3. 4\na\n.IP 4. 4\nb"),
            ("```\n.a\\b\n.c\n```\n", ".PP\n.RS 4\n.nf\n\\&.a\\eb\n\\&.c\n.fi\n.RE\n"),
            (
                "| key | meaning | default |\n|---|---|---|\n| `k` | m | 1 |\n",
                ".TP\n\\fBk\\fP\nm\n.br\n\\fIdefault:\\fP 1\n",
            ),
            ("[a link](b.md) stays", ".PP\na link stays"),
        ] {
            assert_eq!(from_markdown(markdown), roff, "{markdown}");
        }
    }
}
