//! Folders and files that a stranger must not read, and files opened without following.
//!
//! Every user may make folders under `ProgramData`. So ours gets its own access list in the call that
//! makes it, before the first file; one that is there already and belongs to a stranger is refused.

use std::ffi::c_void;
use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_SUCCESS, GENERIC_READ, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, EqualSid, GetSecurityDescriptorDacl, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid,
    WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, READ_CONTROL,
    WRITE_DAC,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// SYSTEM, administrators and whoever owns it do everything; nothing is inherited from above.
const PRIVATE: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;OW)";
/// Users read, too: the slots hold what they run.
const READABLE: &str = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;OW)(A;OICI;0x1200a9;;;BU)";

/// Makes a folder, and those above it, with a protected access list. With `is_private` no user but
/// administrators enters it.
///
/// # Errors
/// It is missing and cannot be made, or it is there and belongs to a stranger.
pub fn make(path: &Path, is_private: bool) -> io::Result<()> {
    if let Some(above) = path.parent()
        && !above.as_os_str().is_empty()
        && !above.is_dir()
    {
        make(above, false)?;
    }
    let access = Access::parse(if is_private { PRIVATE } else { READABLE })?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or(0),
        lpSecurityDescriptor: access.0,
        bInheritHandle: 0,
    };
    let name = wide(path);
    // SAFETY: `name` ends with a zero; the attributes and the descriptor they point to outlive the
    // call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &attributes) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error().map(i32::cast_unsigned) != Some(ERROR_ALREADY_EXISTS) {
        return Err(error);
    }
    take_over(path, &access)
}

/// Puts our access list on a folder that was there, unless a stranger made it: its owner could change
/// the list again.
fn take_over(path: &Path, access: &Access) -> io::Result<()> {
    let folder = OpenOptions::new()
        .access_mode(GENERIC_READ | READ_CONTROL | WRITE_DAC)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    let kind = folder.metadata()?.file_type();
    if !kind.is_dir() || kind.is_symlink() {
        return Err(io::Error::other(
            "it is no folder but a file or a link; remove it",
        ));
    }
    if !is_owned_by_us(&folder)? {
        return Err(io::Error::other(
            "it was made by a user who is no administrator; look what is in it and remove it",
        ));
    }
    let dacl = access.dacl()?;
    // SAFETY: the handle is open; the list lives in `access`, which outlives the call; the other
    // three pointers may be null as their parts are not set.
    let code = unsafe {
        SetSecurityInfo(
            folder.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            dacl,
            std::ptr::null(),
        )
    };
    match code {
        ERROR_SUCCESS => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
}

/// Whether SYSTEM, the administrators or this process's user own it.
fn is_owned_by_us(file: &File) -> io::Result<bool> {
    let mut owner: PSID = std::ptr::null_mut();
    let mut descriptor = Access(std::ptr::null_mut());
    // SAFETY: the handle is open; both out pointers outlive the call; `owner` points into the
    // descriptor, which `Access` frees after the last use of `owner`.
    let code = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &mut owner,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &mut descriptor.0,
        )
    };
    if code != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(code.cast_signed()));
    }
    let own = own_user()?;
    // SAFETY: `owner` is a valid SID for as long as `descriptor` lives; `own` holds a TOKEN_USER
    // that the system wrote, whose SID lies in the same buffer.
    let ours = unsafe {
        let own = &*own.as_ptr().cast::<TOKEN_USER>();
        IsWellKnownSid(owner, WinLocalSystemSid) != 0
            || IsWellKnownSid(owner, WinBuiltinAdministratorsSid) != 0
            || EqualSid(owner, own.User.Sid) != 0
    };
    Ok(ours)
}

/// The user of this process, as a `TOKEN_USER` in a buffer aligned for it.
fn own_user() -> io::Result<Vec<u64>> {
    use windows_sys::Win32::Foundation::CloseHandle;
    use windows_sys::Win32::Security::GetTokenInformation;
    /// A `TOKEN_USER` with the longest SID is 84 bytes.
    const WORDS: usize = 32;
    let mut buffer = vec![0_u64; WORDS];
    let mut token = std::ptr::null_mut();
    let mut needed = 0;
    // SAFETY: the pseudo handle needs no closing; `token` is closed after its one use; the buffer's
    // length is given in bytes and it outlives the call.
    let read = unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = u32::try_from(WORDS * 8).unwrap_or(0);
        let read = GetTokenInformation(
            token,
            TokenUser,
            buffer.as_mut_ptr().cast::<c_void>(),
            bytes,
            &mut needed,
        );
        let error = io::Error::last_os_error();
        CloseHandle(token);
        if read == 0 { Err(error) } else { Ok(()) }
    };
    read.map(|()| buffer)
}

/// A security descriptor that the system allocated.
struct Access(PSECURITY_DESCRIPTOR);

impl Access {
    fn parse(text: &str) -> io::Result<Self> {
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut access = Self(std::ptr::null_mut());
        // SAFETY: the text ends with a zero; the descriptor is freed by `Access`.
        let read = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut access.0,
                std::ptr::null_mut(),
            )
        };
        match read {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(access),
        }
    }

    fn dacl(&self) -> io::Result<*const ACL> {
        let (mut present, mut defaulted) = (0, 0);
        let mut dacl: *mut ACL = std::ptr::null_mut();
        // SAFETY: the descriptor is valid for as long as `self` lives, and so is the list in it.
        let read =
            unsafe { GetSecurityDescriptorDacl(self.0, &mut present, &mut dacl, &mut defaulted) };
        match read {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(dacl),
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        // SAFETY: allocated by the system with LocalAlloc, freed once; null is fine.
        unsafe { LocalFree(self.0) };
    }
}

fn wide(path: &Path) -> Vec<u16> {
    // Absolute paths of any length: the prefix lifts the limit of 260.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = path.as_os_str();
    let is_plain_drive = text.to_string_lossy().as_bytes().get(1) == Some(&b':');
    let prefix = if is_plain_drive { r"\\?\" } else { "" };
    prefix
        .encode_utf16()
        .chain(text.encode_wide())
        .chain([0])
        .collect()
}

/// A new file; who may read it follows from its folder.
///
/// # Errors
/// It is there already or cannot be made.
pub fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens for reading what was a file when it was listed. A link that took its place is opened itself,
/// and is no file.
///
/// # Errors
/// It cannot be opened.
pub fn open_listed(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// What it is that is neither file nor folder, and what to do.
#[must_use]
pub fn special(kind: FileType) -> &'static str {
    match kind.is_symlink() {
        true => "a link or junction, not followed: name what it points to",
        false => "a device, not read: name a copy of its content",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_made_with_those_above_it_and_made_again() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a").join("b");
        make(&deep, true).unwrap();
        make(&deep, true).unwrap();
        std::fs::write(deep.join("file"), b"x").unwrap();
        assert!(make(&deep.join("file"), true).is_err());
    }
}
