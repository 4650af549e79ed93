//! The agent as a service: started, asked to stop, and told of sleep by the service manager.

use super::event_log::{Level, say};
use crate::host::HostEvent;
use ringward_domain::Absence;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use windows_service::define_windows_service;
use windows_service::service::{
    PowerEventParam, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_dispatcher;
use windows_sys::Win32::Foundation::ERROR_FAILED_SERVICE_CONTROLLER_CONNECT;

/// The service's name.
pub const NAME: &str = "RingwardAgent";
/// The service manager waits this long for each next step.
const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Windows gives two seconds before it sleeps; the word that it will takes a fraction of one.
const LAST_WORD: Duration = Duration::from_millis(1500);
/// Suspends that wait for the daemon.
const POWER_EVENTS_MAX: usize = 4;

/// Why the service has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Stop,
    /// The system goes down; whether for good is not known.
    Shutdown,
}

/// A power event with an end that is dropped when the daemon has dealt with it.
pub(super) struct PowerEvent {
    pub(super) event: HostEvent,
    pub(super) dealt_with: std::sync::mpsc::Sender<()>,
}

struct Service {
    manager: ServiceStatusHandle,
    asked: watch::Sender<Asked>,
    checkpoint: Mutex<u32>,
}

static SERVICE: OnceLock<Service> = OnceLock::new();
static PROGRAM: OnceLock<fn() -> ExitCode> = OnceLock::new();
static POWER: Mutex<Option<mpsc::Sender<PowerEvent>>> = Mutex::new(None);

define_windows_service!(entry, serve);

/// Runs the program: as a service where the service manager started this, else as it is. Only `run`
/// is ever a service.
pub fn under_service_manager(program: fn() -> ExitCode) -> ExitCode {
    let is_run = std::env::args_os().nth(1).is_some_and(|verb| verb == "run");
    let _ = PROGRAM.set(program);
    if !is_run {
        return program();
    }
    match service_dispatcher::start(NAME, entry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(windows_service::Error::Winapi(error))
            if error.raw_os_error().map(i32::cast_unsigned)
                == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) =>
        {
            program()
        }
        Err(error) => {
            eprintln!("ringward-agent: starting as a service: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn serve(_arguments: Vec<OsString>) {
    let (asked, _) = watch::channel(Asked::Nothing);
    let told = asked.clone();
    let registered = service_control_handler::register(NAME, move |control| on(control, &told));
    let (Ok(manager), Some(program)) = (registered, PROGRAM.get()) else {
        return;
    };
    let service = SERVICE.get_or_init(|| Service {
        manager,
        asked,
        checkpoint: Mutex::new(0),
    });
    service.tell(ServiceState::StartPending, ServiceExitCode::NO_ERROR);
    say(Level::Information, "the agent starts");
    let code = match program() == ExitCode::SUCCESS {
        true => ServiceExitCode::NO_ERROR,
        false => {
            say(
                Level::Error,
                "the agent ended with an error; its log says which",
            );
            ServiceExitCode::ServiceSpecific(1)
        }
    };
    // Everything is closed: whoever waits for the stop may replace the program now.
    service.tell(ServiceState::Stopped, code);
}

fn on(control: ServiceControl, asked: &watch::Sender<Asked>) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Interrogate => {}
        ServiceControl::Stop => stop(asked, Asked::Stop),
        ServiceControl::Preshutdown | ServiceControl::Shutdown => stop(asked, Asked::Shutdown),
        ServiceControl::PowerEvent(PowerEventParam::Suspend) => suspend(),
        ServiceControl::PowerEvent(_) => {}
        _ => return ServiceControlHandlerResult::NotImplemented,
    }
    ServiceControlHandlerResult::NoError
}

fn stop(asked: &watch::Sender<Asked>, why: Asked) {
    stopping();
    // A shutdown that follows a person's stop does not undo it.
    asked.send_if_modified(|asked| {
        let first = *asked == Asked::Nothing;
        if first {
            *asked = why;
        }
        first
    });
}

/// Tells the daemon and holds the system's sleep until it has said its word, or for a bounded time.
fn suspend() {
    let sender = POWER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(sender) = sender else {
        return;
    };
    let (dealt_with, done) = std::sync::mpsc::channel();
    let event = HostEvent::GoingAway(Absence::Suspend);
    if sender.try_send(PowerEvent { event, dealt_with }).is_ok() {
        // Ends early when the daemon drops its end.
        let _ = done.recv_timeout(LAST_WORD);
    }
}

/// What the power tells from now on.
pub(super) fn power_events() -> mpsc::Receiver<PowerEvent> {
    let (tell, events) = mpsc::channel(POWER_EVENTS_MAX);
    *POWER.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    events
}

impl Service {
    fn tell(&self, state: ServiceState, code: ServiceExitCode) {
        let mut checkpoint = self
            .checkpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (accepted, wait_hint) = match state {
            ServiceState::Running => (
                ServiceControlAccept::STOP
                    | ServiceControlAccept::PRESHUTDOWN
                    | ServiceControlAccept::POWER_EVENT,
                Duration::ZERO,
            ),
            ServiceState::StartPending => (ServiceControlAccept::empty(), START_WITHIN),
            ServiceState::StopPending => (ServiceControlAccept::empty(), STOP_WITHIN),
            _ => (ServiceControlAccept::empty(), Duration::ZERO),
        };
        *checkpoint = if wait_hint.is_zero() {
            0
        } else {
            *checkpoint + 1
        };
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted: accepted,
            exit_code: code,
            checkpoint: *checkpoint,
            wait_hint,
            process_id: None,
        };
        if let Err(error) = self.manager.set_service_status(status) {
            tracing::warn!(?error, "the service manager is not told {state:?}");
        }
    }
}

/// Whether the service manager started this process.
pub(super) fn is_service() -> bool {
    SERVICE.get().is_some()
}

pub(super) fn running() {
    if let Some(service) = SERVICE.get() {
        service.tell(ServiceState::Running, ServiceExitCode::NO_ERROR);
    }
}

/// May be said more than once: each is a next step, and gives more time.
pub(super) fn stopping() {
    if let Some(service) = SERVICE.get() {
        service.tell(ServiceState::StopPending, ServiceExitCode::NO_ERROR);
    }
}

/// Whether the system goes down.
pub(super) fn is_system_stopping() -> bool {
    SERVICE
        .get()
        .is_some_and(|service| *service.asked.borrow() == Asked::Shutdown)
}

/// Turns true when the service manager or, at a console, a person asks this to stop.
///
/// # Errors
/// Ctrl-C cannot be waited for.
pub fn stop_requested() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    // A service has no console whose keys could be waited for.
    let Some(service) = SERVICE.get() else {
        let mut close = tokio::signal::windows::ctrl_close()?;
        let mut interrupt = tokio::signal::windows::ctrl_c()?;
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = close.recv() => {}
            }
            tell_and_stay(stop).await;
        });
        return Ok(stopped);
    };
    let mut asked = service.asked.subscribe();
    tokio::spawn(async move {
        // The sender is never dropped.
        let _ = asked.wait_for(|asked| *asked != Asked::Nothing).await;
        tell_and_stay(stop).await;
    });
    Ok(stopped)
}

/// The sender lives on, so that nobody takes its end for another stop.
async fn tell_and_stay(stop: watch::Sender<bool>) {
    stop.send_replace(true);
    std::future::pending::<()>().await;
}
