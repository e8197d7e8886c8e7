//! The terminal while it is used, and as it was before.

use std::io::{self, Stdout};
use std::panic;
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

use crate::top::{Top, draw};

/// The terminal's other screen. When it is dropped, and when the process panics, the terminal is as it was.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    _back: Back,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = panic::take_hook();
            // Where a panic aborts, nothing is dropped; and its message is lost on the other screen.
            panic::set_hook(Box::new(move |panic| {
                leave();
                usual(panic);
            }));
        });
        let back = Back;
        occupy()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, _back: back })
    }

    pub(super) fn show(&mut self, top: &Top) -> io::Result<()> {
        self.terminal.draw(|frame| draw(top, frame)).map(|_| ())
    }

    /// Draws all again next time: something else wrote to the terminal, or has set its modes.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        occupy()?;
        self.terminal.clear()
    }
}

fn occupy() -> io::Result<()> {
    enable_raw_mode()?;
    // What is pasted is no command.
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
}

/// There is nobody to tell where it fails.
fn leave() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
}

struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        leave();
    }
}
