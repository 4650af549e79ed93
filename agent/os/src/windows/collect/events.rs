//! The live event log: a subscription to the few events that matter, from where it was left.

use super::{SharedFeed, locked};
use crate::collect::Teller;
use crate::host::HostEvent;
use std::io;
use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_INSUFFICIENT_BUFFER, ERROR_NO_MORE_ITEMS, HANDLE, WAIT_FAILED,
};
use windows_sys::Win32::System::EventLog::{
    EVT_HANDLE, EvtClose, EvtCreateBookmark, EvtNext, EvtRender, EvtRenderBookmark,
    EvtRenderEventXml, EvtSubscribe, EvtSubscribeStartAfterBookmark,
    EvtSubscribeStartAtOldestRecord, EvtSubscribeStrict, EvtUpdateBookmark,
};
use windows_sys::Win32::System::Threading::{CreateEventW, ResetEvent, WaitForSingleObject};

/// One subscription over both logs, narrowed to what the detector knows: nothing else wakes the agent.
const QUERY: &str = "<QueryList><Query Id='0'>\
    <Select Path='System'>*[System[Provider[@Name='EventLog' or \
    @Name='Microsoft-Windows-Kernel-General' or @Name='Microsoft-Windows-Kernel-Power' or \
    @Name='Microsoft-Windows-Kernel-Boot' or @Name='User32' or @Name='volmgr' or \
    @Name='Microsoft-Windows-WER-SystemErrorReporting' or @Name='Service Control Manager'] and \
    (EventID=12 or EventID=13 or EventID=20 or EventID=27 or EventID=41 or EventID=46 or \
    EventID=109 or EventID=161 or (EventID &gt;= 1001 and EventID &lt;= 1005) or \
    (EventID &gt;= 1074 and EventID &lt;= 1075) or (EventID &gt;= 6005 and EventID &lt;= 6009) or \
    EventID=7000 or EventID=7009 or (EventID &gt;= 7023 and EventID &lt;= 7043))]]</Select>\
    <Select Path='Application'>*[System[Provider[@Name='Windows Error Reporting' or \
    @Name='Application Error'] and (EventID=1000 or EventID=1001)]]</Select>\
    </Query></QueryList>";
/// Events of one call.
const BATCH: usize = 32;
/// An event is at most 64 KiB in the log; rendered, more.
const RENDERED_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Wakes up this often to see whether anybody listens still.
const WAIT_MS: u32 = 60_000;

/// A handle of the event log.
struct Evt(EVT_HANDLE);

impl Drop for Evt {
    fn drop(&mut self) {
        // SAFETY: opened by the event log, closed once.
        unsafe { EvtClose(self.0) };
    }
}

/// An event that the log sets when records come.
struct Signal(HANDLE);

impl Drop for Signal {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once, after the subscription that sets it.
        unsafe { CloseHandle(self.0) };
    }
}

