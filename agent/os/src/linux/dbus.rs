//! As much of D-Bus as two calls to logind and two signals of it need.
//!
//! A library would do more than that: zbus brings an executor, a serializer and a proxy of each
//! interface into a process that has a few MiB altogether. Here are a handshake, three calls, and a
//! reader that skips what it does not know.

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Where the system's bus is.
pub(super) const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Longest message that is read; what logind sends has a few hundred bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES_MAX: usize = 512;

/// Something the bus sent.
#[derive(Debug)]
pub(super) struct Message {
    /// 1 call, 2 answer, 3 error, 4 signal.
    kind: u8,
    /// The bus's own name of who sent it; the bus does not let anybody lie here.
    pub(super) sender: String,
    /// Name of the signal, where it is one.
    pub(super) member: String,
    /// Number of the call that this answers.
    answers: u32,
    body: Vec<u8>,
    /// A descriptor that came along.
    pub(super) fd: Option<OwnedFd>,
}

impl Message {
    pub(super) fn is_signal(&self) -> bool {
        self.kind == 4
    }

    /// The body as one boolean, which is what both signals carry.
    pub(super) fn flag(&self) -> bool {
        self.body.first() == Some(&1)
    }
}

/// A connection to the system's bus.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    /// What was read beyond the last message.
    rest: Vec<u8>,
    /// The descriptor that came with it.
    fd: Option<OwnedFd>,
    serial: u32,
}

fn refused(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

impl Bus {
    /// Connects and says who we are.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path).await?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex = crate::hex(uid.as_bytes());
        let hello = format!("\0AUTH EXTERNAL {hex}\r\nNEGOTIATE_UNIX_FD\r\n");
        stream.write_all(hello.as_bytes()).await?;
        let mut bus = Self {
            stream,
            rest: Vec::new(),
            fd: None,
            serial: 0,
        };
        for expected in ["OK ", "AGREE_UNIX_FD"] {
            let line = bus.line().await?;
            if !line.starts_with(expected) {
                return Err(refused(&format!("the bus says {line:?}")));
            }
        }
        bus.stream.write_all(b"BEGIN\r\n").await?;
        let bus_name = "org.freedesktop.DBus";
        let call = [bus_name, "/org/freedesktop/DBus", bus_name, "Hello"];
        bus.call(call, &[]).await?;
        Ok(bus)
    }

    /// Asks for the signals of an interface.
    pub(super) async fn subscribe(&mut self, interface: &str) -> io::Result<()> {
        let bus_name = "org.freedesktop.DBus";
        let rule = format!("type='signal',interface='{interface}'");
        let call = [bus_name, "/org/freedesktop/DBus", bus_name, "AddMatch"];
        self.call(call, &[&rule]).await.map(drop)
    }

    /// Calls `[destination, path, interface, member]` with strings and waits for the answer; signals
    /// that come in between are dropped, so calls come before the signals that matter.
    pub(super) async fn call(&mut self, to: [&str; 4], arguments: &[&str]) -> io::Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        self.stream
            .write_all(&encode(serial, to, arguments))
            .await?;
        loop {
            let message = self.next().await?;
            match (message.kind, message.answers == serial) {
                (2, true) => return Ok(message),
                (3, true) => return Err(refused(&format!("{} was refused", to[3]))),
                _ => {}
            }
        }
    }

    /// The next message. Not to be dropped half way: what was read of it would be lost.
    pub(super) async fn next(&mut self) -> io::Result<Message> {
        loop {
            if let Some(length) = message_length(&self.rest)?
                && self.rest.len() >= length
            {
                let left = self.rest.split_off(length);
                let whole = std::mem::replace(&mut self.rest, left);
                return decode(&whole, self.fd.take());
            }
            self.fill().await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let left = self.rest.split_off(end + 2);
                let line = std::mem::replace(&mut self.rest, left);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(refused("the bus greets without an end"));
            }
            self.fill().await?;
        }
    }

    /// Reads what is there, with a descriptor if one comes along.
    async fn fill(&mut self) -> io::Result<()> {
        let Self {
            stream, rest, fd, ..
        } = self;
        let read = stream
            .async_io(Interest::READABLE, || {
                let mut part = [0; 4096];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
                let mut along = RecvAncillaryBuffer::new(&mut space);
                let mut into = [io::IoSliceMut::new(&mut part)];
                let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
                let got = match recvmsg(stream.as_fd(), &mut into, &mut along, flags) {
                    Err(Errno::INTR) => return Err(io::ErrorKind::WouldBlock.into()),
                    got => got?,
                };
                for message in along.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = message {
                        *fd = fds.last();
                    }
                }
                rest.extend_from_slice(&part[..got.bytes]);
                Ok(got.bytes)
            })
            .await?;
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    while !bytes.len().is_multiple_of(to) {
        bytes.push(0);
    }
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// A call, little-endian. Header fields: 1 path, 2 interface, 3 member, 6 destination, 8 signature.
fn encode(serial: u32, to: [&str; 4], arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in arguments {
        put(&mut body, argument);
    }
    let mut bytes = vec![b'l', 1, 0, 1];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(serial.to_le_bytes());
    bytes.extend([0; 4]);
    let [destination, path, interface, member] = to;
    for (code, kind, text) in [
        (1, b'o', path),
        (2, b's', interface),
        (3, b's', member),
        (6, b's', destination),
    ] {
        pad(&mut bytes, 8);
        bytes.extend([code, 1, kind, 0]);
        put(&mut bytes, text);
    }
    if !arguments.is_empty() {
        pad(&mut bytes, 8);
        bytes.extend([8, 1, b'g', 0, arguments.len() as u8]);
        bytes.extend(arguments.iter().map(|_| b's'));
        bytes.push(0);
    }
    let fields = (bytes.len() - 16) as u32;
    bytes[12..16].copy_from_slice(&fields.to_le_bytes());
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// Length of the message that begins here, once enough of it is there.
fn message_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    if bytes.first().is_some_and(|order| *order != b'l') {
        return Err(refused("the bus speaks another byte order"));
    }
    let (Some(body), Some(fields)) = (word(bytes, 4), word(bytes, 12)) else {
        return Ok(None);
    };
    let length = 16 + (fields as usize).next_multiple_of(8) + body as usize;
    match length <= MESSAGE_BYTES_MAX {
        true => Ok(Some(length)),
        false => Err(refused("the bus sends more than is read")),
    }
}

