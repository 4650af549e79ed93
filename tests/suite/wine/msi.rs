//! Windows Installer packages as releases: a product that somebody else installed is taken over, brought
//! to later versions, and back from those that fail.

use crate::Stage;
use crate::machine::Machine;
use crate::scenes::{PATIENCE, copy_in, halt, msiexec};
use anyhow::{Context, Result, ensure};
use ringward_suite::control::find;
use serde_json::Value;
use std::ffi::OsString;

const PACKAGE: &str = "acme-shield";
/// What the product says of itself.
const TOLD: &str = "Program Files/Acme/version.txt";

fn says(machine: &Machine, version: &str) -> Result<()> {
    machine.wait_for(
        &format!("the product in version {version}"),
        PATIENCE,
        |machine| {
            let told = machine.text(TOLD);
            ensure!(told == version, "it says {told:?}");
            Ok(Some(()))
        },
    )
}

fn roll_out(stage: &Stage, version: &str, options: &[&str]) -> Result<()> {
    let mut bundle = OsString::from("windows=");
    bundle.push(stage.options.products.join(format!("acme-{version}.msi")));
    let mut all = vec!["--installer", "msi"];
    all.extend(options);
    stage.control.publish(PACKAGE, version, &bundle, &all)?;
    let release = format!("{PACKAGE}@{version}");
    let order = ["rollouts", "start", &release, "--reason", "test", "--yes"];
    stage.control.ctl(&order)?;
    Ok(())
}

/// A release that fails its probe ends with the host back where it was.
fn goes_back(stage: &Stage, version: &str, to: &str) -> Result<String> {
    roll_out(stage, version, &["--probe", "tcp:9"])?;
    let shown = stage.control.rollout_is("halted", PATIENCE)?;
    says(&stage.machine, to)?;
    Ok(halt(&shown))
}

/// Nothing of the release is left: Windows Installer knows one product of the family.
fn only_one(machine: &Machine) -> Result<()> {
    let key = r"HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall";
    let listed = machine.say(&["reg", "query", key, "/s"])?;
    let known = listed.matches("Acme Shield").count();
    ensure!(known == 1, "{known} products are listed: {listed}");
    Ok(())
}

/// The first release fails: what others had installed comes back from the vault.
pub fn first_fails(stage: &mut Stage) -> Result<String> {
    let (machine, products) = (&stage.machine, &stage.options.products);
    copy_in(machine, &products.join("acme-1.0.0.msi"), "acme.msi")?;
    msiexec(machine, &["/i", r"C:\acme.msi"])?;
    // Their own file is of no further use to anybody.
    std::fs::remove_file(machine.file("acme.msi")).context("removing the installed package")?;
    says(machine, "1.0.0")?;
    let why = goes_back(stage, "1.1.0", "1.0.0")?;
    only_one(&stage.machine)?;
    Ok(format!("1.0.0 of before is there again; {why}"))
}

/// A good one is confirmed, and the next bad one goes back to it.
pub fn second_fails(stage: &mut Stage) -> Result<String> {
    roll_out(stage, "1.2.0", &[])?;
    stage.control.rollout_is("completed", PATIENCE)?;
    says(&stage.machine, "1.2.0")?;
    goes_back(stage, "1.3.0", "1.2.0")?;
    only_one(&stage.machine)?;
    let told = stage.control.ctl(&["rollouts", "show", "--hosts"])?;
    let reverted = find(&told, "reverted").and_then(Value::as_u64);
    ensure!(reverted != Some(0), "it is not told as reverted: {told}");
    Ok("1.2.0 is installed again".to_owned())
}
