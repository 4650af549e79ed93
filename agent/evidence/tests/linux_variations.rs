//! Logs of our own making: what other architectures, checkers, log daemons, consoles and viewers do to
//! the same reports. None of them is like a sample; the parser has to know the forms, not the files.
#![allow(clippy::unwrap_used)]

use ringward_evidence::finding::Finding;
use ringward_evidence::linux::klog;

struct Report {
    log: &'static str,
    kind: &'static str,
    /// What the title must name.
    function: &'static str,
    module: Option<&'static str>,
}

const REPORTS: &[Report] = &[
    Report {
        log: "BUG: Unable to handle kernel data access at 0x8000000012345678\n\
              Faulting instruction address: 0xc000000000123458\n\
              Oops: Kernel access of bad area, sig: 11 [#1]\nLE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA PowerNV\n\
              CPU: 0 PID: 51 Comm: kworker/0:2 Not tainted 6.6.30 #1\n\
              NIP:  c000000000123458 LR: c000000000123440 CTR: 0000000000000000\n\
              REGS: c000000007a3e6e0 TRAP: 0380   Not tainted  (6.6.30)\n\
              GPR00: c000000000123440 c000000007a3e970 c000000001f24600 0000000000004000\n\
              NIP [c000000000123458] acme_rebuild+0x1ac/0x5f0 drivers/acme/core.c:216\n\
              LR [c000000000123440] acme_rebuild+0x194/0x5f0 drivers/acme/core.c:210\n\
              Call Trace:\n[c000000007a3ea20] [c000000000223344] acme_work+0x7b0/0x13a0 drivers/acme/core.c:300\n\
              [c000000007a3eb30] [c0000000001d3da8] process_one_work+0x428/0xa80\n\
              ---[ end trace 0000000000000000 ]---",
        kind: "kernel-page-fault",
        function: "acme_rebuild",
        module: None,
    },
    Report {
        log: "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018\n\
              Mem abort info:\n  ESR = 0x0000000096000004\n  EC = 0x25: DABT (current EL), IL = 32 bits\n\
              Data abort info:\n  ISV = 0, ISS = 0x00000004, ISS2 = 0x00000000\n\
              user pgtable: 4k pages, 48-bit VAs, pgdp=0000000045d8d000\n\
              Internal error: Oops: 0000000096000004 [#1] SMP\n\
              Modules linked in: acme_edge(OE) nls_ascii\n\
              CPU: 2 UID: 0 PID: 611 Comm: acme-edged Tainted: G           OE      6.12.9-arm64 #1 Debian 6.12.9-1\n\
              Hardware name: QEMU QEMU Virtual Machine, BIOS 2024.02 02/15/2024\n\
              pstate: 60400005 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)\n\
              pc : acme_flow_lookup+0x4c/0x120 [acme_edge]\nlr : acme_rx+0x1c8/0x2e0 [acme_edge]\n\
              sp : ffff8000837bbb20\nx29: ffff8000837bbb20 x28: ffff0000c1234000 x27: 0000000000000000\n\
              Call trace:\n acme_flow_lookup+0x4c/0x120 [acme_edge] (P)\n acme_rx+0x1c8/0x2e0 [acme_edge]\n\
              __netif_receive_skb_core+0x2fc/0x1080\n ret_from_fork+0x10/0x20\n\
              Code: f9400c00 b4000180 f9400801 (f9400c21)\n---[ end trace 0000000000000000 ]---",
        kind: "null-dereference",
        function: "acme_flow_lookup",
        module: Some("acme_edge"),
    },
    Report {
        log: "Unable to handle kernel paging request at virtual address ff2000000a5f3ff8\n\
              Oops [#1]\nModules linked in: probe_sensor(O)\n\
              CPU: 1 PID: 88 Comm: kworker/1:2 Tainted: G           O       6.6.30-riscv64 #1\n\
              Hardware name: riscv-virtio,qemu (DT)\nWorkqueue: events sensor_poll [probe_sensor]\n\
              epc : sensor_read_fifo+0x3a/0x8e [probe_sensor]\n ra : sensor_poll+0x5c/0xa0 [probe_sensor]\n\
              epc : ffffffff01a2c03a ra : ffffffff01a2c0ea sp : ff2000000063bd60\n\
              status: 0000000200000120 badaddr: ff2000000a5f3ff8 cause: 000000000000000d\n\
              [<ffffffff01a2c03a>] sensor_read_fifo+0x3a/0x8e [probe_sensor]\n\
              [<ffffffff01a2c0ea>] sensor_poll+0x5c/0xa0 [probe_sensor]\n\
              [<ffffffff80031f1c>] process_one_work+0x156/0x330",
        kind: "kernel-page-fault",
        function: "sensor_read_fifo",
        module: Some("probe_sensor"),
    },
    Report {
        log: "==================================================================\n\
              BUG: KASAN: slab-use-after-free in tunnel_release+0x9c/0x110 [acme_tun]\n\
              Read of size 8 at addr ffff888104c5a410 by task ip/4021\n\n\
              CPU: 3 UID: 0 PID: 4021 Comm: ip Not tainted 6.13.0-rc4 #7\n\
              Call Trace:\n <TASK>\n dump_stack_lvl+0x68/0xa0\n print_report+0xd0/0x660\n\
              kasan_report+0xce/0x100\n tunnel_release+0x9c/0x110 [acme_tun]\n\
              __fput+0x223/0x930\n </TASK>\n\nAllocated by task 4020:\n kasan_save_stack+0x33/0x60\n\
              tunnel_open+0x33/0x90 [acme_tun]\n\nFreed by task 4021:\n kfree+0x11c/0x340\n\
              tunnel_drop+0x44/0x60 [acme_tun]",
        kind: "kasan",
        function: "tunnel_release",
        module: Some("acme_tun"),
    },
    Report {
        log: "BUG: KASAN: invalid-access in region_copy+0x40/0x98\n\
              Write at addr f7ff00001b2c4000 by task cp/512\n\
              Pointer tag: [f7], memory tag: [fe]\n\n\
              CPU: 0 PID: 512 Comm: cp Not tainted 6.1.70 #1\nCall trace:\n dump_backtrace+0x9c/0x11c\n\
              show_stack+0x18/0x24\n dump_stack_lvl+0x48/0x60\n print_report+0xf8/0x5d8\n\
              kasan_report+0x84/0xc4\n __do_kernel_fault+0x104/0x1bc\n region_copy+0x40/0x98",
        kind: "kasan",
        function: "region_copy",
        module: None,
    },
    Report {
        log: "=====================================================\n\
              BUG: KMSAN: uninit-value in frame_checksum+0x1f2/0x420 [acme_nic]\n\
              frame_checksum+0x1f2/0x420 [acme_nic]\n acme_poll+0x88/0x1c0 [acme_nic]\n\
              __napi_poll+0xe0/0x8f0\n\nUninit was created at:\n __alloc_pages_noprof+0x82d/0xcb0\n\
              acme_refill+0x55/0x120 [acme_nic]\n\nCPU: 0 PID: 15 Comm: ksoftirqd/0 Not tainted 6.10.0 #3",
        kind: "kmsan",
        function: "frame_checksum",
        module: Some("acme_nic"),
    },
    Report {
        log: "BUG: KFENCE: use-after-free read in lease_expire+0x28/0x70 [acme_dhcp]\n\n\
              Use-after-free read at 0x00000000b1946f9e (in kfence-#42):\n\
              lease_expire+0x28/0x70 [acme_dhcp]\n call_timer_fn+0x30/0x220\n\n\
              kfence-#42: 0x00000000b1946f9e-0x00000000b1946fdd, size=64, cache=kmalloc-64\n",
        kind: "kfence",
        function: "lease_expire",
        module: Some("acme_dhcp"),
    },
    Report {
        log: "------------[ cut here ]------------\n\
              UBSAN: array-index-out-of-bounds in drivers/net/acme/ring.c:481:23\n\
              index 17 is out of range for type 'u32 [16]'\n\
              CPU: 5 PID: 901 Comm: ethtool Not tainted 6.8.0-40-generic #40-Ubuntu\nCall Trace:\n <TASK>\n\
              dump_stack_lvl+0x76/0xa0\n dump_stack+0x10/0x20\n __ubsan_handle_out_of_bounds+0xc6/0x110\n\
              acme_get_ring+0x1f0/0x220 [acme]\n ethtool_get_ringparam+0x91/0x1e0\n </TASK>\n\
              ---[ end trace ]---",
        kind: "ubsan",
        function: "acme_get_ring",
        module: Some("acme"),
    },
    Report {
        log: "UBSAN: shift-out-of-bounds in fs/acmefs/super.c:207:14\n\
              shift exponent 77 is too large for 64-bit type 'long unsigned int'\n\
              CPU: 0 PID: 1200 Comm: mount Not tainted 6.6.8 #1\nCall Trace:\n dump_stack_lvl+0x48/0x70\n\
              ubsan_epilogue+0x5/0x30\n __ubsan_handle_shift_out_of_bounds+0x79/0xf0\n\
              acmefs_fill_super+0x3e2/0x9c0 [acmefs]\n get_tree_bdev+0x175/0x280",
        kind: "ubsan",
        function: "acmefs_fill_super",
        module: Some("acmefs"),
    },
    Report {
        log: "watchdog: BUG: soft lockup - CPU#6 stuck for 26s! [sensord:733]\n\
              Modules linked in: sensor_bus(OE)\n\
              CPU: 6 PID: 733 Comm: sensord Tainted: G           OEL     5.15.0-91-generic #101-Ubuntu\n\
              RIP: 0010:bus_wait_ready+0x2c/0x60 [sensor_bus]\nCode: 00 00 90\n\
              Call Trace:\n <TASK>\n bus_transfer+0xd1/0x1f0 [sensor_bus]\n vfs_ioctl+0x20/0x40\n </TASK>",
        kind: "soft-lockup",
        // Who went round and round, not where the clock found it.
        function: "bus_transfer",
        module: Some("sensor_bus"),
    },
    Report {
        log: "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n\
              rcu: \t3-...!: (1 GPs behind) idle=4b54/1/0x4000000000000000 softirq=9012/9013 fqs=2\n\
              rcu: \t(detected by 0, t=5252 jiffies, g=14017, q=881 ncpus=4)\n\
              Sending NMI from CPU 0 to CPUs 3:\nNMI backtrace for cpu 3\n\
              CPU: 3 PID: 1500 Comm: scanner Not tainted 6.1.0-18-amd64 #1 Debian 6.1.76-1\n\
              RIP: 0010:walk_all+0x44/0x90 [scan_filter]\nCall Trace:\n <NMI>\n </NMI>\n <TASK>\n\
              scan_open+0x31/0x70 [scan_filter]\n do_dentry_open+0x220/0x570\n </TASK>",
        kind: "rcu-stall",
        function: "walk_all",
        module: Some("scan_filter"),
    },
    Report {
        log: "CPU 0 Unable to handle kernel paging request at virtual address 0000000000000050, era == 9000000000f3a2b8, ra == 9000000000f3a1c0\n\
              Oops[#1]:\nCPU: 0 PID: 2210 Comm: blkid Not tainted 6.9.0-loong64 #1\n\
              pc 9000000000f3a2b8 ra 9000000000f3a1c0 tp 9000000105d54000 sp 9000000105d57c40\n\
              ERA: 9000000000f3a2b8 disk_probe+0x48/0x130\n   ra: 9000000000f3a1c0 disk_scan+0x90/0x200\n\
              Call Trace:\n[<9000000000f3a2b8>] disk_probe+0x48/0x130\n[<9000000000f3a1c0>] disk_scan+0x90/0x200",
        kind: "kernel-page-fault",
        function: "disk_probe",
        module: None,
    },
    Report {
        log: "kernel BUG at net/acme/queue.c:88!\nInternal error: Oops - BUG: 00000000f2000800 [#1] PREEMPT SMP\n\
              Modules linked in: acme_queue(O)\n\
              CPU: 1 PID: 19 Comm: ksoftirqd/1 Tainted: G           O       6.6.0 #1\n\
              pc : queue_pop+0xb4/0xc0 [acme_queue]\nlr : queue_run+0x70/0x188 [acme_queue]\n\
              Call trace:\n queue_pop+0xb4/0xc0 [acme_queue]\n queue_run+0x70/0x188 [acme_queue]\n\
              Kernel panic - not syncing: Oops - BUG: Fatal exception in interrupt",
        kind: "kernel-bug",
        function: "queue_pop",
        module: Some("acme_queue"),
    },
    Report {
        log: "INFO: task backup:2718 blocked for more than 241 seconds.\n      Tainted: P           OE      6.5.0-1018-aws #18~22.04.1-Ubuntu\n\
              \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\n\
              task:backup          state:D stack:0     pid:2718  ppid:1      flags:0x00004002\nCall Trace:\n <TASK>\n\
              __schedule+0x2cb/0x760\n schedule+0x63/0x110\n rwsem_down_write_slowpath+0x1b6/0x710\n\
              down_write+0x5b/0x60\n snap_freeze+0x4b/0x150 [snapdrv]\n blkdev_ioctl+0x13d/0x290\n </TASK>",
        kind: "hung-task",
        function: "snap_freeze",
        module: Some("snapdrv"),
    },
    Report {
        log: "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n\
              CPU: 0 PID: 1 Comm: systemd Not tainted 5.14.0-427.el9.x86_64 #1\nCall Trace:\n <TASK>\n\
              dump_stack_lvl+0x34/0x48\n panic+0x107/0x2bb\n do_exit.cold+0x15/0x15\n </TASK>",
        kind: "kernel-panic",
        function: "Attempted to kill init",
        module: None,
    },
];

