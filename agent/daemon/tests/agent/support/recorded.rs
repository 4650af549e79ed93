//! The answers of a server of protocol version 1, as they once went over the wire.

use prost::Message as _;
use ringward_domain::session::{ToAgent, ToServer};
use ringward_domain::{Nonce, ReleaseDigest};
use ringward_wire::pb;
use std::path::Path;

/// The nonce and the release in the recording, as they stand in its bytes.
const NONCE: [u8; 16] = [5; 16];

/// Frames of the server in their order.
#[derive(Clone)]
pub struct Recorded {
    frames: Vec<Vec<u8>>,
    recorded_release: ReleaseDigest,
    release: ReleaseDigest,
}

impl Recorded {
    /// The installation in `install-1.txt`, of this release in place of the recorded one.
    pub fn installs(release: ReleaseDigest) -> Self {
        let file = "../../proto/wire/tests/golden/install-1.txt";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(file).unwrap();
        let frames: Vec<Vec<u8>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("< "))
            .map(|digits| {
                let pairs = (0..digits.len()).step_by(2);
                let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                pairs.map(byte).collect()
            })
            .collect();
        let desired = frames.iter().find_map(|frame| match read(frame) {
            ToAgent::Desired(desired) => Some(desired),
            _ => None,
        });
        Self {
            frames,
            recorded_release: desired.unwrap().assignments[0].release,
            release,
        }
    }

    /// What was answered to such a message, the host's own nonce in place of the recorded one.
    pub fn answers(&self, message: &ToServer) -> Vec<ToAgent> {
        let (nonce, wanted): (Option<Nonce>, fn(&ToAgent) -> bool) = match message {
            ToServer::Hello(_) => (None, |answer| {
                matches!(answer, ToAgent::Welcome { .. } | ToAgent::Desired(_))
            }),
            ToServer::RequestGrant(request) => (Some(request.nonce), |answer| {
                matches!(answer, ToAgent::Grant { .. })
            }),
            ToServer::Begin(begin) => (Some(begin.nonce), |answer| {
                matches!(answer, ToAgent::Begun { .. })
            }),
            ToServer::Signals(_) => (None, |answer| {
                matches!(answer, ToAgent::SignalsDurable { .. })
            }),
            _ => return Vec::new(),
        };
        let frames = self.frames.iter();
        let frames = frames.filter(|frame| wanted(&read(frame)));
        frames
            .map(|frame| {
                let mut frame = replaced(frame, &self.recorded_release.0, &self.release.0);
                if let Some(nonce) = nonce {
                    frame = replaced(&frame, &NONCE, &nonce.0);
                }
                read(&frame)
            })
            .collect()
    }
}

fn read(frame: &[u8]) -> ToAgent {
    ToAgent::try_from(pb::ServerFrame::decode(frame).unwrap()).unwrap()
}

fn replaced(frame: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut at = 0;
    while let Some(found) = frame[at..].windows(old.len()).position(|part| part == old) {
        at += found;
        frame[at..at + old.len()].copy_from_slice(new);
        at += old.len();
    }
    frame
}
