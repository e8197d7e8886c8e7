//! What `pointsman top` shows, and what it was told.

use std::collections::VecDeque;
use std::time::Duration;

use super::interval::{Changes, History, Tally, Window};
use super::rows::{Kind, RealServerName, Row, Sort, Subject, rows};
use crate::stats::report::{RealServerReport, Report};

/// Most rates that the sparkline shows.
const SPARKS: usize = 512;

/// What fills the screen below the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pane {
    Overview,
    Only(Kind),
}

impl Pane {
    pub(crate) const ALL: [Self; 5] = [
        Self::Overview,
        Self::Only(Kind::Workers),
        Self::Only(Kind::Services),
        Self::Only(Kind::RealServers),
        Self::Only(Kind::Drops),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Only(Kind::Workers) => "workers",
            Self::Only(Kind::Services) => "services",
            Self::Only(Kind::RealServers) => "real servers",
            Self::Only(Kind::Drops) => "drops",
        }
    }

    /// The table whose rows are sorted and selected.
    pub(crate) const fn table(self) -> Kind {
        match self {
            Self::Overview => Kind::RealServers,
            Self::Only(kind) => kind,
        }
    }
}

/// What a weight was before it was set to 0 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    pub(crate) name: RealServerName,
    pub(crate) weight: u32,
}

/// A question that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: RealServerName,
    pub(crate) weight: u32,
    pub(crate) active: u64,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A real server gets no new flows now; this was its weight.
    Drained(Drained),
    /// It has its weight again.
    Restored(Drained),
    /// It has another weight than 0 by now, or is not there any more, and was left as it is.
    Overtaken { drained: Drained, now: Option<u32> },
    /// The director did not do it.
    Failed { what: String, error: String },
}

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) bad: bool,
}

/// Everything that a picture depends on.
#[derive(Clone, Debug)]
pub(crate) struct Top {
    pub(crate) pane: Pane,
    pub(crate) window: Window,
    pub(crate) paused: bool,
    pub(crate) filter: String,
    /// A filter that is being typed.
    pub(crate) typing: Option<String>,
    pub(crate) help: bool,
    pub(crate) question: Option<Question>,
    pub(crate) message: Option<Message>,
    /// Whether colours are not wanted.
    pub(crate) plain: bool,
    pub(crate) report: Option<Report>,
    pub(crate) sparks: VecDeque<u64>,
    /// Why and since when there is no answer.
    pub(crate) silent: Option<(String, Duration)>,
    pub(crate) drained: Vec<Drained>,
    history: History,
    sorts: [Sort; Kind::ALL.len()],
    selected: [Option<Subject>; Kind::ALL.len()],
}

impl Top {
    pub(crate) fn new(window: Window, plain: bool) -> Self {
        Self {
            pane: Pane::Overview,
            window,
            paused: false,
            filter: String::new(),
            typing: None,
            help: false,
            question: None,
            message: None,
            plain,
            report: None,
            sparks: VecDeque::new(),
            silent: None,
            drained: Vec::new(),
            history: History::default(),
            sorts: [Sort::default(); Kind::ALL.len()],
            selected: [const { None }; Kind::ALL.len()],
        }
    }

    /// The director's newest statistics. While the picture stands still they are not looked at.
    pub(crate) fn answered(&mut self, report: Report) {
        self.silent = None;
        if self.paused {
            return;
        }
        let started = |report: &Report| report.started_at.unix_ns;
        if self.report.as_ref().is_some_and(|last| started(last) != started(&report)) {
            let drained =
                if self.drained.is_empty() { "" } else { ": what was drained here may have its weight again" };
            self.say(format!("the director was restarted{drained}"));
            self.drained.clear();
            self.question = None;
        }
        if let Some(rate) = Window::Seconds(1).of(&report.totals.rates) {
            if self.sparks.len() == SPARKS {
                self.sparks.pop_front();
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate; casts saturate")]
            self.sparks.push_back(rate.received_pps.unwrap_or(rate.tx_pps) as u64);
        }
        self.history.push(Tally::of(&report));
        self.report = Some(report);
    }

    /// The director gives no answer, and has given none for this long.
    pub(crate) fn unanswered(&mut self, error: String, since: Duration) {
        if self.silent.is_none() {
            self.message = None;
        }
        self.silent = Some((error, since));
    }

    /// A change is over.
    pub(crate) fn changed(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Drained(drained) => {
                self.drained.retain(|other| other.name != drained.name);
                self.drained.push(drained);
                self.say(format!("{} drains; u gives it weight {} back", drained.name, drained.weight));
            }
            Outcome::Restored(drained) => {
                self.drained.retain(|other| other.name != drained.name);
                self.say(format!("{} has weight {} again", drained.name, drained.weight));
            }
            Outcome::Overtaken { drained, now } => {
                self.drained.retain(|other| other.name != drained.name);
                let now = now.map_or_else(|| "is not there any more".to_owned(), |now| format!("has weight {now}"));
                self.complain(format!("{} {now}: left as it is", drained.name));
            }
            Outcome::Failed { what, error } => self.complain(format!("{what}: {error}")),
        }
    }

    pub(crate) fn say(&mut self, text: String) {
        self.message = Some(Message { text, bad: false });
    }

    pub(crate) fn complain(&mut self, text: String) {
        self.message = Some(Message { text, bad: true });
    }

    /// What lies between the documents of the window.
    pub(crate) fn changes(&self) -> Changes {
        self.history.changes(self.window)
    }

    /// The filter, also while it is typed.
    pub(crate) fn filter(&self) -> &str {
        self.typing.as_deref().unwrap_or(&self.filter)
    }

    pub(crate) fn sort(&self, kind: Kind) -> Sort {
        self.sorts[kind as usize]
    }

    pub(crate) fn sort_mut(&mut self) -> &mut Sort {
        &mut self.sorts[self.pane.table() as usize]
    }

    /// The rows of a table as they are shown. Workers are not filtered.
    pub(crate) fn rows(&self, kind: Kind, changes: &Changes) -> Vec<Row> {
        let Some(report) = &self.report else { return Vec::new() };
        let mut rows = rows(kind, report, changes, self.window);
        if kind != Kind::Workers {
            let filter = self.filter();
            rows.retain(|row| row.has(filter));
        }
        self.sort(kind).apply(&mut rows);
        rows
    }

    /// Which of the rows is selected: the first, unless another was.
    pub(crate) fn selected(&self, kind: Kind, rows: &[Row]) -> usize {
        let subject = self.selected[kind as usize].as_ref();
        subject.and_then(|subject| rows.iter().position(|row| row.subject == *subject)).unwrap_or(0)
    }

    /// What is selected in the pane.
    pub(crate) fn subject(&self) -> Option<Subject> {
        let kind = self.pane.table();
        let rows = self.rows(kind, &self.changes());
        rows.get(self.selected(kind, &rows)).map(|row| row.subject.clone())
    }

    /// Selects the row that is so many further down, or up.
    pub(crate) fn move_selection(&mut self, by: isize) {
        let kind = self.pane.table();
        let rows = self.rows(kind, &self.changes());
        let at = self.selected(kind, &rows).saturating_add_signed(by).min(rows.len().saturating_sub(1));
        self.selected[kind as usize] = rows.get(at).map(|row| row.subject.clone());
    }

    /// What is known of a real server.
    pub(crate) fn real_server(&self, name: RealServerName) -> Option<&RealServerReport> {
        name.find(self.report.as_ref()?)
    }
}