/// The fields of a whole message that matter here; an unknown one ends the search.
fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> io::Result<Message> {
    let broken = || refused("the bus sends nonsense");
    let fields = word(bytes, 12).ok_or_else(broken)? as usize;
    let body = 16 + fields.next_multiple_of(8);
    let mut message = Message {
        kind: *bytes.get(1).ok_or_else(broken)?,
        sender: String::new(),
        member: String::new(),
        answers: 0,
        body: bytes.get(body..).ok_or_else(broken)?.to_vec(),
        fd,
    };
    let mut at = 16;
    while at < 16 + fields {
        at = at.next_multiple_of(8);
        let Some(&[code, 1, kind, 0]) = bytes.get(at..at + 4) else {
            break;
        };
        at += 4;
        match kind {
            b's' | b'o' => {
                let length = word(bytes, at).ok_or_else(broken)? as usize;
                let text = bytes.get(at + 4..at + 4 + length).ok_or_else(broken)?;
                let text = String::from_utf8_lossy(text).into_owned();
                match code {
                    3 => message.member = text,
                    7 => message.sender = text,
                    _ => {}
                }
                at += 4 + length + 1;
            }
            b'g' => at += usize::from(*bytes.get(at).ok_or_else(broken)?) + 2,
            b'u' => {
                if code == 5 {
                    message.answers = word(bytes, at).ok_or_else(broken)?;
                }
                at += 4;
            }
            _ => break,
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    /// A signal as a bus sends it: like a call, with another kind.
    fn signal(member: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = encode(9, ["d.d", "/p", "i.i", member], &[]);
        bytes[1] = 4;
        bytes[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = encode(3, ["a.b", "/a/b", "a.b.C", "Do"], &["one", "two"]);
        assert_eq!(message_length(&bytes).unwrap(), Some(bytes.len()));
        let message = decode(&bytes, None).unwrap();
        assert_eq!(
            (message.member.as_str(), message.is_signal()),
            ("Do", false)
        );
        let message = decode(&signal("PrepareForSleep", &[1, 0, 0, 0]), None).unwrap();
        assert!(message.is_signal() && message.flag());
    }

    #[test]
    fn no_bytes_make_it_panic_or_wait_for_gigabytes() {
        let whole = signal("PrepareForSleep", &[1, 0, 0, 0]);
        for n in 0..whole.len() {
            for flip in [0xff, 0x80, 0x01] {
                let mut bytes = whole.clone();
                bytes[n] ^= flip;
                if let Ok(Some(length)) = message_length(&bytes) {
                    assert!(length <= MESSAGE_BYTES_MAX);
                    let _ = decode(&bytes[..length.min(bytes.len())], None);
                }
            }
            let _ = decode(&whole[..n], None);
        }
    }

    #[tokio::test]
    async fn a_bus_is_greeted_and_its_signals_heard_in_pieces() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"NEGOTIATE_UNIX_FD\r\n") {
                heard.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"OK 0123\r\nAGREE_UNIX_FD\r\n")
                .await
                .unwrap();
            while !heard.ends_with(b"Hello\0") {
                heard.push(stream.read_u8().await.unwrap());
            }
            let mut answer = encode(1, ["d.d", "/p", "i.i", "m"], &[]);
            answer[1] = 2;
            // The last field becomes REPLY_SERIAL: code 5, a number.
            let at = 16 + (answer.len() - 16) / 8 * 8 - 16;
            let fields = (at + 8 - 16) as u32;
            answer.truncate(at);
            answer.extend([5, 1, b'u', 0, 1, 0, 0, 0]);
            answer[12..16].copy_from_slice(&fields.to_le_bytes());
            stream.write_all(&answer).await.unwrap();
            for byte in signal("PrepareForSleep", &[1, 0, 0, 0]) {
                stream.write_all(&[byte]).await.unwrap();
            }
        });
        let mut bus = Bus::connect(&path).await.unwrap();
        let message = bus.next().await.unwrap();
        assert_eq!(message.member, "PrepareForSleep");
        server.await.unwrap();
        assert!(bus.next().await.is_err(), "a bus that went away is told");
    }
}
