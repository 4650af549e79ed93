//! What the installer cannot say: called once as SYSTEM after its files and services are there.

use super::{folders, places, service};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windows_registry::LOCAL_MACHINE;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
    ServiceFailureResetPeriod, ServiceInfo, ServiceSidType, ServiceStartType, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::ERROR_INVALID_LEVEL;

/// The guard's service.
pub const GUARD: &str = "RingwardGuard";
/// Services of it start before all others.
const FIRST_GROUP: &str = "System Reserved";
/// The last words take at most 10 s; the system waits this long for them when it goes down.
const PRESHUTDOWN: Duration = Duration::from_secs(20);
/// Restarted after these times, then no more until a day without a failure has passed.
const RESTARTS: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(300),
];
const FORGIVEN_AFTER: Duration = Duration::from_secs(86_400);

/// Why the set-up is not complete.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The state folder.
    #[error("making the state folder {path} with its protected access list")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A service.
    #[error("{doing} service {service}; run the installer as administrator")]
    Service {
        /// What was being done.
        doing: &'static str,
        /// Which.
        service: &'static str,
        /// Why.
        #[source]
        source: windows_service::Error,
    },
    /// This program's own path.
    #[error("looking for this program's own path")]
    Program(#[source] std::io::Error),
    /// State that should be gone.
    #[error("removing {path}; remove it by hand")]
    Purge {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Makes the state folder before anybody else can, and tells the service manager what an installer's
/// tables have no words for. Doing it twice changes nothing.
///
/// # Errors
/// The first step that failed; the steps before it stand.
pub fn set_up() -> Result<(), SetUpError> {
    let state = places::state_dir();
    folders::make(&state, false).map_err(|source| SetUpError::Folder {
        path: state.clone(),
        source,
    })?;
    let program = std::env::current_exe().map_err(SetUpError::Program)?;
    let guard = program.with_file_name("ringward-guard.exe");
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(|source| SetUpError::Service {
            doing: "reaching the service manager for",
            service: service::NAME,
            source,
        })?;
    let state = state.into_os_string();
    let guard_arguments = vec!["--service".into(), "--root".into(), state];
    let no_depends = Vec::new();
    configure(&manager, GUARD, &guard, guard_arguments, no_depends)?;
    start_first(GUARD);
    let depends = vec![windows_service::service::ServiceDependency::Service(
        GUARD.into(),
    )];
    configure(
        &manager,
        service::NAME,
        &program,
        vec!["run".into()],
        depends,
    )?;
    fail_over(&manager, service::NAME)
}

/// Removes what an uninstallation keeps: identity, ledger, slots, settings.
///
/// # Errors
/// Something of it is still there.
pub fn purge() -> Result<(), SetUpError> {
    let state = places::state_dir();
    let path = state.parent().unwrap_or(&state).to_owned();
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SetUpError::Purge { path, source })
        }
        _ => Ok(()),
    }
}

/// Puts a service into the first group of all: before the services of any release.
fn start_first(name: &str) {
    let mut options = LOCAL_MACHINE.options();
    let key = options
        .read()
        .write()
        .open(format!(r"SYSTEM\CurrentControlSet\Services\{name}"));
    // Later in the boot it guards, too.
    if let Err(error) = key.and_then(|key| key.set_string("Group", FIRST_GROUP)) {
        tracing::warn!(%error, "{name} does not start first");
    }
}

/// Starts the agent.
///
/// # Errors
/// The service manager refuses.
pub fn start() -> Result<(), SetUpError> {
    let failed = |source| SetUpError::Service {
        doing: "starting",
        service: service::NAME,
        source,
    };
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(failed)?;
    let opened = manager
        .open_service(service::NAME, ServiceAccess::START)
        .map_err(failed)?;
    opened.start::<&str>(&[]).map_err(failed)
}

fn configure(
    manager: &ServiceManager,
    name: &'static str,
    program: &Path,
    arguments: Vec<OsString>,
    dependencies: Vec<windows_service::service::ServiceDependency>,
) -> Result<(), SetUpError> {
    let failed = |doing| {
        move |source| SetUpError::Service {
            doing,
            service: name,
            source,
        }
    };
    let opened = manager
        .open_service(
            name,
            ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG,
        )
        .map_err(failed("opening"))?;
    let known = opened.query_config().map_err(failed("asking for"))?;
    // This library quotes the program's path and each argument that needs it: unquoted, a program
    // named `C:\Program.exe` would be started as SYSTEM.
    opened
        .change_config(&ServiceInfo {
            name: name.into(),
            display_name: known.display_name,
            service_type: ServiceType::OWN_PROCESS,
            start_type: ServiceStartType::AutoStart,
            error_control: ServiceErrorControl::Normal,
            executable_path: program.to_owned(),
            launch_arguments: arguments,
            dependencies,
            account_name: None,
            account_password: None,
        })
        .map_err(failed("configuring"))?;
    let identity = opened.set_config_service_sid_info(ServiceSidType::Unrestricted);
    unless_unknown(name, identity).map_err(failed("giving an identity of its own to"))
}

/// Every Windows since 7 knows all of these settings; Wine lacks some, and an installation is better
/// without one of them than none at all.
fn unless_unknown(name: &str, done: windows_service::Result<()>) -> windows_service::Result<()> {
    match done {
        Err(windows_service::Error::Winapi(error))
            if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_INVALID_LEVEL) =>
        {
            eprintln!("ringward-agent: this system does not know a setting of service {name}");
            Ok(())
        }
        done => done,
    }
}

fn fail_over(manager: &ServiceManager, name: &'static str) -> Result<(), SetUpError> {
    let failed = |doing| {
        move |source| SetUpError::Service {
            doing,
            service: name,
            source,
        }
    };
    // To have it restarted needs the right to start it.
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::QUERY_CONFIG | ServiceAccess::START;
    let opened = manager
        .open_service(name, access)
        .map_err(failed("opening"))?;
    let restarts = RESTARTS.map(|delay| ServiceAction {
        action_type: ServiceActionType::Restart,
        delay,
    });
    let no_more = ServiceAction {
        action_type: ServiceActionType::None,
        delay: Duration::ZERO,
    };
    let recovery = opened.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGIVEN_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(restarts.into_iter().chain([no_more]).collect()),
    });
    unless_unknown(name, recovery).map_err(failed("setting the recovery of"))?;
    let also_errors = opened.set_failure_actions_on_non_crash_failures(true);
    unless_unknown(name, also_errors).map_err(failed("setting the recovery of"))?;
    let last_words = opened.set_preshutdown_timeout(PRESHUTDOWN);
    unless_unknown(name, last_words).map_err(failed("setting the time before a shutdown of"))
}
