//! `pointsman report`: pictures and tables of runs, of their statistics documents.
//!
//! From files to documents ([`read_runs`]), to figures (differences of counters), to sections (what is said), to a page
//! ([`page()`]) or files ([`export()`]). The pictures are drawn here, as SVG: a page needs no script, no font and no
//! network.

mod chart;
mod cycles;
mod distribution;
mod document;
mod export;
mod figures;
mod page;
mod read;
mod run;
mod sections;

pub use export::{ExportError, export};
pub use page::page;
pub use read::InputError;
pub use run::{Run, read_runs};
