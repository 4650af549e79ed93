//! Isolation by the Windows Filtering Platform: provider, sublayer and filters of our own, made and
//! removed in one transaction each. What the filters say is decided in [`crate::wfp`].
//!
//! Each filter is added twice. The boot-time one is in force from the moment the network's driver
//! starts; when the filtering engine's service comes up it puts the persistent one in its place, in one
//! step. Neither needs this program.

use crate::isolation::{IsolationError, Network, Plan};
use crate::wfp::{self, Condition, Filter, Layer};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::net::IpAddr;
use std::ptr::null_mut;
use windows_registry::LOCAL_MACHINE;
use windows_sys::Win32::Foundation::{FWP_E_ALREADY_EXISTS, HANDLE};
use windows_sys::Win32::NetworkManagement::WindowsFilteringPlatform::{
    FWP_ACTION_BLOCK, FWP_ACTION_PERMIT, FWP_CONDITION_FLAG_IS_LOOPBACK, FWP_CONDITION_VALUE0,
    FWP_FILTER_ENUM_FLAG_INCLUDE_BOOTTIME, FWP_FILTER_ENUM_FLAG_INCLUDE_DISABLED,
    FWP_FILTER_ENUM_OVERLAPPING, FWP_MATCH_EQUAL, FWP_MATCH_FLAGS_ALL_SET, FWP_UINT8, FWP_UINT16,
    FWP_UINT32, FWP_V4_ADDR_AND_MASK, FWP_V4_ADDR_MASK, FWP_V6_ADDR_AND_MASK, FWP_V6_ADDR_MASK,
    FWPM_CONDITION_FLAGS, FWPM_CONDITION_IP_LOCAL_PORT, FWPM_CONDITION_IP_PROTOCOL,
    FWPM_CONDITION_IP_REMOTE_ADDRESS, FWPM_CONDITION_IP_REMOTE_PORT, FWPM_DISPLAY_DATA0,
    FWPM_FILTER_CONDITION0, FWPM_FILTER_ENUM_TEMPLATE0, FWPM_FILTER_FLAG_BOOTTIME,
    FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT, FWPM_FILTER_FLAG_PERSISTENT, FWPM_FILTER0,
    FWPM_LAYER_ALE_AUTH_CONNECT_V4, FWPM_LAYER_ALE_AUTH_CONNECT_V6,
    FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
    FWPM_LAYER_IPFORWARD_V4, FWPM_LAYER_IPFORWARD_V6, FWPM_PROVIDER_FLAG_PERSISTENT,
    FWPM_PROVIDER0, FWPM_SUBLAYER_FLAG_PERSISTENT, FWPM_SUBLAYER0, FwpmEngineClose0,
    FwpmEngineOpen0, FwpmFilterAdd0, FwpmFilterCreateEnumHandle0, FwpmFilterDeleteById0,
    FwpmFilterDestroyEnumHandle0, FwpmFilterEnum0, FwpmFreeMemory0, FwpmProviderAdd0,
    FwpmSubLayerAdd0, FwpmTransactionAbort0, FwpmTransactionBegin0, FwpmTransactionCommit0,
};
use windows_sys::Win32::System::Rpc::RPC_C_AUTHN_WINNT;
use windows_sys::core::GUID;

/// What all of this hangs on; never reused for anything else.
const PROVIDER: GUID = GUID::from_u128(0x7c1d_65a2_6a0b_4c55_9d0e_3b0f_5a4e_2c11);
const SUBLAYER: GUID = GUID::from_u128(0x7c1d_65a2_6a0b_4c55_9d0e_3b0f_5a4e_2c12);
/// Above every other sublayer.
const HEAVIEST: u16 = u16::MAX;
/// Filters of one call while they are listed.
const BATCH: u32 = 256;
/// The service that answers; without it there is no platform (nor is there one under Wine).
const ENGINE: &str = r"SYSTEM\CurrentControlSet\Services\BFE";
const DISABLED: u32 = 4;

/// A code of the platform, and what was being done.
#[derive(Debug)]
struct Refused {
    doing: &'static str,
    code: u32,
}

impl From<Refused> for IsolationError {
    fn from(refused: Refused) -> Self {
        Self::Refused {
            why: format!(
                "{} ended with {:#010x}: {}",
                refused.doing,
                refused.code,
                std::io::Error::from_raw_os_error(refused.code.cast_signed())
            ),
            next: "look at `netsh wfp show filters` and at the service BFE",
        }
    }
}

fn checked(doing: &'static str, code: u32) -> Result<(), Refused> {
    match code {
        0 => Ok(()),
        code => Err(Refused { doing, code }),
    }
}

