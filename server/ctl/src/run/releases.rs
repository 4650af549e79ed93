//! Releases: signed here, published to the server.

use super::Session;
use crate::args::{OnRelease, Order, Releases, Sign};
use crate::client::{Client, act};
use crate::error::Error;
use crate::keys::ReleaseKey;
use crate::resolve;
use crate::signing::{self, BundleSpec, ReleaseSpec};
use crate::views;
use crate::words::count;
use ringward_domain::ReleaseDigest;
use ringward_domain::command::Action;
use ringward_domain::manifest::{BootNeed, Envelope, Manifest};
use ringward_wire::command::Act;
use std::path::{Path, PathBuf};

pub(super) async fn run(session: &Session, verb: Releases) -> Result<(), Error> {
    match verb {
        Releases::Sign(args) => sign(session, &args),
        Releases::Publish { file, order } => publish(session, &file, &order).await,
        Releases::List { package } => {
            let releases = session.client().await?.releases(package.as_ref()).await?;
            session.ui.print(&releases, || {
                views::releases::list(&releases, session.ui.width())
            })
        }
        Releases::Show { release } => {
            let client = session.client().await?;
            let id = find(&client, &release).await?;
            let detail = client.release(id).await?;
            session
                .ui
                .print(&detail.view, || views::releases::show(&detail))
        }
        Releases::MarkGood(on) => order(session, &on, Action::MarkGood).await,
        Releases::MarkBad(on) => order(session, &on, Action::MarkBad).await,
        Releases::LiftBar(on) => order(session, &on, Action::LiftBar).await,
    }
}

/// The release a person means.
pub(super) async fn find(client: &Client, text: &str) -> Result<ReleaseDigest, Error> {
    if let Ok(digest) = text.parse() {
        return Ok(digest);
    }
    let package = resolve::package_version(text).map(|(package, _)| package);
    resolve::release(text, &client.releases(package.as_ref()).await?)
}

async fn order(
    session: &Session,
    on: &OnRelease,
    action: impl FnOnce(ReleaseDigest) -> Action,
) -> Result<(), Error> {
    let client = session.client().await?;
    let release = find(&client, &on.release).await?;
    let ordered = session
        .order_with(&client, &on.order, action(release))
        .await;
    ordered.map(|_| ())
}

fn spec(args: &Sign) -> Result<ReleaseSpec, Error> {
    let mut spec = match (&args.file, &args.package, &args.version) {
        (Some(file), _, _) => ReleaseSpec::read(file)?,
        (None, Some(package), Some(version)) => ReleaseSpec {
            package: package.clone(),
            version: version.clone(),
            security_floor: None,
            expires_unix_s: None,
            boot: BootNeed::None,
            probes: Vec::new(),
            installer: args.installer,
            bundles: args
                .bundles
                .iter()
                .map(|(os, arch, path)| BundleSpec {
                    os: *os,
                    arch: *arch,
                    path: path.clone(),
                })
                .collect(),
        },
        (None, _, _) => {
            return Err(Error::usage(
                "what to sign is not said",
                "use --file, --add, or --package, --version and --bundle",
            ));
        }
    };
    if args.boot {
        spec.boot = BootNeed::Required;
    }
    spec.security_floor = args.security_floor.clone().or(spec.security_floor);
    spec.expires_unix_s = args.expires_unix_s.or(spec.expires_unix_s);
    spec.probes.extend(args.probes.iter().cloned());
    Ok(spec)
}

fn sign(session: &Session, args: &Sign) -> Result<(), Error> {
    // Keys first: nothing is packed or written for a key that cannot be read.
    let keys = args
        .keys
        .iter()
        .map(|path| ReleaseKey::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let (path, mut envelope, manifest) = match &args.add {
        Some(path) => {
            let (envelope, manifest) = signing::read_envelope(path)?;
            (path.clone(), envelope, manifest)
        }
        None => build(args)?,
    };
    for key in &keys {
        signing::sign(&mut envelope, key)?;
    }
    signing::write_envelope(&path, &envelope)?;
    let shown = serde_json::json!({
        "release": signing::digest(&envelope),
        "file": path,
        "signatures": envelope.signatures.len(),
        "manifest": manifest,
    });
    session.ui.print(&shown, || {
        format!(
            "release  {}\nfile     {}\nholds    {} {}, {}\nnext     ringwardctl releases publish {}\n",
            signing::digest(&envelope),
            path.display(),
            manifest.package,
            manifest.version,
            count(envelope.signatures.len() as u64, "signature", "signatures"),
            path.display(),
        )
    })
}

fn build(args: &Sign) -> Result<(PathBuf, Envelope, Manifest), Error> {
    let built = spec(args)?.build(&args.out)?;
    let name = format!(
        "{}-{}.release.json",
        built.manifest.package,
        // A colon is no part of a file name everywhere.
        built.manifest.version.as_str().replace(':', "_")
    );
    Ok((args.out.join(name), built.envelope, built.manifest))
}

async fn publish(session: &Session, file: &Path, order: &Order) -> Result<(), Error> {
    let (envelope, manifest) = signing::read_envelope(file)?;
    let artefacts = signing::artefacts_beside(file, &manifest);
    for (_, path) in &artefacts {
        std::fs::metadata(path).map_err(Error::file("looking for", path))?;
    }
    let act = Act {
        dry_run: order.dry_run,
        ..act(&order.reason)
    };
    let client = session.client().await?;
    let published = client.publish(act, envelope, artefacts).await?;
    session.ui.outcome(&published.outcome, order.dry_run)
}
