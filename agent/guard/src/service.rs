//! The guard as a Windows service: started first of all services that start by themselves, done within
//! milliseconds.

use ringward_guard::run::run;
use ringward_guard::{BootLoader, SystemFiles};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use windows_service::define_windows_service;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult};
use windows_service::service_dispatcher;

const NAME: &str = "RingwardGuard";
/// The newest run in words; there is nobody at a console.
const LAST: &str = "guard.last";

static ROOT: OnceLock<PathBuf> = OnceLock::new();

define_windows_service!(entry, serve);

/// Runs as a service over the state folder.
///
/// # Errors
/// In words, when the service manager did not start this.
pub fn start(root: &Path) -> Result<(), String> {
    let _ = ROOT.set(root.to_owned());
    service_dispatcher::start(NAME, entry)
        .map_err(|error| format!("the service manager did not start this: {error:?}"))
}

fn serve(_arguments: Vec<OsString>) {
    let handler = |control| match control {
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    let Ok(manager) = service_control_handler::register(NAME, handler) else {
        return;
    };
    let tell = |state, code| {
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted: ServiceControlAccept::empty(),
            exit_code: code,
            checkpoint: 0,
            wait_hint: Duration::ZERO,
            process_id: None,
        };
        // Nobody is left to be told when this fails.
        let _ = manager.set_service_status(status);
    };
    tell(ServiceState::Running, ServiceExitCode::NO_ERROR);
    let code = match act() {
        true => ServiceExitCode::NO_ERROR,
        false => ServiceExitCode::ServiceSpecific(1),
    };
    tell(ServiceState::Stopped, code);
}

/// Whether it could act.
fn act() -> bool {
    let Some(root) = ROOT.get() else {
        return false;
    };
    let did = ringward_guard::windows::boot_id()
        .map_err(|error| format!("reading the boot id: {error}"))
        .and_then(|boot| {
            run(SystemFiles, root, boot, BootLoader::Silent).map_err(|error| crate::chain(&error))
        });
    let (words, acted) = match did {
        Ok(did) => (did.to_string(), true),
        Err(why) => (why, false),
    };
    if root.is_dir() {
        // For people only; the ledger is what counts.
        let _ = std::fs::write(root.join(LAST), words);
    }
    acted
}
