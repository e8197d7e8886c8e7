//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::{Kind, RealServerName, Subject};
use super::state::{Drained, Pane, Question, Top};

/// Rows of a page.
const PAGE: isize = 10;
/// Most characters of a filter.
const LONGEST_FILTER: usize = 100;

/// All keys, for the help.
pub(crate) const KEYS: [(&str, &str); 14] = [
    ("Tab 1-5", "the next pane, or that one"),
    ("Up Down j k", "select a row; PgUp, PgDn, Home, End too"),
    ("t", "rates, load, latency over 1, 10 or 60 s"),
    ("s S", "sort by the next column, or the one before"),
    ("r", "reverse the order"),
    ("/", "filter services, real servers, drops"),
    ("Esc", "no filter"),
    ("Enter", "the real servers of the selected service"),
    ("d", "drain the selected real server: weight 0"),
    ("u", "undo: give it its weight back"),
    ("p Space", "pause, and go on"),
    ("Ctrl-L", "draw all again"),
    ("? h", "this help"),
    ("q Ctrl-C", "quit"),
];

/// What the pressed key wants to be done outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Quit,
    /// Give a real server no new flows.
    Drain(RealServerName),
    /// Give one its weight back.
    Restore(Drained),
    /// Draw everything anew.
    Redraw,
}

impl Top {
    /// A key was pressed.
    pub(crate) fn press(&mut self, key: KeyEvent) -> Option<Request> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Some(Request::Quit),
            KeyCode::Char('l') if control => return Some(Request::Redraw),
            _ => {}
        }
        if let Some(question) = self.question.take() {
            return self.answer(question, key.code);
        }
        if self.typing.is_some() {
            self.type_filter(key.code, control);
            return None;
        }
        if self.help {
            self.help = false;
            return (key.code == KeyCode::Char('q')).then_some(Request::Quit);
        }
        self.message = None;
        self.command(key.code)
    }

    /// What was pasted: a filter, while one is typed, and nothing else.
    pub(crate) fn paste(&mut self, text: &str) {
        if self.typing.is_some() {
            text.chars().for_each(|char| self.type_filter(KeyCode::Char(char), false));
        }
    }

    fn command(&mut self, code: KeyCode) -> Option<Request> {
        match code {
            KeyCode::Char('q') => return Some(Request::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Pane::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => self.pane = Pane::ALL[digit as usize - '1' as usize],
            KeyCode::Up | KeyCode::Char('k') => self.move_selection(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_selection(1),
            KeyCode::PageUp => self.move_selection(-PAGE),
            KeyCode::PageDown => self.move_selection(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.move_selection(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_selection(isize::MAX),
            KeyCode::Char('t') => self.window = self.window.next(),
            KeyCode::Char('s') => self.sort_by_next(false),
            KeyCode::Char('S') => self.sort_by_next(true),
            KeyCode::Char('r') => {
                let sort = self.sort_mut();
                sort.reversed = !sort.reversed;
            }
            KeyCode::Char('/') => self.typing = Some(self.filter.clone()),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter => self.enter(),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('d') => self.ask_to_drain(),
            KeyCode::Char('u') => return self.undo(),
            _ => {}
        }
        None
    }

    fn turn(&mut self, by: usize) {
        let at = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        self.pane = Pane::ALL[(at + by) % Pane::ALL.len()];
    }

    /// After the last column comes the director's order.
    fn sort_by_next(&mut self, back: bool) {
        let columns = self.pane.table().columns().len();
        let sort = self.sort_mut();
        sort.reversed = false;
        sort.by = match (sort.by, back) {
            (None, false) => Some(0),
            (None, true) => Some(columns - 1),
            (Some(by), false) => (by + 1 < columns).then_some(by + 1),
            (Some(by), true) => by.checked_sub(1),
        };
    }

    fn type_filter(&mut self, code: KeyCode, control: bool) {
        let Some(text) = &mut self.typing else { return };
        match code {
            KeyCode::Enter => self.filter = self.typing.take().unwrap_or_default(),
            KeyCode::Esc => self.typing = None,
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Char(char) if !control && !char.is_control() && text.chars().count() < LONGEST_FILTER => {
                text.push(char);
            }
            KeyCode::Backspace => drop(text.pop()),
            _ => {}
        }
    }

    fn enter(&mut self) {
        if let (Pane::Only(Kind::Services), Some(Subject::Service(service))) = (self.pane, self.subject()) {
            self.filter = service.to_string();
            self.pane = Pane::Only(Kind::RealServers);
        }
    }

    fn ask_to_drain(&mut self) {
        let Some(Subject::RealServer(name)) = self.subject() else {
            self.complain("select a real server first (panes 1 and 4)".to_owned());
            return;
        };
        let Some(server) = self.real_server(name) else { return };
        let (weight, active) = (server.weight, server.connections.active);
        if weight == 0 {
            self.say(format!("{name} has weight 0 already"));
        } else {
            self.question = Some(Question { name, weight, active });
        }
    }

    fn answer(&mut self, question: Question, code: KeyCode) -> Option<Request> {
        if matches!(code, KeyCode::Char('y' | 'Y')) {
            self.say(format!("draining {} ...", question.name));
            return Some(Request::Drain(question.name));
        }
        self.say("not drained".to_owned());
        None
    }

    /// The selected real server's, if it was drained here; else that which was drained last.
    fn undo(&mut self) -> Option<Request> {
        let selected = match self.subject() {
            Some(Subject::RealServer(name)) => self.drained.iter().find(|drained| drained.name == name),
            _ => None,
        };
        let Some(drained) = selected.or(self.drained.last()).copied() else {
            self.say("nothing was drained here".to_owned());
            return None;
        };
        self.say(format!("giving {} its weight back ...", drained.name));
        Some(Request::Restore(drained))
    }
}
