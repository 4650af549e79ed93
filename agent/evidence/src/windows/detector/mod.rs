//! Detector.
use super::event::EventRecord;
use crate::finding::Finding;
/// Detector.
#[derive(Debug, Default)]
pub struct Detector;
impl Detector {
    /// Takes one record.
    pub fn push(&mut self, _record: &EventRecord) {}
    /// What is new.
    pub fn drain(&mut self) -> Vec<Finding> {
        Vec::new()
    }
    /// The rest.
    pub fn finish(self) -> Vec<Finding> {
        Vec::new()
    }
    /// Whether a record matters.
    pub fn wants(_record: &EventRecord) -> bool {
        true
    }
    /// Records were lost here.
    pub fn records_lost(&mut self) {}
}
