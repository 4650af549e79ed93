//! What people read: pure functions from domain types to text.

pub mod audit;
pub mod hosts;
pub mod incidents;
pub mod orders;
pub mod outcome;
pub mod releases;
pub mod rings;
pub mod rollouts;
pub mod tokens;
pub mod tree;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use comfy_table::{Table, presets};

/// How much a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// What fits into a terminal.
    Table,
    /// Everything.
    Wide,
}

/// A table of columns without lines, as other tools can cut it too. Cells must be clean.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}
