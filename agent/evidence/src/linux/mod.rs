//! Linux artefacts.

pub mod bootloader;
pub mod journal;
pub mod klog;
pub mod oom;
pub mod pstore;
pub mod units;
pub mod wtmp;
