//! Which Windows artefacts of a listing belong to one machine.
//!
//! A stop leaves traces in the System log, in the Application log and in a dump. Told together they
//! are one finding; told of two machines together they would be a lie. So they are joined only where
//! a listing holds one System log.

use super::{Artefact, Kind};
use crate::windows;

/// Artefacts read through one detector: logs first, then dumps.
#[derive(Debug)]
pub(super) struct Machine {
    log: usize,
    members: Vec<usize>,
    read: bool,
}

impl Machine {
    /// The machine of a listing, where there is exactly one with more than its log.
    pub(super) fn of(listing: &[Artefact], kinds: &[Option<Kind>]) -> Option<Self> {
        let of_kind = |wanted: fn(windows::Kind) -> bool| {
            kinds
                .iter()
                .enumerate()
                .filter(move |(_, kind)| matches!(kind, Some(Kind::Windows(kind)) if wanted(*kind)))
                .map(|(index, _)| index)
        };
        let is_log = |kind| kind != windows::Kind::Dump;
        let named = |index: &usize, name: &str| stem(&listing[*index]).eq_ignore_ascii_case(name);
        let logs: Vec<usize> = of_kind(is_log)
            .filter(|index| !named(index, "application"))
            .collect();
        let by_name: Vec<usize> = logs
            .iter()
            .copied()
            .filter(|index| named(index, "system"))
            .collect();
        let ((&[log], _) | (_, &[log])) = (by_name.as_slice(), logs.as_slice()) else {
            return None;
        };
        let beside = of_kind(is_log).filter(|index| {
            named(index, "application") && listing[*index].folder() == listing[log].folder()
        });
        let dumps = of_kind(|kind| kind == windows::Kind::Dump);
        let members: Vec<usize> = [log].into_iter().chain(beside).chain(dumps).collect();
        (members.len() > 1).then_some(Self {
            log,
            members,
            read: false,
        })
    }

    /// Whether an artefact is one of its own.
    pub(super) fn has(&self, index: usize) -> bool {
        self.members.contains(&index)
    }

    /// Its System log.
    pub(super) fn log(&self) -> usize {
        self.log
    }

    /// What is left to read, in the order in which the detector wants it.
    pub(super) fn members(&self) -> Vec<usize> {
        match self.read {
            true => Vec::new(),
            false => self.members.clone(),
        }
    }

    /// Everything was read.
    pub(super) fn close(&mut self) {
        self.read = true;
    }
}

fn stem(artefact: &Artefact) -> &str {
    let name = artefact.name();
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(paths: &[&str]) -> Option<Vec<usize>> {
        let listing: Vec<Artefact> = paths
            .iter()
            .map(|path| Artefact {
                path: (*path).to_owned(),
            })
            .collect();
        let kinds: Vec<Option<Kind>> = paths
            .iter()
            .map(|path| match path.rsplit_once('.') {
                Some((_, "evtx")) => Some(Kind::Windows(windows::Kind::EventLog)),
                Some((_, "dmp")) => Some(Kind::Windows(windows::Kind::Dump)),
                _ => None,
            })
            .collect();
        Machine::of(&listing, &kinds).map(|machine| machine.members())
    }

    #[test]
    fn the_log_of_one_machine_is_read_before_its_dumps() {
        let paths = [
            "w/Minidump/a.dmp",
            "w/Logs/Application.evtx",
            "w/Logs/Security.evtx",
            "w/Logs/System.evtx",
        ];
        assert_eq!(machine(&paths), Some(vec![3, 1, 0]));
        assert_eq!(machine(&["case.evtx", "x.dmp"]), Some(vec![0, 1]));
    }

    #[test]
    fn two_machines_and_lone_artefacts_are_read_one_by_one() {
        let two = ["a/System.evtx", "b/System.evtx", "a/x.dmp"];
        assert_eq!(machine(&two), None);
        assert_eq!(machine(&["x.dmp", "y.dmp"]), None);
        assert_eq!(machine(&["System.evtx"]), None);
    }
}
