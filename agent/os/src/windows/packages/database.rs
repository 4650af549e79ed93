//! What Windows Installer knows of packages and products.

use crate::msi::Product;
use std::os::windows::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{ERROR_NO_MORE_ITEMS, ERROR_SUCCESS};
use windows_sys::Win32::System::ApplicationInstallationAndServicing::{
    MSIHANDLE, MsiCloseHandle, MsiDatabaseOpenViewW, MsiEnumRelatedProductsW, MsiGetProductInfoW,
    MsiOpenDatabaseW, MsiRecordGetStringW, MsiViewExecute, MsiViewFetch,
};

/// Products of one family; two are rare.
const PRODUCTS_MAX: u32 = 16;
/// `{`, 36 characters, `}`, and the end.
const CODE_UNITS: usize = 39;
/// Rows that are looked at; a package of many gigabytes has some dozens of cabinets.
const ROWS_MAX: usize = 256;
/// A property's value that is looked at.
const VALUE_UNITS_MAX: usize = 1024;

struct Handle(MSIHANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once.
        unsafe { MsiCloseHandle(self.0) };
    }
}

fn checked(doing: &str, path: &Path, code: u32) -> Result<(), String> {
    match code {
        ERROR_SUCCESS => Ok(()),
        code => Err(format!("{doing} {} ended with {code}", path.display())),
    }
}

fn open(file: &Path) -> Result<Handle, String> {
    let name: Vec<u16> = file.as_os_str().encode_wide().chain([0]).collect();
    let mut database = Handle(0);
    // SAFETY: the name ends with a zero; null opens for reading only; the out handle outlives the call.
    let code = unsafe { MsiOpenDatabaseW(name.as_ptr(), std::ptr::null(), &mut database.0) };
    checked("opening the package", file, code)?;
    Ok(database)
}

/// What a package file would install.
pub(super) fn describe(file: &Path) -> Result<Product, String> {
    let database = open(file)?;
    let property = |name: &str| property(&database, file, name);
    Ok(Product {
        code: property("ProductCode")?,
        upgrade: property("UpgradeCode")?,
        version: property("ProductVersion")?,
    })
}

/// Whether a package holds its files itself: one whose files lie beside it, or whose copy was made
/// without them, installs nothing.
pub(super) fn is_whole(file: &Path) -> Result<bool, String> {
    let database = open(file)?;
    let cabinets = column(&database, file, "SELECT `Cabinet` FROM `Media`")?;
    Ok(cabinets.iter().all(|cabinet| cabinet.starts_with('#')))
}

fn property(database: &Handle, file: &Path, name: &str) -> Result<String, String> {
    let query = format!("SELECT `Value` FROM `Property` WHERE `Property`='{name}'");
    let mut values = column(database, file, &query)?;
    match values.len() {
        1 => Ok(values.remove(0)),
        _ => Err(format!("{} does not say its {name}", file.display())),
    }
}

/// The texts that a query of one column finds.
fn column(database: &Handle, file: &Path, query: &str) -> Result<Vec<String>, String> {
    let query = wide(query);
    let mut view = Handle(0);
    // SAFETY: the database is open; the query ends with a zero; the out handle outlives the calls.
    unsafe {
        let code = MsiDatabaseOpenViewW(database.0, query.as_ptr(), &mut view.0);
        checked("asking the package", file, code)?;
        checked("asking the package", file, MsiViewExecute(view.0, 0))?;
    }
    let mut found = Vec::new();
    while found.len() < ROWS_MAX {
        let mut record = Handle(0);
        let mut value = vec![0_u16; VALUE_UNITS_MAX];
        let mut units = u32::try_from(value.len()).unwrap_or(0);
        // SAFETY: the view is open; the record is closed by `Handle`; the buffer is as long as `units`
        // says; all out values outlive their calls.
        unsafe {
            match MsiViewFetch(view.0, &mut record.0) {
                ERROR_NO_MORE_ITEMS => break,
                code => checked("reading the package", file, code)?,
            }
            let code = MsiRecordGetStringW(record.0, 1, value.as_mut_ptr(), &mut units);
            checked("reading the package", file, code)?;
        }
        let units = usize::try_from(units).unwrap_or(0).min(value.len());
        found.push(String::from_utf16_lossy(&value[..units]));
    }
    Ok(found)
}

/// The products of a family that are installed for the machine.
pub(super) fn installed(upgrade: &str) -> Vec<Product> {
    let family = wide(upgrade);
    let codes = (0..PRODUCTS_MAX).map_while(|index| {
        let mut code = [0_u16; CODE_UNITS];
        // SAFETY: the family's code ends with a zero; the buffer has the length that is asked for.
        let found =
            unsafe { MsiEnumRelatedProductsW(family.as_ptr(), 0, index, code.as_mut_ptr()) };
        (found == ERROR_SUCCESS).then(|| String::from_utf16_lossy(&code[..CODE_UNITS - 1]))
    });
    let known = codes.filter_map(|code| {
        Some(Product {
            version: info(&code, "VersionString")?,
            upgrade: upgrade.to_owned(),
            code,
        })
    });
    known.collect()
}

/// The copy of a product's package that Windows Installer keeps.
pub(super) fn cached(code: &str) -> Option<PathBuf> {
    let path = PathBuf::from(info(code, "LocalPackage")?);
    path.is_file().then_some(path)
}

fn info(code: &str, what: &str) -> Option<String> {
    let (code, what) = (wide(code), wide(what));
    let mut value = vec![0_u16; VALUE_UNITS_MAX];
    let mut units = u32::try_from(value.len()).ok()?;
    // SAFETY: both texts end with a zero; the buffer is as long as `units` says.
    let told =
        unsafe { MsiGetProductInfoW(code.as_ptr(), what.as_ptr(), value.as_mut_ptr(), &mut units) };
    if told != ERROR_SUCCESS {
        return None;
    }
    let units = usize::try_from(units).ok()?.min(value.len());
    Some(String::from_utf16_lossy(&value[..units]))
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