/// Close, or change what stays open: all or nothing.
pub(super) fn close(plan: &Plan) -> Result<(), IsolationError> {
    means()?;
    let engine = Engine::open()?;
    let filters = wfp::filters(plan);
    engine.in_one_step(|engine| {
        engine.add_place()?;
        engine.remove_filters()?;
        for filter in &filters {
            for flag in [FWPM_FILTER_FLAG_PERSISTENT, FWPM_FILTER_FLAG_BOOTTIME] {
                engine.add(filter, flag)?;
            }
        }
        Ok(())
    })?;
    // An engine that answers without effect (Wine's) would make an open host look isolated.
    match engine.filter_ids()?.len() {
        stand if stand >= filters.len() => Ok(()),
        stand => Err(IsolationError::Refused {
            why: format!(
                "the filtering engine took {} filters, and {stand} of them stand",
                filters.len()
            ),
            next: "look at `netsh wfp show filters`; this may be no real Windows",
        }),
    }
}

/// Open again. Provider and sublayer stay: without filters they do nothing.
pub(super) fn open() -> Result<(), IsolationError> {
    if !able() {
        return Ok(());
    }
    let engine = Engine::open()?;
    engine.in_one_step(Engine::remove_filters)?;
    Ok(())
}

/// Whether filters of ours stand, whoever added them.
pub(super) fn stands() -> bool {
    let count = || Engine::open()?.filter_ids().map(|ids| ids.len());
    able() && count().is_ok_and(|count| count > 0)
}

/// By what this machine is isolated.
pub(super) fn means() -> Result<&'static str, IsolationError> {
    if able() {
        return Ok("the Windows Filtering Platform (service BFE)");
    }
    Err(IsolationError::Unsupported {
        why: "the Base Filtering Engine (service BFE) is not there or switched off".to_owned(),
        next: "enable and start the service BFE; Wine has none",
    })
}

/// Whether this machine has the platform.
fn able() -> bool {
    let service = LOCAL_MACHINE.open(ENGINE).ok();
    let start = service.and_then(|key| key.get_u32("Start").ok());
    start.is_some_and(|start| start != DISABLED)
}

/// The resolvers of all interfaces, given by hand or by DHCP.
pub(super) fn resolvers() -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for family in ["Tcpip", "Tcpip6"] {
        let path = format!(r"SYSTEM\CurrentControlSet\Services\{family}\Parameters\Interfaces");
        let Ok(interfaces) = LOCAL_MACHINE.open(path) else {
            continue;
        };
        for name in interfaces.keys().into_iter().flatten() {
            let Ok(interface) = interfaces.open(&name) else {
                continue;
            };
            // What a person gave stands in the place of what DHCP gave.
            let value = |name| {
                interface
                    .get_string(name)
                    .ok()
                    .filter(|text| !text.is_empty())
            };
            if let Some(value) = value("NameServer").or_else(|| value("DhcpNameServer")) {
                found.extend(wfp::resolvers_in(&value));
            }
        }
    }
    found
}

/// Programs that send past the filters of this host.
const WAYS_AROUND: [(&str, &str); 5] = [
    (
        "vmms",
        "Hyper-V: guests on an external virtual switch send past the filters of this host",
    ),
    (
        "WSLService",
        "WSL: a distribution in mirrored or bridged networking has filters of its own",
    ),
    (
        "LxssManager",
        "WSL: a distribution in bridged networking has filters of its own",
    ),
    (
        "npcap",
        "Npcap: a program of an administrator sends frames past the filters",
    ),
    (
        "npf",
        "WinPcap: a program of an administrator sends frames past the filters",
    ),
];

/// Ways past the isolation, in words.
pub(super) fn escapes() -> Vec<String> {
    let is_there = |name: &str| {
        let key = LOCAL_MACHINE.open(format!(r"SYSTEM\CurrentControlSet\Services\{name}"));
        let start = key.ok().and_then(|key| key.get_u32("Start").ok());
        start.is_some_and(|start| start != DISABLED)
    };
    let ways = WAYS_AROUND.iter().filter(|(name, _)| is_there(name));
    ways.map(|(_, way)| (*way).to_owned()).collect()
}

/// A session with the filtering engine.
struct Engine(HANDLE);

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once; an open transaction ends with it, undone.
        unsafe { FwpmEngineClose0(self.0) };
    }
}

impl Engine {
    fn open() -> Result<Self, Refused> {
        let mut engine = Self(null_mut());
        // SAFETY: this machine (null), the caller's own identity (null), an ordinary session (null);
        // the out handle outlives the call.
        let code = unsafe {
            FwpmEngineOpen0(
                std::ptr::null(),
                RPC_C_AUTHN_WINNT,
                std::ptr::null(),
                std::ptr::null(),
                &mut engine.0,
            )
        };
        checked("opening the filtering engine", code)?;
        Ok(engine)
    }

