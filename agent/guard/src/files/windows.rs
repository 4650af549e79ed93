//! Files on Windows: the link is a junction, and switching is re-pointing it in place.
//!
//! No rename replaces a junction there, but its target is one attribute of one folder, and setting it
//! anew is one logged change of NTFS: a cut leaves the old target or the new one.
//!
//! A volume without junctions (FAT, network file systems, Wine 8) gets a small file in the link's
//! place that names the target, replaced by rename. Whoever uses the release has to read it there;
//! `ringward-agent doctor` says so.

#![allow(unsafe_code)]

use super::absent_is_none;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_FUNCTION, ERROR_LOCK_VIOLATION, ERROR_NOT_SUPPORTED,
    ERROR_SHARING_VIOLATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
};
use windows_sys::Win32::System::IO::DeviceIoControl;
use windows_sys::Win32::System::Ioctl::FSCTL_SET_REPARSE_POINT;
use windows_sys::Win32::System::SystemServices::IO_REPARSE_TAG_MOUNT_POINT;

/// A scanner or backup holds a file for a moment, rarely for longer.
const TRIES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// A release's digest has 64; more is no link of ours.
const NAME_BYTES_MAX: u64 = 256;
/// The kernel's prefix of a path that needs no further reading.
const KERNEL_PREFIX: &str = r"\??\";

