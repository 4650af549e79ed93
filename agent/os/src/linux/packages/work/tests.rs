//! A system whose dpkg is a script over one file: what is installed is what that file says.
#![allow(clippy::unwrap_used)]

use super::*;
use ringward_domain::ReleaseDigest;
use ringward_domain::ledger::Installed;
use std::os::unix::fs::PermissionsExt;

struct System {
    folder: tempfile::TempDir,
    package: PackageName,
}

/// `db` holds `installed VERSION ARCH`; a package file holds its three fields.
const DPKG: &str = r#"#!/bin/sh
root=$(dirname "$0")/../..
for file; do :; done
case " $* " in
*" --unpack "*)
	[ -e "$root/fails" ] && { echo "dpkg: error: disk on fire" >&2; exit 2; }
	ls "$root/run/ringward/held" >"$root/held-at-unpack" 2>/dev/null
	echo "unpacked $(sed -n 's/Version: //p' "$file") $(sed -n 's/Architecture: //p' "$file")" >"$root/db" ;;
*" --configure "*)
	ls "$root/run/ringward/held" >"$root/held-at-configure" 2>/dev/null
	sed -i 's/^unpacked/installed/' "$root/db" ;;
*" --remove "*) rm "$root/db" ;;
esac
echo "$*" >>"$root/calls"
"#;
const QUERY: &str = r#"#!/bin/sh
root=$(dirname "$0")/../..
case "$1" in
-L) echo /usr/lib/systemd/system/demo.service ;;
*) cat "$root/db" ;;
esac
"#;
const DEB_TOOL: &str = "#!/bin/sh\n[ \"$1\" = --contents ] || cat \"$2\"\n";
const NOTED: &str =
    "#!/bin/sh\nroot=$(dirname \"$0\")/../..\necho \"$(basename $0) $*\" >>\"$root/calls\"\n";

impl System {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, text) in [
            ("dpkg", DPKG),
            ("dpkg-query", QUERY),
            ("dpkg-deb", DEB_TOOL),
            ("systemctl", NOTED),
            ("apt-mark", NOTED),
        ] {
            let path = bin.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self {
            folder,
            package: "demo".parse().unwrap(),
        }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn slot(&self) -> PackageSlot<'_> {
        PackageSlot {
            state: self.root(),
            root: self.root(),
            package: &self.package,
        }
    }

    fn release(&self, n: u8) -> Installed {
        let what = Installed {
            release: ReleaseDigest([n; 32]),
            version: format!("1.{n}").parse().unwrap(),
        };
        let staged = self.root().join("staged");
        std::fs::create_dir_all(&staged).unwrap();
        deb(&staged.join(DEB), "demo", &format!("1.{n}"));
        let slots = Slots::new(SystemFiles, self.root());
        slots
            .install_tree(&self.package, &what, &staged, b"")
            .unwrap();
        what
    }

    fn point_to(&self, what: Option<&Installed>) {
        let slots = Slots::new(SystemFiles, self.root());
        slots.revert(&self.package, what).unwrap();
    }

    fn has(&self) -> String {
        std::fs::read_to_string(self.root().join("db")).unwrap_or_default()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join(name)).unwrap_or_default()
    }

    fn is_done(&self) -> bool {
        staged::is_done(SystemFiles, self.root(), &self.package).unwrap()
    }
}

