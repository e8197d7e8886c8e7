//! Tables for people.

use std::io::{self, Write};

/// Prints rows below their heads, each column as wide as its widest cell; the columns of `right` end in line.
pub(super) fn print<const N: usize>(
    out: &mut impl Write,
    heads: [&str; N],
    rows: &[[String; N]],
    right: &[usize],
) -> io::Result<()> {
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    print_row(out, &heads, widths, right)?;
    rows.iter().try_for_each(|row| print_row(out, &row.each_ref().map(String::as_str), widths, right))
}

fn print_row<const N: usize>(
    out: &mut impl Write,
    cells: &[&str; N],
    widths: [usize; N],
    right: &[usize],
) -> io::Result<()> {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if at > 0 {
            line.push_str("  ");
        }
        line.push_str(&if right.contains(&at) { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut text = Vec::new();
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "1000".to_owned()]];
        print(&mut text, ["x", "no"], &rows, &[1]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "x      no\na       1\nbcd  1000\n");
    }
}