/// Repeats what somebody else's hold on a file forbids for the moment, for a second at most.
fn retried<T>(act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES_MAX {
        match act() {
            Err(error) if is_in_use(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    act()
}

fn is_in_use(error: &io::Error) -> bool {
    const IN_USE: [u32; 3] = [
        ERROR_SHARING_VIOLATION,
        ERROR_LOCK_VIOLATION,
        ERROR_ACCESS_DENIED,
    ];
    let code = error.raw_os_error().map(i32::cast_unsigned);
    code.is_some_and(|code| IN_USE.contains(&code))
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    matches!(code, Some(ERROR_NOT_SUPPORTED | ERROR_INVALID_FUNCTION))
}

fn folder_handle(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Makes the names in a folder durable. NTFS logs them; flushing pushes its log out.
///
/// # Errors
/// The folder cannot be opened or the disk does not answer.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    retried(|| folder_handle(path))?.sync_all()
}

/// Who may read a file follows from the folder above, whose access list is protected.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let options = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .clone();
    retried(|| options.open(path))?.write_all(bytes)
}

pub(super) fn sync(path: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_dir() {
        return sync_folder(path);
    }
    // Flushing needs the right to write.
    retried(|| OpenOptions::new().write(true).open(path))?.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match (is_junction(from)?, is_junction(to)?) {
        (true, true) => {
            repoint(to, &beside_old_target(to, &std::fs::read_link(from)?)?)?;
            std::fs::remove_dir(from)
        }
        _ => retried(|| std::fs::rename(from, to)),
    }
}

/// The same release where the link pointed before: seen from a rescue system the volume has another
/// letter, and the host must find its own.
fn beside_old_target(link: &Path, target: &Path) -> io::Result<PathBuf> {
    let old = std::fs::read_link(link)?;
    Ok(match (old.parent(), target.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => target.to_owned(),
    })
}

fn is_junction(path: &Path) -> io::Result<bool> {
    let found = absent_is_none(std::fs::symlink_metadata(path))?;
    Ok(found.is_some_and(|found| found.is_symlink()))
}

/// `target` is the name of a folder beside the link.
pub(super) fn link(target: &Path, link: &Path) -> io::Result<()> {
    let folder = std::path::absolute(link)?;
    let folder = folder.parent().unwrap_or(Path::new("."));
    std::fs::create_dir(link)?;
    match repoint(link, &folder.join(target)) {
        Err(error) if is_unsupported(&error) => {
            std::fs::remove_dir(link)?;
            let name = target.to_string_lossy().into_owned();
            let mut file = OpenOptions::new().write(true).create_new(true).open(link)?;
            file.write_all(name.as_bytes())?;
            file.sync_all()
        }
        Err(error) => {
            // What is left would be an empty folder where a link is expected.
            let _ = std::fs::remove_dir(link);
            Err(error)
        }
        Ok(()) => sync_folder(link),
    }
}

pub(super) fn link_target(link: &Path) -> io::Result<Option<PathBuf>> {
    let Some(found) = absent_is_none(std::fs::symlink_metadata(link))? else {
        return Ok(None);
    };
    if found.is_symlink() {
        let target = std::fs::read_link(link)?;
        return Ok(Some(
            match (&target.file_name(), is_beside(&target, link)) {
                (Some(name), true) => PathBuf::from(name),
                _ => target,
            },
        ));
    }
    if found.is_file() {
        let mut name = String::new();
        File::open(link)?
            .take(NAME_BYTES_MAX)
            .read_to_string(&mut name)?;
        return Ok(Some(PathBuf::from(name)));
    }
    Err(io::Error::new(
        ErrorKind::InvalidData,
        "a folder stands where a link should",
    ))
}

/// Whether a target lies in the link's own folder, by the two names above both: the letter of the
/// volume may differ.
fn is_beside(target: &Path, link: &Path) -> bool {
    let above = |path: &Path| -> Vec<String> {
        let folder = path.parent().into_iter().flat_map(Path::components).rev();
        let names = folder.map(|name| name.as_os_str().to_string_lossy().to_lowercase());
        names.take(2).collect()
    };
    let names = above(target);
    names.len() == 2 && names == above(link)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match is_junction(path)? {
        true => std::fs::remove_dir(path),
        false => retried(|| std::fs::remove_file(path)),
    }
}

/// The bytes of a junction's attribute: tag, lengths, the path for the kernel and one for people.
fn reparse_data(target: &Path) -> io::Result<Vec<u8>> {
    let wide = |text: &std::ffi::OsStr| -> Vec<u16> { text.encode_wide().collect() };
    // Without the prefix that lifts the limit on a path's length, which would come twice.
    let plain = wide(target.as_os_str());
    let verbatim = wide(r"\\?\".as_ref());
    let plain = plain.strip_prefix(verbatim.as_slice()).unwrap_or(&plain);
    let mut kernel = wide(KERNEL_PREFIX.as_ref());
    kernel.extend_from_slice(plain);
    let bytes = |units: &[u16]| u16::try_from(units.len() * 2);
    let too_long = |_| io::Error::new(ErrorKind::InvalidFilename, "the path is too long");
    let kernel_bytes = bytes(&kernel).map_err(too_long)?;
    let plain_bytes = bytes(plain).map_err(too_long)?;
    // Four lengths, both paths, each with its end.
    let data_bytes = u32::from(kernel_bytes) + u32::from(plain_bytes) + 12;
    let data_bytes = u16::try_from(data_bytes).map_err(too_long)?;
    let mut out = IO_REPARSE_TAG_MOUNT_POINT.to_le_bytes().to_vec();
    for word in [
        data_bytes,
        0,
        0,
        kernel_bytes,
        kernel_bytes + 2,
        plain_bytes,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for units in [kernel.as_slice(), &[0], plain, &[0]] {
        out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    }
    Ok(out)
}

/// Sets the target of a junction, or makes an empty folder one: one logged change.
fn repoint(link: &Path, target: &Path) -> io::Result<()> {
    let data = reparse_data(target)?;
    let folder = retried(|| folder_handle(link))?;
    let mut returned = 0;
    // SAFETY: the handle is open for as long as `folder` lives; the input buffer is `data` with its
    // own length; there is no output buffer; `returned` outlives the call, which is synchronous.
    let set = unsafe {
        DeviceIoControl(
            folder.as_raw_handle(),
            FSCTL_SET_REPARSE_POINT,
            data.as_ptr().cast(),
            u32::try_from(data.len()).unwrap_or(u32::MAX),
            std::ptr::null_mut(),
            0,
            &mut returned,
            std::ptr::null_mut(),
        )
    };
    if set == 0 {
        return Err(io::Error::last_os_error());
    }
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::windows::ffi::OsStringExt;

    #[test]
    fn a_junctions_data_holds_both_paths_and_their_lengths() {
        let data = reparse_data(Path::new(r"C:\a\b")).unwrap();
        let word = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
        assert_eq!(data[..4], [3, 0, 0, 0xA0]);
        assert_eq!(usize::from(word(4)), data.len() - 8);
        assert_eq!((word(8), word(10)), (0, 20));
        assert_eq!((word(12), word(14)), (22, 12));
        let kernel: Vec<u16> = (16..36).step_by(2).map(word).collect();
        let kernel = std::ffi::OsString::from_wide(&kernel);
        assert_eq!(kernel.to_string_lossy(), r"\??\C:\a\b");
        assert_eq!(reparse_data(Path::new(r"\\?\C:\a\b")).unwrap(), data);
    }

    #[test]
    fn a_target_is_beside_its_link_whatever_the_volumes_letter() {
        let link = Path::new(r"D:\ProgramData\Ringward\slots\demo\current");
        let own = Path::new(r"C:\programdata\ringward\slots\demo\abcd");
        assert!(is_beside(own, link));
        assert!(!is_beside(Path::new(r"C:\slots\other\abcd"), link));
        assert!(!is_beside(Path::new(r"C:\abcd"), link));
    }
}
