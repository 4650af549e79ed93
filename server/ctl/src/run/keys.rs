//! Release keys.

use super::Session;
use crate::args::Keys;
use crate::error::Error;
use crate::keys;

pub(super) fn run(session: &Session, verb: &Keys) -> Result<(), Error> {
    let Keys::Init {
        dir,
        keys,
        threshold,
    } = verb;
    let made = keys::init(dir, *keys, *threshold)?;
    session.ui.print(&made.root, || {
        let mut text = String::new();
        for key in &made.keys {
            text.push_str(&format!(
                "key   {} (keep it away from the server)\n",
                key.display()
            ));
        }
        text.push_str(&format!(
            "root  {} ({} of {} must sign; give it to `ringward-server init`)\n",
            made.root_file.display(),
            made.root.threshold,
            made.root.keys.len()
        ));
        text
    })
}
