//! Verbs of `releases`.

use super::Order;
use clap::{Args, Subcommand};
use ringward_domain::host::{Arch, Os};
use ringward_domain::manifest::{Installer, Probe};
use ringward_domain::{Millis, PackageName, Version};
use std::path::PathBuf;

/// Verbs of `releases`.
#[derive(Debug, Subcommand)]
pub enum Releases {
    /// Pack and sign a release, or add a signature to a signed one
    Sign(Box<Sign>),
    /// Publish a signed release with its files
    Publish {
        /// The file that `releases sign` wrote; the bundles lie beside it
        file: PathBuf,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// List releases
    List {
        /// Only this package's
        package: Option<PackageName>,
    },
    /// Show one release with its manifest
    Show {
        /// PACKAGE@VERSION, or a unique start of its digest
        release: String,
    },
    /// Say that a release is good
    MarkGood(OnRelease),
    /// Say that a release is bad: barred on the fleet
    MarkBad(OnRelease),
    /// Lift the bars of a release, on the fleet and on every host
    LiftBar(OnRelease),
}

/// What `releases sign` takes.
#[derive(Debug, Args)]
pub struct Sign {
    /// Key file to sign with; may be named several times
    #[arg(long = "key", short, required = true, value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Add signatures to this signed release
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "package", "version", "bundles"])]
    pub add: Option<PathBuf>,
    /// Description of the release (TOML: package, version, bundles, probes)
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["package", "version", "bundles"])]
    pub file: Option<PathBuf>,
    /// The package
    #[arg(long, short, required_unless_present_any = ["file", "add"])]
    pub package: Option<PackageName>,
    /// Its version
    #[arg(long, required_unless_present_any = ["file", "add"])]
    pub version: Option<Version>,
    /// Folder or tar archive, for all Linux hosts or for the kind named
    #[arg(long = "bundle", short, value_name = "[OS[/ARCH]=]PATH", value_parser = bundle)]
    #[arg(required_unless_present_any = ["file", "add"])]
    pub bundles: Vec<(Os, Option<Arch>, PathBuf)>,
    /// How hosts install it: bundle, or deb, rpm or msi where each --bundle names a package file
    #[arg(long, default_value = "bundle", value_parser = installer, conflicts_with = "file")]
    pub installer: Installer,
    /// The release needs a boot to take effect
    #[arg(long)]
    pub boot: bool,
    /// No host goes below this version again
    #[arg(long, value_name = "VERSION")]
    pub security_floor: Option<Version>,
    /// Nothing new is exposed to it after this time (Unix seconds)
    #[arg(long, value_name = "SECONDS")]
    pub expires_unix_s: Option<u64>,
    /// What must hold on a host: unit:NAME, tcp:PORT or http:PORT/PATH
    #[arg(long = "probe", value_name = "PROBE", value_parser = probe)]
    pub probes: Vec<Probe>,
    /// Folder to write to
    #[arg(long, short = 'd', default_value = "releases", value_name = "DIR")]
    pub out: PathBuf,
}

/// An order for one release.
#[derive(Debug, Args)]
pub struct OnRelease {
    /// PACKAGE@VERSION, or a unique start of its digest
    pub release: String,
    /// Options of every order.
    #[command(flatten)]
    pub order: Order,
}

fn os(text: &str) -> Result<Os, String> {
    match text {
        "linux" => Ok(Os::Linux),
        "windows" => Ok(Os::Windows),
        _ => Err("the system is linux or windows".to_owned()),
    }
}

fn installer(text: &str) -> Result<Installer, String> {
    match text {
        "bundle" => Ok(Installer::Bundle),
        "deb" => Ok(Installer::Deb),
        "rpm" => Ok(Installer::Rpm),
        "msi" => Ok(Installer::Msi),
        _ => Err("use bundle, deb, rpm or msi".to_owned()),
    }
}

fn bundle(text: &str) -> Result<(Os, Option<Arch>, PathBuf), String> {
    let Some((kind, path)) = text.split_once('=') else {
        return Ok((Os::Linux, None, PathBuf::from(text)));
    };
    let path = PathBuf::from(path);
    match kind.split_once('/') {
        None => Ok((os(kind)?, None, path)),
        Some((system, "x86_64" | "x86-64")) => Ok((os(system)?, Some(Arch::X86_64), path)),
        Some((system, "aarch64")) => Ok((os(system)?, Some(Arch::Aarch64), path)),
        Some(_) => Err("the architecture is x86_64 or aarch64".to_owned()),
    }
}

/// How long a probe named on the command line may take.
const PROBE_TIMEOUT: Millis = Millis::secs(5);

fn probe(text: &str) -> Result<Probe, String> {
    let wrong = || "use unit:NAME, tcp:PORT or http:PORT/PATH".to_owned();
    let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
    let timeout_ms = PROBE_TIMEOUT;
    match kind {
        "unit" if !rest.is_empty() => Ok(Probe::Unit {
            name: rest.to_owned(),
        }),
        "tcp" => Ok(Probe::Tcp {
            port: rest.parse().map_err(|_| wrong())?,
            timeout_ms,
        }),
        "http" => {
            let (port, path) = rest.split_once('/').ok_or_else(wrong)?;
            Ok(Probe::Http {
                port: port.parse().map_err(|_| wrong())?,
                path: format!("/{path}"),
                timeout_ms,
            })
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bundles_and_probes_read_as_written() {
        let kind = bundle("linux/aarch64=dist").unwrap();
        assert_eq!(kind, (Os::Linux, Some(Arch::Aarch64), "dist".into()));
        assert_eq!(bundle("dist").unwrap(), (Os::Linux, None, "dist".into()));
        assert!(bundle("plan9=dist").is_err());
        assert!(
            matches!(probe("http:80/ready"), Ok(Probe::Http { port: 80, path, .. }) if path == "/ready")
        );
        assert!(probe("tcp:http").is_err() && probe("unit:").is_err());
    }
}
