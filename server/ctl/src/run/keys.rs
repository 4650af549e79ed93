//! Release keys.

use super::Session;
use crate::args::{Keys, Rotate};
use crate::error::Error;
use crate::keys;
use crate::root::{self, Pending, Rotation};
use std::path::Path;

pub(super) fn run(session: &Session, verb: &Keys) -> Result<(), Error> {
    match verb {
        Keys::Init {
            dir,
            keys,
            threshold,
        } => init(session, dir, *keys, *threshold),
        Keys::Create { out } => {
            let key = keys::ReleaseKey::create(out)?;
            let made = serde_json::json!({ "key": key.id(), "public": key.public_hex() });
            session.ui.print(&made, || {
                format!(
                    "key     {} (keep it away from the server)\npublic  {} (for orders.endorsers \
                     in the agent.toml of hosts)\n",
                    out.display(),
                    key.public_hex()
                )
            })
        }
        Keys::Rotate(order) => rotate(session, order),
        Keys::SignRoot {
            root: current,
            file,
            keys,
        } => {
            let (current, _) = root::read(current)?;
            let (_, signed) = root::read(file)?;
            let signed = signed.ok_or_else(|| {
                Error::usage(
                    format!("{} is not signed by anybody", file.display()),
                    "make it with `ringwardctl keys rotate`",
                )
            })?;
            let pending = root::add_signatures(&current, signed, keys)?;
            root::write(file, &pending.signed)?;
            show(session, &pending, file)
        }
    }
}

fn init(session: &Session, dir: &Path, count: usize, threshold: u32) -> Result<(), Error> {
    let made = keys::init(dir, count, threshold)?;
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

fn rotate(session: &Session, order: &Rotate) -> Result<(), Error> {
    if order.out.exists() {
        return Err(Error::usage(
            format!("{} exists already", order.out.display()),
            "name another file with --out",
        ));
    }
    let (current, _) = root::read(&order.root)?;
    let rotation = Rotation {
        add: order.add.clone(),
        remove: order.remove.clone(),
        threshold: order.threshold,
    };
    let pending = root::rotate(&current, &rotation, &order.keys)?;
    root::write(&order.out, &pending.signed)?;
    show(session, &pending, &order.out)
}

fn show(session: &Session, pending: &Pending, file: &Path) -> Result<(), Error> {
    session.ui.print(&pending.root, || {
        let (before, after) = (pending.before, pending.after);
        let next = match pending.is_complete() {
            true => "put it in force with `ringward-server trust-root`",
            false => "others add theirs with `ringwardctl keys sign-root`",
        };
        format!(
            "root version {} in {}: {} of {} keys must sign\n\
             signed by {} of {} needed keys of the root before, {} of {} of its own; {next}\n",
            pending.root.version,
            file.display(),
            pending.root.threshold,
            pending.root.keys.len(),
            before.0,
            before.1,
            after.0,
            after.1,
        )
    })
}