fn deb(path: &Path, name: &str, version: &str) {
    let text = format!("Package: {name}\nVersion: {version}\nArchitecture: all\n");
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_first_release_goes_back_to_what_others_had_installed() {
    let system = System::new();
    std::fs::write(system.root().join("db"), "installed 2:0.9-1 all\n").unwrap();
    let slot = system.slot();
    let why = slot.keep(Installer::Deb).unwrap_err().to_string();
    assert!(why.contains("once more"), "no way back is no way: {why}");

    let cache = system.root().join("var/cache/apt/archives");
    std::fs::create_dir_all(&cache).unwrap();
    deb(&cache.join("demo_2%3a0.9-1_all.deb"), "demo", "2:0.9-1");
    slot.keep(Installer::Deb).unwrap();
    std::fs::remove_dir_all(&cache).unwrap();
    slot.keep(Installer::Deb).unwrap();

    let first = system.release(1);
    system.point_to(Some(&first));
    slot.install().unwrap();
    assert_eq!(system.has(), "installed 1.1 all\n");
    assert!(system.is_done());
    assert!(system.read("calls").contains("apt-mark -qq hold demo"));
    let again = slot.install().unwrap();
    assert_eq!(again, "the system has it");

    system.point_to(None);
    assert!(!system.is_done());
    slot.install().unwrap();
    assert_eq!(system.has(), "installed 2:0.9-1 all\n");
    assert!(system.is_done());
}

#[test]
fn a_package_that_was_not_there_is_removed_again() {
    let system = System::new();
    let slot = system.slot();
    slot.keep(Installer::Deb).unwrap();
    let first = system.release(1);
    system.point_to(Some(&first));
    slot.install().unwrap();
    let drop_in = system
        .root()
        .join("etc/systemd/system/demo.service.d/50-ringward-held.conf");
    assert!(drop_in.exists());
    system.point_to(None);
    slot.install().unwrap();
    assert_eq!(system.has(), "");
    assert!(system.is_done() && !drop_in.exists());
    assert!(system.read("calls").contains("apt-mark -qq unhold demo"));
}

#[test]
fn nothing_is_removed_where_nobody_knows_what_was_there_before() {
    let system = System::new();
    std::fs::write(system.root().join("db"), "installed 0.9 all\n").unwrap();
    let why = system.slot().install().unwrap_err().to_string();
    assert!(why.contains("nothing is removed"), "{why}");
    assert_eq!(system.has(), "installed 0.9 all\n");
}

#[test]
fn held_units_come_up_with_the_package_before_and_not_sooner() {
    let system = System::new();
    let slot = system.slot();
    let (first, second) = (system.release(1), system.release(2));
    system.point_to(Some(&second));
    slot.install().unwrap();
    // The guard went back: link and held file.
    system.point_to(Some(&first));
    std::fs::create_dir_all(slot.held().parent().unwrap()).unwrap();
    std::fs::write(slot.held(), "held\n").unwrap();
    slot.install().unwrap();
    assert_eq!(system.has(), "installed 1.1 all\n");
    assert_eq!(system.read("held-at-unpack"), "demo\n");
    assert_eq!(system.read("held-at-configure"), "");
    let calls = system.read("calls");
    assert!(
        calls.contains("systemctl --no-block start demo.service"),
        "{calls}"
    );
}

#[test]
fn a_failure_is_told_and_the_work_is_done_again() {
    let system = System::new();
    let slot = system.slot();
    let first = system.release(1);
    system.point_to(Some(&first));
    std::fs::write(system.root().join("fails"), "").unwrap();
    let error = slot.install().unwrap_err();
    slot.note(&error);
    assert!(error.to_string().contains("disk on fire"), "{error}");
    assert_eq!(refused(system.root(), &system.package), Some(error));
    assert!(!system.is_done());
    std::fs::remove_file(system.root().join("fails")).unwrap();
    slot.install().unwrap();
    assert!(system.is_done());
    assert_eq!(refused(system.root(), &system.package), None);
}

#[test]
fn a_file_of_another_package_is_not_installed() {
    let system = System::new();
    let first = system.release(1);
    let slots = Slots::new(SystemFiles, system.root());
    let file = slots.tree(&system.package, &first.release).join(DEB);
    deb(&file, "other", "1.1");
    system.point_to(Some(&first));
    let why = system.slot().install().unwrap_err().to_string();
    assert!(why.contains("not demo"), "{why}");
    assert_eq!(system.has(), "");
}
