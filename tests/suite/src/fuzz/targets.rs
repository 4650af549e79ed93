//! What is fuzzed: each target says what came of an input, or what must never come of one.

use prost::Message as _;
use ringward_agent::config::File;
use ringward_agent::prepare::unpack;
use ringward_domain::limits::BUNDLE_BYTES_MAX;
use ringward_domain::manifest::{Envelope, Manifest, ReleaseRoot};
use ringward_domain::session::{Begin, Heartbeat, RequestGrant, ToAgent, ToServer};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{
    BootId, Epoch, Generation, Millis, Nonce, ReleaseDigest, RolloutId, Sha256, SignalSeq,
};
use ringward_server::config::ConfigFile;
use ringward_server::{Config, DataDir};
use ringward_server_core::policy::Policy;
use ringward_wire::pb;
use ringward_wire::token::EnrolmentToken;
use std::path::Path;

/// What came of an input; an error is a finding.
pub type Came = Result<String, String>;

/// One parser.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Words of its format.
    pub words: &'static [&'static str],
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds it.
    pub run: fn(&[u8]) -> Came,
}

const JSON: &[&str] = &[
    "{", "}", "[", "]", ",", ":", "\"", "null", "true", "-1", "1e999", "0.5", "\\u0000", "{}", "[]",
];
const TOML: &[&str] = &[
    "[",
    "[[",
    "]]",
    "=",
    "\n",
    "\"",
    "'''",
    "#",
    "inf",
    "nan",
    "-1",
    "0x",
    "1979-05-27",
    "{}",
    "..",
];

