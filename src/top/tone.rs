//! What is said by a colour. Nothing is said by a colour alone.

use ratatui::style::{Color, Modifier, Style};

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Strong,
    Dim,
    Good,
    Warn,
    Bad,
    /// Work in user space.
    User,
    /// System calls.
    System,
    /// Heads of columns.
    Head,
}

impl Tone {
    /// With the sixteen colours of every terminal, which its user has chosen to be legible.
    pub(crate) fn style(self) -> Style {
        let style = Style::new();
        match self {
            Self::Plain => style,
            Self::Strong => style.add_modifier(Modifier::BOLD),
            Self::Dim => style.fg(Color::DarkGray),
            Self::Good => style.fg(Color::Green),
            Self::Warn => style.fg(Color::Yellow),
            Self::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            Self::User => style.fg(Color::Cyan),
            Self::System => style.fg(Color::Magenta),
            Self::Head => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        }
    }
}
