//! The server on this machine, as the guests see it through QEMU's own network.

use crate::Options;
use anyhow::Result;
pub use ringward_suite::control::{Control, find};

/// How a guest of QEMU's user network reaches this machine.
const HERE: &str = "10.0.2.2";
/// Seconds where a fleet has minutes and hours. An emulated machine reboots within a minute.
const POLICY: &str = "soak_s = 5\nheartbeat_s = 2\nsilence_reboot_s = 90\nsilence_s = 60\n\
    restart_grace_s = 10\nattribution_s = 600\nverify_boot = false\n[caps_per_hour]\nreboots = 50\n\
    [[ring]]\nname = \"all\"\n";

/// Makes and starts a server for one scene.
pub fn start(options: &Options, scene: &str) -> Result<Control> {
    let folder = options.work.join(scene).join("fleet");
    Control::start(&options.programs, &folder, HERE, POLICY)
}