/// All of them but the readers of crash evidence.
pub fn all() -> Vec<Target> {
    vec![
        Target {
            name: "bundle",
            words: &[
                "..",
                "/",
                "\0",
                "ustar",
                "././@LongLink",
                "0000777",
                "17 path=../x\n",
            ],
            seeds: bundles,
            run: bundle,
        },
        Target {
            name: "manifest",
            words: JSON,
            seeds: manifests,
            run: manifest,
        },
        Target {
            name: "release-root",
            words: JSON,
            seeds: || {
                vec![br#"{"version":1,"threshold":1,"keys":["0000000000000000000000000000000000000000000000000000000000000000"]}"#.to_vec()]
            },
            run: |bytes| Ok(said(serde_json::from_slice::<ReleaseRoot>(bytes))),
        },
        Target {
            name: "token",
            words: &["rw1.", "=", "-", "_", "eyJ", "\n"],
            seeds: tokens,
            run: token,
        },
        Target {
            name: "agent-config",
            words: TOML,
            seeds: || {
                vec![b"state_dir = \"/var/lib/x\"\nadapter = \"linux\"\nservers = [\"a:1\"]\n[spool]\nsize_mib = 8\n".to_vec()]
            },
            run: agent_config,
        },
        Target {
            name: "server-config",
            words: TOML,
            seeds: || {
                vec![b"[agents]\nlisten = \"127.0.0.1:0\"\naddress = \"r.example:1\"\n[admins]\nlisten = \"[::1]:0\"\naddress = \"[::1]:2\"\n[limits]\nhandshakes = 3\n[certificates]\nhost_days = 9\n".to_vec()]
            },
            run: server_config,
        },
        Target {
            name: "policy",
            words: TOML,
            seeds: || {
                vec![
                    crate::lab::POLICY.as_bytes().to_vec(),
                    crate::demo::POLICY.as_bytes().to_vec(),
                ]
            },
            run: |bytes| text(bytes, |text| said(Policy::parse(text))),
        },
        Target {
            name: "session-to-server",
            words: &[],
            seeds: to_server,
            run: session_to_server,
        },
        Target {
            name: "session-to-agent",
            words: &[],
            seeds: to_agent,
            run: session_to_agent,
        },
    ]
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn text(bytes: &[u8], run: impl Fn(&str) -> String) -> Came {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(run(text)),
        Err(_) => Ok("no text".to_owned()),
    }
}

fn bundles() -> Vec<Vec<u8>> {
    let mut plain = tar_entry("bin/app", b'0', b"content");
    plain.extend(tar_entry("conf", b'0', &[7; 600]));
    plain.extend(tar_entry("empty/", b'5', b""));
    plain.extend([0; 1024]);
    let mut long = tar_entry("././@LongLink", b'L', &[b'x'; 150]);
    long.extend(tar_entry("x", b'0', b"long"));
    long.extend([0; 1024]);
    let mut link = tar_entry("link", b'2', b"");
    link.extend([0; 1024]);
    vec![plain, long, link]
}

/// One entry of a tar archive (POSIX ustar).
fn tar_entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000755\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    head[156] = kind;
    head[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut head);
    let mut entry = head.to_vec();
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// Writes the head's checksum, without which nothing of an entry is looked at.
fn seal(head: &mut [u8]) {
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn bundle(bytes: &[u8]) -> Came {
    let mut bytes = bytes.to_vec();
    for head in bytes
        .chunks_exact_mut(512)
        .filter(|head| head.iter().any(|byte| *byte > 0))
    {
        // Whatever was changed, let the archive's own checksum not be what stops it.
        if head[257..262] == *b"ustar" {
            seal(head);
        }
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let root = folder.path().join("slot");
    std::fs::create_dir(&root).map_err(|error| error.to_string())?;
    let outcome = said(unpack(bytes.as_slice(), &root));
    let beside = std::fs::read_dir(folder.path()).map_err(|error| error.to_string())?;
    if beside.count() != 1 {
        return Err("something lies outside the slot".to_owned());
    }
    only_plain(&root, 0)?;
    Ok(outcome)
}

fn only_plain(folder: &Path, depth: usize) -> Result<u64, String> {
    let mut bytes = 0;
    let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let kind = entry.file_type().map_err(|error| error.to_string())?;
        if kind.is_dir() {
            bytes += only_plain(&entry.path(), depth + 1)?;
        } else if kind.is_file() {
            bytes += entry.metadata().map_or(0, |data| data.len());
        } else {
            return Err(format!("{} is no plain file", entry.path().display()));
        }
    }
    if depth > 64 || bytes > BUNDLE_BYTES_MAX {
        return Err("the tree is beyond its bounds".to_owned());
    }
    Ok(bytes)
}

fn manifests() -> Vec<Vec<u8>> {
    vec![
        br#"{"format":1,"package":"demo","version":"1.0","security_floor":"0.9","expires_unix_s":99,"artefacts":[{"os":"linux","sha256":"0000000000000000000000000000000000000000000000000000000000000000","size":7}],"installer":"bundle","revert_class":"atomic","boot":"required","probes":[{"kind":"tcp","port":1,"timeout_ms":5}]}"#.to_vec(),
    ]
}

fn manifest(bytes: &[u8]) -> Came {
    let envelope = Envelope {
        payload: bytes.to_vec(),
        signatures: Vec::new(),
    };
    let wire = pb::Envelope::from(envelope).encode_to_vec();
    let back = pb::Envelope::decode(wire.as_slice()).map_err(|error| error.to_string())?;
    let _ = Envelope::try_from(back);
    match serde_json::from_slice::<Manifest>(bytes) {
        Ok(manifest) => {
            let written = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
            let again: Manifest = serde_json::from_slice(&written)
                .map_err(|error| format!("what was written is not read again: {error}"))?;
            match again == manifest {
                true => Ok("ok".to_owned()),
                false => Err("what was written is read as something else".to_owned()),
            }
        }
        Err(error) => Ok(error.to_string()),
    }
}

fn tokens() -> Vec<Vec<u8>> {
    let token = EnrolmentToken {
        addresses: vec!["ringward.example:7443".to_owned(), "[::1]:1".to_owned()],
        ca: Sha256([7; 32]),
        secret: ringward_wire::token::Secret::new([9; 32]),
    };
    vec![token.to_text().into_bytes()]
}

fn token(bytes: &[u8]) -> Came {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok("no text".to_owned());
    };
    let token: EnrolmentToken = match text.parse() {
        Ok(token) => token,
        Err(error) => return Ok(format!("{error}")),
    };
    match token.to_text().parse::<EnrolmentToken>() {
        Ok(again) if again.to_text() == token.to_text() => Ok("ok".to_owned()),
        _ => Err("a token that was read is not written as one".to_owned()),
    }
}

fn agent_config(bytes: &[u8]) -> Came {
    text(bytes, |text| match toml::from_str::<File>(text) {
        Ok(file) => said(file.merge(None).validate()),
        Err(error) => error.message().to_owned(),
    })
}

fn server_config(bytes: &[u8]) -> Came {
    text(bytes, |text| match toml::from_str::<ConfigFile>(text) {
        Ok(file) => said(Config::validate(DataDir::new("/nowhere"), file)),
        Err(error) => error.message().to_owned(),
    })
}

fn to_server() -> Vec<Vec<u8>> {
    let nonce = Nonce([1; 16]);
    let signal = Signal {
        seq: SignalSeq(3),
        kind: SignalKind::Bugcheck,
        key: "k".to_owned(),
        boot: BootId([2; 16]),
        at_boottime: Millis(9),
        release: Some(ReleaseDigest([3; 32])),
        title: "t".to_owned(),
        signature: "s".to_owned(),
        evidence: "e".to_owned(),
    };
    let messages = [
        ToServer::Hello(Box::new(crate::chatter::hello("fuzzed", 1))),
        ToServer::Heartbeat(Heartbeat {
            accepted: (Epoch(1), Generation(2)),
            boottime: Millis(3),
            soaked: Some((nonce, Millis(4))),
        }),
        ToServer::Signals(vec![signal]),
        ToServer::RequestGrant(RequestGrant {
            nonce,
            rollout: RolloutId(1),
            release: ReleaseDigest([3; 32]),
        }),
        ToServer::Begin(Begin { nonce }),
        ToServer::AuditKnown { size: 5 },
    ];
    let frames = messages.into_iter().map(pb::AgentFrame::from);
    frames.map(|frame| frame.encode_to_vec()).collect()
}

fn session_to_server(bytes: &[u8]) -> Came {
    let Ok(frame) = pb::AgentFrame::decode(bytes) else {
        return Ok("no protobuf".to_owned());
    };
    match ToServer::try_from(frame) {
        Ok(message) => {
            let again = ToServer::try_from(pb::AgentFrame::from(message.clone()));
            match again {
                Ok(again) if again == message => Ok("ok".to_owned()),
                _ => Err("what was written is read as something else".to_owned()),
            }
        }
        Err(error) => Ok(error.to_string()),
    }
}

fn to_agent() -> Vec<Vec<u8>> {
    let nonce = Nonce([1; 16]);
    let messages = [
        ToAgent::Welcome { protocol: 1 },
        ToAgent::Grant {
            nonce,
            life: Millis(60_000),
        },
        ToAgent::Begun { nonce },
        ToAgent::SignalsDurable {
            through: SignalSeq(7),
        },
        ToAgent::ComeBack { after: Millis(1) },
    ];
    let frames = messages.into_iter().map(pb::ServerFrame::from);
    frames.map(|frame| frame.encode_to_vec()).collect()
}

fn session_to_agent(bytes: &[u8]) -> Came {
    let Ok(frame) = pb::ServerFrame::decode(bytes) else {
        return Ok("no protobuf".to_owned());
    };
    match ToAgent::try_from(frame) {
        Ok(message) => {
            let again = ToAgent::try_from(pb::ServerFrame::from(message.clone()));
            match again {
                Ok(again) if again == message => Ok("ok".to_owned()),
                _ => Err("what was written is read as something else".to_owned()),
            }
        }
        Err(error) => Ok(error.to_string()),
    }
}