/// Follows the log on a thread of its own: its calls wait in the kernel.
pub(super) fn follow(feed: SharedFeed, teller: Teller) {
    let started = std::thread::Builder::new()
        .name("event-log".to_owned())
        .spawn(move || {
            if let Err(why) = read(&feed, &teller) {
                let lacks = teller.draft_lack("sight of the event log", &why.to_string());
                // Nobody listens any more: nobody lacks it.
                let _ = teller.tell.blocking_send(HostEvent::Signal(lacks));
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "the event log is not followed");
    }
}

fn read(feed: &SharedFeed, teller: &Teller) -> io::Result<()> {
    // SAFETY: no attributes, no name; manual reset, set at first so that the first turn reads.
    let signal = unsafe { CreateEventW(std::ptr::null(), 1, 1, std::ptr::null()) };
    if signal.is_null() {
        return Err(io::Error::last_os_error());
    }
    let signal = Signal(signal);
    let kept = locked(feed).bookmark().map(str::to_owned);
    let bookmark = bookmark(kept.as_deref()).or_else(|_| bookmark(None))?;
    let subscription = match subscribe(&signal, kept.as_ref().map(|_| &bookmark)) {
        Ok(subscription) => subscription,
        Err(error) if kept.is_some() => {
            tracing::warn!(%error, "the place in the event log is gone; it is read from its start");
            locked(feed).lost();
            subscribe(&signal, None)?
        }
        Err(error) => return Err(error),
    };
    loop {
        // SAFETY: the handle is open.
        unsafe { ResetEvent(signal.0) };
        let read_any = batches(&subscription, &bookmark, feed)?;
        let drafts = {
            let mut feed = locked(feed);
            let drafts = feed.drain();
            let is_first = feed.caught_up();
            if read_any || is_first {
                feed.keep(render(bookmark.0, EvtRenderBookmark).ok());
            }
            drafts
        };
        for draft in drafts {
            if teller.tell.blocking_send(HostEvent::Signal(draft)).is_err() {
                return Ok(());
            }
        }
        // SAFETY: the handle is open.
        if unsafe { WaitForSingleObject(signal.0, WAIT_MS) } == WAIT_FAILED {
            return Err(io::Error::last_os_error());
        }
        if teller.tell.is_closed() {
            return Ok(());
        }
    }
}

/// Everything that is there; whether that was anything.
fn batches(subscription: &Evt, bookmark: &Evt, feed: &SharedFeed) -> io::Result<bool> {
    let mut read_any = false;
    loop {
        let mut handles = [0; BATCH];
        let mut count = 0;
        // SAFETY: the array holds as many handles as it is said to; both out values outlive the call.
        let more = unsafe {
            EvtNext(
                subscription.0,
                u32::try_from(BATCH).unwrap_or(1),
                handles.as_mut_ptr(),
                0,
                0,
                &mut count,
            )
        };
        if more == 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error().map(i32::cast_unsigned) {
                Some(ERROR_NO_MORE_ITEMS) => Ok(read_any),
                _ => Err(error),
            };
        }
        let count = usize::try_from(count).unwrap_or(0).min(BATCH);
        if count == 0 {
            return Ok(read_any);
        }
        let events: Vec<Evt> = handles[..count].iter().map(|handle| Evt(*handle)).collect();
        for event in &events {
            read_any = true;
            // One that cannot be rendered must not hide the next.
            if let Ok(xml) = render(event.0, EvtRenderEventXml) {
                locked(feed).event(&xml);
            }
            // SAFETY: both handles are open.
            unsafe { EvtUpdateBookmark(bookmark.0, event.0) };
        }
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn bookmark(kept: Option<&str>) -> io::Result<Evt> {
    let xml = kept.map(wide);
    let xml = xml.as_ref().map_or(std::ptr::null(), |xml| xml.as_ptr());
    // SAFETY: null makes a new one; else the text ends with a zero and outlives the call.
    match unsafe { EvtCreateBookmark(xml) } {
        0 => Err(io::Error::last_os_error()),
        handle => Ok(Evt(handle)),
    }
}

fn subscribe(signal: &Signal, after: Option<&Evt>) -> io::Result<Evt> {
    let query = wide(QUERY);
    let flags = match after {
        // Strict: a bookmark whose record is gone is an error, not a silent gap.
        Some(_) => EvtSubscribeStartAfterBookmark | EvtSubscribeStrict,
        None => EvtSubscribeStartAtOldestRecord,
    };
    // SAFETY: this machine's session; the signal and the bookmark outlive the call, the signal also
    // the subscription; the query ends with a zero; no callback and no context.
    let handle = unsafe {
        EvtSubscribe(
            0,
            signal.0,
            std::ptr::null(),
            query.as_ptr(),
            after.map_or(0, |bookmark| bookmark.0),
            std::ptr::null(),
            None,
            flags,
        )
    };
    match handle {
        0 => Err(io::Error::last_os_error()),
        handle => Ok(Evt(handle)),
    }
}

/// An event or bookmark as XML.
fn render(handle: EVT_HANDLE, what: u32) -> io::Result<String> {
    let mut buffer = vec![0_u16; 4096];
    loop {
        let bytes = u32::try_from(buffer.len() * 2).unwrap_or(0);
        let (mut used, mut properties) = (0, 0);
        // SAFETY: the buffer is as long as it is said to be, in bytes; the out values outlive the call.
        let rendered = unsafe {
            EvtRender(
                0,
                handle,
                what,
                bytes,
                buffer.as_mut_ptr().cast(),
                &mut used,
                &mut properties,
            )
        };
        if rendered != 0 {
            let units = usize::try_from(used / 2).unwrap_or(0).min(buffer.len());
            let text = String::from_utf16_lossy(&buffer[..units]);
            return Ok(text.trim_end_matches('\0').to_owned());
        }
        let error = io::Error::last_os_error();
        let is_short =
            error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_INSUFFICIENT_BUFFER);
        if !is_short || used <= bytes || used > RENDERED_BYTES_MAX {
            return Err(error);
        }
        buffer.resize(usize::try_from(used / 2 + 1).unwrap_or(0), 0);
    }
}
