//! Bugcheck codes: their names, which parameter holds the faulting code's address, and which of
//! them tell nothing about whose fault they were.

use serde::{Deserialize, Serialize};

/// Set in the codes of minidumps whose exception was told as a status of its own.
pub const MINIDUMP_BIT: u32 = 0x1000_0000;

/// What a stop tells of itself: a code and four parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bugcheck {
    /// The code as written, [`MINIDUMP_BIT`] included.
    pub code: u32,
    /// The parameters; `None` where the source names the code alone.
    pub params: Option<[u64; 4]>,
}

/// Where the culprit's address is to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// In the parameter of this number, counted from 1 as the references do.
    Parameter(u8),
    /// In no parameter: the trapped instruction and the stack may tell.
    Trace,
    /// Nowhere in the dump, for this reason.
    Nobody(&'static str),
}

impl Bugcheck {
    /// The code without [`MINIDUMP_BIT`]; NTSTATUS codes (`0xc000021a`) keep theirs.
    pub fn bare_code(self) -> u32 {
        match self.code >> 28 {
            1 => self.code & !MINIDUMP_BIT,
            _ => self.code,
        }
    }

    /// The symbolic name, where it is a well-known code.
    pub fn name(self) -> Option<&'static str> {
        let code = self.bare_code();
        let at = CODES.binary_search_by_key(&code, |entry| entry.0).ok()?;
        Some(CODES[at].1)
    }

    /// The code and its name: `0x50 PAGE_FAULT_IN_NONPAGED_AREA`.
    pub fn label(self) -> String {
        match self.name() {
            Some(name) => format!("0x{:x} {name}", self.code),
            None => format!("0x{:x}", self.code),
        }
    }

    /// Whether two sources speak of the same stop, as far as both tell. A source that knows only
    /// zeros (Kernel-Power 41 of some firmware) knows no parameters.
    pub fn agrees(self, other: Self) -> bool {
        let known = |params: Option<[u64; 4]>| params.filter(|params| *params != [0; 4]);
        let params = match (known(self.params), known(other.params)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.bare_code() == other.bare_code() && params
    }

    /// Where this code's culprit is to be looked for.
    pub fn culprit(self) -> Culprit {
        match self.bare_code() {
            0x50 | 0xce | 0xd5 | 0xd6 => Culprit::Parameter(3),
            0x0a | 0xd1 | 0xd3 | 0xd4 => Culprit::Parameter(4),
            0x1e | 0x3b | 0x7e | 0x8e | 0x116 => Culprit::Parameter(2),
            0x19 | 0x1a | 0x4e | 0x109 | 0x13a => {
                Culprit::Nobody("memory was damaged earlier, by whom is not kept")
            }
            0x77 | 0x7a | 0x7b | 0xed | 0x154 => {
                Culprit::Nobody("the disk, its path or its contents failed")
            }
            0x80 | 0x9c | 0x124 | 0x12b => Culprit::Nobody("the hardware reported the error"),
            0x5c | 0xa5 => Culprit::Nobody("the firmware's tables do not fit"),
            0x18b | 0x20001 => {
                Culprit::Nobody("the hypervisor beneath stopped; its own code is in no driver list")
            }
            0x51 | 0x74 => Culprit::Nobody("the registry is damaged"),
            0x9f | 0x101 | 0x133 | 0x1ca => {
                Culprit::Nobody("a watchdog fired; what it interrupted need not be the cause")
            }
            0xe2 | 0x1c8 | 0xdead_dead => Culprit::Nobody("the stop was asked for by hand"),
            0x6b | 0xef | 0xf4 | 0xc000_021a => {
                Culprit::Nobody("a vital user-mode process ended; the kernel only noticed")
            }
            _ => Culprit::Trace,
        }
    }
}