    fn in_one_step(&self, act: impl FnOnce(&Self) -> Result<(), Refused>) -> Result<(), Refused> {
        // SAFETY: the session is open; 0 is a transaction that writes.
        checked("beginning the transaction", unsafe {
            FwpmTransactionBegin0(self.0, 0)
        })?;
        let done = act(self).and_then(|()| {
            // SAFETY: the session is open and in a transaction.
            checked("committing the filters", unsafe {
                FwpmTransactionCommit0(self.0)
            })
        });
        if done.is_err() {
            // SAFETY: as above; where the commit ended it already, this is refused and does nothing.
            unsafe { FwpmTransactionAbort0(self.0) };
        }
        done
    }

    /// Provider and sublayer, where they are not there.
    fn add_place(&self) -> Result<(), Refused> {
        let (mut name, mut key) = (wide("Ringward"), PROVIDER);
        let shown = FWPM_DISPLAY_DATA0 {
            name: name.as_mut_ptr(),
            description: null_mut(),
        };
        let provider = FWPM_PROVIDER0 {
            providerKey: PROVIDER,
            displayData: shown,
            flags: FWPM_PROVIDER_FLAG_PERSISTENT,
            ..FWPM_PROVIDER0::default()
        };
        let sublayer = FWPM_SUBLAYER0 {
            subLayerKey: SUBLAYER,
            displayData: shown,
            flags: FWPM_SUBLAYER_FLAG_PERSISTENT,
            providerKey: &mut key,
            weight: HEAVIEST,
            ..FWPM_SUBLAYER0::default()
        };
        let new = |code| match code {
            code if code == FWP_E_ALREADY_EXISTS.cast_unsigned() => 0,
            code => code,
        };
        // SAFETY: both structures and what they point to outlive the calls; the default access list.
        unsafe {
            checked(
                "adding the provider",
                new(FwpmProviderAdd0(self.0, &provider, null_mut())),
            )?;
            checked(
                "adding the sublayer",
                new(FwpmSubLayerAdd0(self.0, &sublayer, null_mut())),
            )
        }
    }

