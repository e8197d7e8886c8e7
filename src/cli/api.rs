//! `pointsman api`: the OpenAPI document of the control socket.

use std::io::{self, Write};

use super::{Failure, printed};
use crate::control::openapi;

/// Prints the document.
pub(super) fn run() -> Result<(), Failure> {
    printed(writeln!(io::stdout().lock(), "{}", openapi::document()))
}