/// Names of codes, sorted by code (Microsoft's bug check code reference).
const CODES: &[(u32, &str)] = &[
    (0x01, "APC_INDEX_MISMATCH"),
    (0x0a, "IRQL_NOT_LESS_OR_EQUAL"),
    (0x18, "REFERENCE_BY_POINTER"),
    (0x19, "BAD_POOL_HEADER"),
    (0x1a, "MEMORY_MANAGEMENT"),
    (0x1e, "KMODE_EXCEPTION_NOT_HANDLED"),
    (0x23, "FAT_FILE_SYSTEM"),
    (0x24, "NTFS_FILE_SYSTEM"),
    (0x27, "RDR_FILE_SYSTEM"),
    (0x34, "CACHE_MANAGER"),
    (0x3b, "SYSTEM_SERVICE_EXCEPTION"),
    (0x3f, "NO_MORE_SYSTEM_PTES"),
    (0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS"),
    (0x4e, "PFN_LIST_CORRUPT"),
    (0x50, "PAGE_FAULT_IN_NONPAGED_AREA"),
    (0x51, "REGISTRY_ERROR"),
    (0x5c, "HAL_INITIALIZATION_FAILED"),
    (0x6b, "PROCESS1_INITIALIZATION_FAILED"),
    (0x74, "BAD_SYSTEM_CONFIG_INFO"),
    (0x77, "KERNEL_STACK_INPAGE_ERROR"),
    (0x7a, "KERNEL_DATA_INPAGE_ERROR"),
    (0x7b, "INACCESSIBLE_BOOT_DEVICE"),
    (0x7c, "BUGCODE_NDIS_DRIVER"),
    (0x7e, "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED"),
    (0x7f, "UNEXPECTED_KERNEL_MODE_TRAP"),
    (0x80, "NMI_HARDWARE_FAILURE"),
    (0x8e, "KERNEL_MODE_EXCEPTION_NOT_HANDLED"),
    (0x93, "INVALID_KERNEL_HANDLE"),
    (0x9c, "MACHINE_CHECK_EXCEPTION"),
    (0x9f, "DRIVER_POWER_STATE_FAILURE"),
    (0xa0, "INTERNAL_POWER_ERROR"),
    (0xa5, "ACPI_BIOS_ERROR"),
    (0xbe, "ATTEMPTED_WRITE_TO_READONLY_MEMORY"),
    (0xc1, "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION"),
    (0xc2, "BAD_POOL_CALLER"),
    (0xc4, "DRIVER_VERIFIER_DETECTED_VIOLATION"),
    (0xc5, "DRIVER_CORRUPTED_EXPOOL"),
    (0xc9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION"),
    (0xca, "PNP_DETECTED_FATAL_ERROR"),
    (0xcb, "DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS"),
    (
        0xce,
        "DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS",
    ),
    (0xd1, "DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
    (0xd3, "DRIVER_PORTION_MUST_BE_NONPAGED"),
    (
        0xd4,
        "SYSTEM_SCAN_AT_RAISED_IRQL_CAUGHT_IMPROPER_DRIVER_UNLOAD",
    ),
    (0xd5, "DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL"),
    (0xd6, "DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION"),
    (0xd8, "DRIVER_USED_EXCESSIVE_PTES"),
    (0xda, "SYSTEM_PTE_MISUSE"),
    (0xde, "POOL_CORRUPTION_IN_FILE_AREA"),
    (0xe2, "MANUALLY_INITIATED_CRASH"),
    (0xe6, "DRIVER_VERIFIER_DMA_VIOLATION"),
    (0xea, "THREAD_STUCK_IN_DEVICE_DRIVER"),
    (0xed, "UNMOUNTABLE_BOOT_VOLUME"),
    (0xef, "CRITICAL_PROCESS_DIED"),
    (0xf4, "CRITICAL_OBJECT_TERMINATION"),
    (0xf7, "DRIVER_OVERRAN_STACK_BUFFER"),
    (0xfc, "ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY"),
    (0xfe, "BUGCODE_USB_DRIVER"),
    (0x101, "CLOCK_WATCHDOG_TIMEOUT"),
    (0x109, "CRITICAL_STRUCTURE_CORRUPTION"),
    (0x10d, "WDF_VIOLATION"),
    (0x10e, "VIDEO_MEMORY_MANAGEMENT_INTERNAL"),
    (0x113, "VIDEO_DXGKRNL_FATAL_ERROR"),
    (0x116, "VIDEO_TDR_FAILURE"),
    (0x117, "VIDEO_TDR_TIMEOUT_DETECTED"),
    (0x119, "VIDEO_SCHEDULER_INTERNAL_ERROR"),
    (0x124, "WHEA_UNCORRECTABLE_ERROR"),
    (0x12b, "FAULTY_HARDWARE_CORRUPTED_PAGE"),
    (0x133, "DPC_WATCHDOG_VIOLATION"),
    (0x139, "KERNEL_SECURITY_CHECK_FAILURE"),
    (0x13a, "KERNEL_MODE_HEAP_CORRUPTION"),
    (0x144, "BUGCODE_USB3_DRIVER"),
    (0x154, "UNEXPECTED_STORE_EXCEPTION"),
    (0x157, "KERNEL_THREAD_PRIORITY_FLOOR_VIOLATION"),
    (0x15f, "CONNECTED_STANDBY_WATCHDOG_TIMEOUT_LIVEDUMP"),
    (0x18b, "SECURE_KERNEL_ERROR"),
    (0x1c8, "MANUALLY_INITIATED_POWER_BUTTON_HOLD"),
    (0x1ca, "SYNTHETIC_WATCHDOG_TIMEOUT"),
    (0x20001, "HYPERVISOR_ERROR"),
    (0xc000_021a, "WINLOGON_FATAL_ERROR"),
    (0xdead_dead, "MANUALLY_INITIATED_CRASH1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn bugcheck(code: u32) -> Bugcheck {
        Bugcheck { code, params: None }
    }

    #[test]
    fn names_are_found_because_the_table_is_sorted() {
        assert!(CODES.is_sorted_by_key(|entry| entry.0));
        let label = bugcheck(0x1000_007e).label();
        assert_eq!(label, "0x1000007e SYSTEM_THREAD_EXCEPTION_NOT_HANDLED");
        assert_eq!(bugcheck(0xbad).label(), "0xbad");
    }

    #[test]
    fn only_the_minidump_bit_is_masked() {
        assert_eq!(bugcheck(0x1000_008e).bare_code(), 0x8e);
        assert_eq!(bugcheck(0xc000_021a).bare_code(), 0xc000_021a);
        assert_eq!(bugcheck(0xdead_dead).bare_code(), 0xdead_dead);
    }

    #[test]
    fn stops_agree_when_no_known_parameter_differs() {
        let with = |params| Bugcheck { code: 0x50, params };
        assert!(with(Some([1, 2, 3, 4])).agrees(with(None)));
        assert!(with(Some([1, 2, 3, 4])).agrees(with(Some([0; 4]))));
        assert!(!with(Some([1, 2, 3, 4])).agrees(with(Some([1, 2, 3, 5]))));
        assert!(!with(None).agrees(bugcheck(0x51)));
    }

    #[test]
    fn what_nobody_can_be_blamed_for_has_no_culprit() {
        for code in [0x9f, 0x133, 0x124, 0x1a, 0x1c8, 0xef, 0x20001, 0x6b, 0xa5] {
            assert!(matches!(bugcheck(code).culprit(), Culprit::Nobody(_)));
        }
        assert_eq!(bugcheck(0x1000_007e).culprit(), Culprit::Parameter(2));
    }
}
