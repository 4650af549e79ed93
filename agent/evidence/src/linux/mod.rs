//! Linux artefacts.

pub mod klog;