    fn add(&self, filter: &Filter, lasting: u32) -> Result<(), Refused> {
        let (mut name, mut provider) = (wide(&filter.name()), PROVIDER);
        // They are pointed to, so none may move until the call is over.
        let mut values: Vec<Pointed> = filter.conditions.iter().map(Pointed::of).collect();
        let mut conditions: Vec<FWPM_FILTER_CONDITION0> = filter
            .conditions
            .iter()
            .zip(&mut values)
            .map(|(condition, value)| native(condition, value))
            .collect();
        let mut native = FWPM_FILTER0 {
            displayData: FWPM_DISPLAY_DATA0 {
                name: name.as_mut_ptr(),
                description: null_mut(),
            },
            flags: lasting | FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT,
            providerKey: &mut provider,
            layerKey: layer(filter.layer),
            subLayerKey: SUBLAYER,
            numFilterConditions: u32::try_from(conditions.len()).unwrap_or(0),
            filterCondition: conditions.as_mut_ptr(),
            ..FWPM_FILTER0::default()
        };
        native.weight.r#type = FWP_UINT8;
        native.weight.Anonymous.uint8 = filter.weight();
        native.action.r#type = match filter.permits {
            Some(_) => FWP_ACTION_PERMIT,
            None => FWP_ACTION_BLOCK,
        };
        // SAFETY: the structure and everything it points to (name, provider, conditions and their
        // values) outlive the call; the default access list; the new id is not asked for.
        checked("adding a filter", unsafe {
            FwpmFilterAdd0(self.0, &native, null_mut(), null_mut())
        })
    }

    fn remove_filters(&self) -> Result<(), Refused> {
        for id in self.filter_ids()? {
            // SAFETY: the session is open and in a transaction.
            checked("removing a filter", unsafe {
                FwpmFilterDeleteById0(self.0, id)
            })?;
        }
        Ok(())
    }

    /// Our filters in all layers, boot-time ones too.
    fn filter_ids(&self) -> Result<Vec<u64>, Refused> {
        let mut ids = Vec::new();
        for at in Layer::ALL {
            let mut provider = PROVIDER;
            let template = FWPM_FILTER_ENUM_TEMPLATE0 {
                providerKey: &mut provider,
                layerKey: layer(at),
                enumType: FWP_FILTER_ENUM_OVERLAPPING,
                flags: FWP_FILTER_ENUM_FLAG_INCLUDE_BOOTTIME
                    | FWP_FILTER_ENUM_FLAG_INCLUDE_DISABLED,
                actionMask: u32::MAX,
                ..FWPM_FILTER_ENUM_TEMPLATE0::default()
            };
            let mut listing = null_mut();
            // SAFETY: the template and what it points to outlive the call, as does the out handle.
            checked("listing filters", unsafe {
                FwpmFilterCreateEnumHandle0(self.0, &template, &mut listing)
            })?;
            let listed = self.list(listing, &mut ids);
            // SAFETY: made above, ended once.
            unsafe { FwpmFilterDestroyEnumHandle0(self.0, listing) };
            listed?;
        }
        Ok(ids)
    }

    fn list(&self, listing: HANDLE, ids: &mut Vec<u64>) -> Result<(), Refused> {
        loop {
            let (mut entries, mut count) = (null_mut(), 0);
            // SAFETY: both handles are open; both out values outlive the call.
            checked("listing filters", unsafe {
                FwpmFilterEnum0(self.0, listing, BATCH, &mut entries, &mut count)
            })?;
            // SAFETY: the engine answered so many pointers to filters of its own, valid until they are
            // freed, which happens once, right after they were read.
            unsafe {
                for index in 0..usize::try_from(count).unwrap_or(0) {
                    ids.push((**entries.add(index)).filterId);
                }
                FwpmFreeMemory0((&raw mut entries).cast::<*mut c_void>());
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }
}

/// A condition's value that does not fit into the condition itself.
enum Pointed {
    Nothing,
    V4(FWP_V4_ADDR_AND_MASK),
    V6(FWP_V6_ADDR_AND_MASK),
}

impl Pointed {
    fn of(condition: &Condition) -> Self {
        let Condition::Remote(Network { address, prefix }) = condition else {
            return Self::Nothing;
        };
        match address {
            IpAddr::V4(v4) => {
                let (addr, mask) = wfp::address_and_mask(*v4, *prefix);
                Self::V4(FWP_V4_ADDR_AND_MASK { addr, mask })
            }
            IpAddr::V6(v6) => Self::V6(FWP_V6_ADDR_AND_MASK {
                addr: v6.octets(),
                prefixLength: *prefix,
            }),
        }
    }
}

fn layer(layer: Layer) -> GUID {
    match layer {
        Layer::ConnectV4 => FWPM_LAYER_ALE_AUTH_CONNECT_V4,
        Layer::ConnectV6 => FWPM_LAYER_ALE_AUTH_CONNECT_V6,
        Layer::AcceptV4 => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4,
        Layer::AcceptV6 => FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6,
        Layer::ForwardV4 => FWPM_LAYER_IPFORWARD_V4,
        Layer::ForwardV6 => FWPM_LAYER_IPFORWARD_V6,
    }
}

/// `pointed` must outlive the use of what this answers.
fn native(condition: &Condition, pointed: &mut Pointed) -> FWPM_FILTER_CONDITION0 {
    let mut value = FWP_CONDITION_VALUE0::default();
    let (field, matches) = match condition {
        Condition::Loopback => {
            value.r#type = FWP_UINT32;
            value.Anonymous.uint32 = FWP_CONDITION_FLAG_IS_LOOPBACK;
            (FWPM_CONDITION_FLAGS, FWP_MATCH_FLAGS_ALL_SET)
        }
        Condition::Protocol(protocol) => {
            value.r#type = FWP_UINT8;
            value.Anonymous.uint8 = *protocol;
            (FWPM_CONDITION_IP_PROTOCOL, FWP_MATCH_EQUAL)
        }
        Condition::LocalPort(port) | Condition::RemotePort(port) => {
            value.r#type = FWP_UINT16;
            value.Anonymous.uint16 = *port;
            let field = match condition {
                Condition::LocalPort(_) => FWPM_CONDITION_IP_LOCAL_PORT,
                _ => FWPM_CONDITION_IP_REMOTE_PORT,
            };
            (field, FWP_MATCH_EQUAL)
        }
        Condition::Remote(_) => (FWPM_CONDITION_IP_REMOTE_ADDRESS, FWP_MATCH_EQUAL),
    };
    match pointed {
        Pointed::Nothing => {}
        Pointed::V4(network) => {
            value.r#type = FWP_V4_ADDR_MASK;
            value.Anonymous.v4AddrMask = network;
        }
        Pointed::V6(network) => {
            value.r#type = FWP_V6_ADDR_MASK;
            value.Anonymous.v6AddrMask = network;
        }
    }
    FWPM_FILTER_CONDITION0 {
        fieldKey: field,
        matchType: matches,
        conditionValue: value,
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}
