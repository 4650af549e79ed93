//! Pure parsers of crash evidence: bytes in, findings out, for every OS on every OS.
//!
//! Nothing here opens a file, reads a clock or talks to the OS; every size and loop is bounded,
//! and one unreadable record never hides the next.

pub mod finding;
#[doc(hidden)]
pub mod fuzz;
pub mod inspect;
pub mod linux;
pub mod source;
pub mod text;
pub mod windows;
