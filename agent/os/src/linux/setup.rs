//! Setting the service up is the packages' work here.

/// Why nothing was set up.
#[derive(Debug, thiserror::Error)]
#[error("packages set the service up on Linux; this verb is for the Windows installer")]
pub struct SetUpError;

/// Does nothing here.
///
/// # Errors
/// Always.
pub fn set_up() -> Result<(), SetUpError> {
    Err(SetUpError)
}

/// Does nothing here.
///
/// # Errors
/// Always.
pub fn purge() -> Result<(), SetUpError> {
    Err(SetUpError)
}

/// Does nothing here.
///
/// # Errors
/// Always.
pub fn start() -> Result<(), SetUpError> {
    Err(SetUpError)
}
