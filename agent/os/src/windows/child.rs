//! A child without rights: no privilege, the lowest integrity, a job that bounds what it takes.

use std::ffi::c_void;
use std::io;
use tokio::process::Command;
use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, SID, SID_AND_ATTRIBUTES, SID_IDENTIFIER_AUTHORITY, SetTokenInformation,
    TOKEN_ADJUST_DEFAULT, TOKEN_ADJUST_PRIVILEGES, TOKEN_MANDATORY_LABEL, TOKEN_QUERY,
    TokenIntegrityLevel,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_PROCESS_MEMORY,
    JOB_OBJECT_LIMIT_PROCESS_TIME, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// What the parsers may take, the program's own memory included.
const MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// CPU time in units of 100 ns: 10 s, where a usual file takes milliseconds.
const CPU_100NS_MAX: i64 = 10 * 10_000_000;
/// `SE_GROUP_INTEGRITY`.
const IS_INTEGRITY: u32 = 0x20;
/// `S-1-16-0`: may write to nothing.
const UNTRUSTED: SID = SID {
    Revision: 1,
    SubAuthorityCount: 1,
    IdentifierAuthority: SID_IDENTIFIER_AUTHORITY {
        Value: [0, 0, 0, 0, 0, 16],
    },
    SubAuthority: [0],
};

/// This program as a child.
///
/// # Errors
/// The system does not tell where this program is.
pub(crate) fn command() -> io::Result<Command> {
    /// No window, also where a console started the agent.
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    let mut command = Command::new(std::env::current_exe()?);
    command.env_clear().creation_flags(CREATE_NO_WINDOW);
    // Without it no program starts: the random source's library is looked for there.
    command.env("SystemRoot", super::places::windows());
    Ok(command)
}

/// Called by the child before it reads: gives away what it does not need. It can write nothing, start
/// nothing, and ends when it takes too much.
///
/// # Errors
/// A limit cannot be set; the child must not go on.
pub fn confine() -> io::Result<()> {
    bound()?;
    give_up_rights()
}

fn bound() -> io::Result<()> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_ACTIVE_PROCESS
        | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
        | JOB_OBJECT_LIMIT_PROCESS_MEMORY
        | JOB_OBJECT_LIMIT_PROCESS_TIME;
    limits.BasicLimitInformation.ActiveProcessLimit = 1;
    limits.BasicLimitInformation.PerProcessUserTimeLimit = CPU_100NS_MAX;
    limits.ProcessMemoryLimit = MEMORY_BYTES_MAX;
    let bytes = u32::try_from(size_of_val(&limits)).unwrap_or(0);
    // SAFETY: an unnamed job; the structure and its length fit the information class; the job's
    // handle is left open on purpose, it ends with the process.
    unsafe {
        let job = CreateJobObjectW(std::ptr::null(), std::ptr::null());
        if job.is_null()
            || SetInformationJobObject(
                job,
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast::<c_void>(),
                bytes,
            ) == 0
            || AssignProcessToJobObject(job, GetCurrentProcess()) == 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn give_up_rights() -> io::Result<()> {
    let mut untrusted = UNTRUSTED;
    let label = TOKEN_MANDATORY_LABEL {
        Label: SID_AND_ATTRIBUTES {
            Sid: (&raw mut untrusted).cast::<c_void>(),
            Attributes: IS_INTEGRITY,
        },
    };
    let bytes = u32::try_from(size_of_val(&label) + size_of_val(&untrusted)).unwrap_or(0);
    let rights = TOKEN_QUERY | TOKEN_ADJUST_DEFAULT | TOKEN_ADJUST_PRIVILEGES;
    let mut token = std::ptr::null_mut();
    // SAFETY: `token` is closed after its last use; the label and the SID it points to outlive the
    // call; no earlier state of the privileges is asked for.
    unsafe {
        if OpenProcessToken(GetCurrentProcess(), rights, &mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let gave_up = AdjustTokenPrivileges(
            token,
            1,
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        ) != 0
            && SetTokenInformation(
                token,
                TokenIntegrityLevel,
                (&raw const label).cast::<c_void>(),
                bytes,
            ) != 0;
        let error = io::Error::last_os_error();
        CloseHandle(token);
        if gave_up { Ok(()) } else { Err(error) }
    }
}
