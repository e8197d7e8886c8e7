//! One file per subcommand: it prints and decides nothing.

pub mod stats;
mod text;
