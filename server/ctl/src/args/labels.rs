//! Verbs of `hosts labels`.

use super::Order;
use clap::Subcommand;
use std::path::PathBuf;

/// Verbs of `hosts labels`.
#[derive(Debug, Subcommand)]
pub enum Labels {
    /// Set the labels of many hosts from a file; hosts it does not name keep theirs
    ///
    /// CSV: a header `host,KEY,KEY,...` and one line a host; an empty cell removes that label. JSON:
    /// `{"HOST": {"KEY": "VALUE", ...}, ...}`; null removes. HOST is an id or a host name. Labels the
    /// file does not name stay. The whole file is checked before anything is set.
    Import {
        /// The file, .csv or .json
        file: PathBuf,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
}