/// How log daemons, viewers and consoles write one line.
type Writer = (&'static str, fn(usize, &str) -> String);

const WRITERS: &[Writer] = &[
    ("bare", |_, text| text.to_owned()),
    ("dmesg", |n, text| format!("[{:5}.{:06}] {text}", 40 + n, n)),
    ("level and caller", |n, text| {
        format!("<4>[   41.{n:06}][ T1207] {text}")
    }),
    ("interrupt context", |n, text| {
        format!("[   41.{n:06}][    C3] {text}")
    }),
    ("dmesg -x", |n, text| {
        format!("kern  :alert : [   41.{n:06}] {text}")
    }),
    ("dmesg -T", |_, text| {
        format!("[Mon Nov 23 05:10:51 2026] {text}")
    }),
    ("dmesg iso", |n, text| {
        format!("2026-11-23T05:10:51,{n:06}+00:00 {text}")
    }),
    ("dmesg reltime", |n, text| match n % 5 {
        0 => format!("[Nov23 05:10] {text}"),
        _ => format!("[  +0.{n:06}] {text}"),
    }),
    ("journal short", |_, text| {
        format!("Nov 23 05:10:51 db-7 kernel: {text}")
    }),
    ("journal precise", |n, text| {
        format!("Nov 23 05:10:51.{n:06} db-7 kernel: {text}")
    }),
    ("journal iso", |_, text| {
        format!("2026-11-23T05:10:51+0100 db-7 kernel: {text}")
    }),
    ("journal full", |_, text| {
        format!("Mon 2026-11-23 05:10:51 CET db-7 kernel: {text}")
    }),
    ("journal unix", |n, text| {
        format!("1795410651.{n:06} db-7 kernel: {text}")
    }),
    ("journal monotonic", |n, text| {
        format!("[   41.{n:06}] db-7 kernel: {text}")
    }),
    ("rsyslog", |n, text| {
        format!("Nov 23 05:10:51 db-7 kernel: [   41.{n:06}] {text}")
    }),
    ("rfc 5424", |n, text| {
        format!("<2>1 2026-11-23T05:10:51.{n:06}Z db-7 kernel - - - [   41.{n:06}] {text}")
    }),
    ("kmsg", |n, text| {
        format!("4,{},{},-,caller=T1207;{text}", 900 + n, 41_000_000 + n)
    }),
    ("netconsole extended", |n, text| {
        format!("6.12.9-arm64,4,{},{},-;{text}", 900 + n, 41_000_000 + n)
    }),
    ("serial", |n, text| format!("[   41.{n:06}] {text}\r")),
    ("coloured", |n, text| {
        format!("\u{1b}[32m[   41.{n:06}] \u{1b}[0m\u{1b}[31m{text}\u{1b}[0m")
    }),
    ("minicom", |n, text| {
        format!("[2026-11-23 05:10:51.123] [   41.{n:06}] {text}")
    }),
];

fn findings(log: &str) -> Vec<Finding> {
    let items = klog::read(log.as_bytes());
    items
        .iter()
        .filter_map(|item| item.finding())
        .cloned()
        .collect()
}

fn faults(log: &str, report: &Report) -> Vec<String> {
    let found = findings(log);
    let [one] = found.as_slice() else {
        let titles: Vec<_> = found.iter().map(|one| one.title.as_str()).collect();
        return vec![format!("{} findings {titles:?}", found.len())];
    };
    let mut wrong = Vec::new();
    if one.kind != report.kind {
        wrong.push(format!("kind {}", one.kind));
    }
    if !one.title.contains(report.function) {
        wrong.push(format!("title {:?}", one.title));
    }
    if one.module.as_deref() != report.module {
        wrong.push(format!("module {:?}", one.module));
    }
    wrong
}

fn written(log: &str, write: fn(usize, &str) -> String) -> String {
    let lines = log.lines().enumerate();
    lines.map(|(n, line)| write(n, line) + "\n").collect()
}

#[test]
fn every_report_is_named_however_it_was_written_down() {
    let mut wrong = Vec::new();
    for report in REPORTS {
        for (name, write) in WRITERS {
            for fault in faults(&written(report.log, *write), report) {
                wrong.push(format!("{} by {name}: {fault}", report.function));
            }
        }
    }
    let all = REPORTS.len() * WRITERS.len();
    assert!(
        wrong.is_empty(),
        "{} of {all}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn lines_of_others_in_between_change_nothing() {
    const NOISE: [&str; 4] = [
        "[   41.000100][  T55] eth0: link up, 1000Mbps, full-duplex",
        "[   41.000200][    C0] hrtimer: interrupt took 104421 ns",
        "[   41.000300][  T56] audit: type=1400 audit(1.2:3): apparmor=\"ALLOWED\"",
        "db-7 login: ",
    ];
    for report in REPORTS {
        let mut log = String::new();
        for (n, line) in report.log.lines().enumerate() {
            log.push_str(&format!("[   41.{n:06}][ T1207] {line}\n"));
            log.push_str(NOISE[n % NOISE.len()]);
            log.push('\n');
        }
        assert_eq!(faults(&log, report), Vec::<String>::new(), "{log}");
    }
}

#[test]
fn quiet_logs_stay_quiet_however_they_were_written_down() {
    const QUIET: &str = "Linux version 6.12.9-arm64 (x@y) (gcc 12) #1 SMP\n\
        Kernel command line: root=/dev/vda ro panic=30 oops=panic\n\
        KASAN initialized (generic)\nkfence: initialized - using 2097152 bytes for 255 objects\n\
        rcu: Hierarchical RCU implementation.\nrcu: \tRCU restricting CPUs from NR_CPUS=256 to nr_cpu_ids=4.\n\
        watchdog: Delayed init of the lockup detector failed: -19\n\
        acme_edge: loading out-of-tree module taints kernel.\n\
        systemd[1]: Starting panic-watcher.service - watches for kernel BUG at lines...\n\
        traps: app[77] general protection fault ip:7f0 sp:7ff error:0 in libc.so.6[7f0+1]\n\
        app[78]: segfault at 0 ip 0000 sp 0000 error 4 in app[400000+1000]\n\
        pstore: Registered erst as persistent store backend\nEXT4-fs (vda): recovery complete\n";
    for (name, write) in WRITERS {
        let titles: Vec<_> = findings(&written(QUIET, *write))
            .into_iter()
            .map(|one| one.title)
            .collect();
        assert_eq!(titles, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_log_whose_months_are_in_the_language_of_its_host_is_read() {
    for stamp in [
        "märz 3. 06:14:02",
        "июл 27 06:14:02",
        "7月 27 06:14:02",
        "Mar  3 06:14:02",
    ] {
        let log: String = [
            "list_del corruption. prev->next should be ffff98679438a5d0, but was ffff98679438a600",
            "------------[ cut here ]------------",
            "kernel BUG at lib/list_debug.c:62!",
            "invalid opcode: 0000 [#1] PREEMPT SMP PTI",
            "CPU: 3 PID: 120 Comm: acmed Tainted: G           OE      6.1.0-13-amd64 #1",
            "RIP: 0010:__list_del_entry_valid.cold+0x31/0x47",
            "Call Trace:",
            " acme_queue_drop+0x89/0x180 [acme]",
            " acme_close+0x40/0x90 [acme]",
            "---[ end trace 0000000000000000 ]---",
        ]
        .map(|text| format!("{stamp} werk-7 kernel: {text}\n"))
        .concat();
        let items = klog::read(log.as_bytes());
        let told = format!("{items:?}");
        assert!(told.contains("acme_queue_drop"), "{stamp}: {told}");
        assert!(told.contains("list-corruption"), "{stamp}: {told}");
    }
}

#[test]
fn a_hung_task_with_a_line_end_in_its_name_is_told() {
    let log: String = [
        "INFO: task two",
        "lines:1808 blocked for more than 143 seconds.",
        "      Not tainted 6.6.30 #1",
        "task:two",
        "lines state:D stack:25960 pid:1808 tgid:1807 ppid:15 flags:0x08080002",
        "Call Trace:",
        " <TASK>",
        " __schedule+0x10e9/0x6820",
        " schedule+0xdd/0x390",
        " acme_wait+0x299/0x5a0 [acme]",
        " acme_close+0x678/0xd40 [acme]",
        " </TASK>",
    ]
    .map(|text| format!("[  720.100001][   T41] {text}\n"))
    .concat();
    let told = format!("{:?}", klog::read(log.as_bytes()));
    assert!(
        told.contains("hung-task") && told.contains("acme_wait"),
        "{told}"
    );
}
