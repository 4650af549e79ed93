//! Oopses, out-of-memory kills, pstore dumps.

use std::fs;

use ringward_evidence::finding::Finding;
use ringward_evidence::linux::{klog, pstore};

use super::{files, findings, found, kinds, row, samples};

#[test]
fn oopses_of_four_architectures_are_read() {
    let Some(samples) = samples() else { return };
    let folder = samples.join("linux-oops/satyr");
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    let (mut seen, mut with_release, mut with_stack) = (0, 0, 0);
    for path in &paths {
        let found = found(path);
        seen += usize::from(!found.is_empty());
        with_release += usize::from(found.iter().any(|f| f.evidence.contains_key("kernel")));
        let stack = |f: &Finding| {
            f.evidence
                .get("stack_depth")
                .and_then(serde_json::Value::as_u64)
                > Some(0)
        };
        with_stack += usize::from(found.iter().any(stack));
        if found.is_empty() {
            println!("unseen {}", path.display());
        }
    }
    row("oopses: seen", seen, paths.len(), "");
    row(
        "oopses: kernel release",
        with_release,
        paths.len(),
        "the others print none",
    );
    row(
        "oopses: with a stack",
        with_stack,
        paths.len(),
        "the others are cut off before it",
    );
    assert_eq!(seen, paths.len());

    let warning = &found(&folder.join("rhbz-827868"))[0];
    assert_eq!(warning.evidence["stack_depth"], 32);
    assert_eq!(warning.evidence["modules_loaded"], 119);
    assert_eq!(warning.evidence["taint"], "");
    let top: Vec<&str> = warning.evidence["stack"].as_array().unwrap()[..3]
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    assert_eq!(
        top,
        [
            "__alloc_pages_nodemask",
            "ip_copy_metadata",
            "ip_forward_options"
        ]
    );
    let tainted = &found(&folder.join("rhbz-827868-modified"))[0];
    assert_eq!(tainted.evidence["taint"], "PBDO");
    assert_eq!(tainted.evidence["hash"], warning.evidence["hash"]);
    let module = &found(&folder.join("rhbz-1040900-s390x-1"))[0];
    assert_eq!(module.module.as_deref(), Some("will_oops"));
}

#[test]
fn out_of_memory_kills_name_process_and_group() {
    let Some(samples) = samples() else { return };
    let folder = samples.join("linux-oops/oom");
    let docker = |start: &str| format!("/docker/{start}");
    let truth = [
        ("01", "memorymonster", 13536, "/mem2".to_owned()),
        ("02", "badsysprogram", 1532, "/".to_owned()),
        ("03", "gunpowder-memho", 1381, docker("2e088fe4")),
        ("04", "gunpowder-memho", 1667, docker("6c6fcab8")),
    ];
    let mut good = 0;
    for (number, process, pid, group) in &truth {
        let found = found(&folder.join(format!("cadvisor_oom_{number}.txt")));
        let kill = found.iter().find(|f| f.kind == "oom-kill").unwrap();
        assert_eq!(
            (
                kill.evidence["process"].as_str(),
                kill.evidence["pid"].as_u64()
            ),
            (Some(*process), Some(*pid))
        );
        let cgroup = kill.evidence["cgroup"].as_str().unwrap();
        assert!(
            cgroup == group || cgroup.contains(group.as_str()),
            "{cgroup}"
        );
        good += 1;
    }
    row(
        "out-of-memory kills",
        good,
        truth.len(),
        "process, pid, control group",
    );
    let stream: Vec<u8> = ["03", "04"]
        .iter()
        .flat_map(|number| fs::read(folder.join(format!("cadvisor_oom_{number}.txt"))).unwrap())
        .collect();
    assert_eq!(
        kinds(&findings(klog::read(&stream))),
        ["oom-kill", "oom-kill"]
    );
}

#[test]
fn pstore_layouts_become_one_panic_each() {
    let Some(samples) = samples() else { return };
    let parts: Vec<Vec<u8>> = ["1", "2"]
        .iter()
        .map(|part| fs::read(samples.join(format!("pstore/abrt__dmesg-efi-{part}"))).unwrap())
        .collect();
    let records: Vec<pstore::Record<'_>> = ["dmesg-efi-1", "dmesg-efi-2"]
        .into_iter()
        .zip(&parts)
        .map(|(name, bytes)| pstore::Record { name, bytes })
        .collect();
    let (dumps, gaps) = pstore::dumps(&records);
    assert!(gaps.is_empty());
    assert_eq!(
        dumps[0].text,
        fs::read(samples.join("pstore/abrt__right.dmesg-efi")).unwrap()
    );

    let folder = samples.join("own-vm/pstore");
    let truth = [
        (
            "efi/pstore/179541118",
            "kernel panic: sysrq triggered crash",
            59_788_769,
        ),
        (
            "erst-3-panics/7711229732582",
            "kernel panic: sysrq triggered crash",
            10_052_284,
        ),
        (
            "erst-3-panics/7711229839956",
            "kernel panic: sysrq triggered crash",
            9_765_100,
        ),
        (
            "erst-3-panics/7711229938740",
            "kernel panic: sysrq triggered crash",
            9_083_645,
        ),
        (
            "ramoops/pstore-sysrq",
            "kernel panic: sysrq triggered crash",
            63_021_102,
        ),
        (
            "ramoops/pstore-nmi-panic",
            "kernel panic: NMI: Not continuing",
            93_804_966,
        ),
    ];
    for (layout, title, monotonic_us) in truth {
        let found = found(&folder.join(layout));
        let panics: Vec<&Finding> = found.iter().filter(|f| f.kind == "kernel-panic").collect();
        assert_eq!(panics.len(), 1, "{layout}");
        assert_eq!(panics[0].title, title);
        assert_eq!(panics[0].evidence["monotonic_us"], monotonic_us);
        assert_eq!(panics[0].evidence["pstore_reason"], "Panic");
        assert_eq!(panics[0].evidence["kernel"], "6.1.0-56-cloud-amd64");
    }
    row(
        "pstore: one panic a dump",
        truth.len() + 1,
        truth.len() + 1,
        "EFI, ERST, RAM",
    );
}

#[test]
fn a_panic_has_one_key_in_pstore_kdump_and_console() {
    let Some(samples) = samples() else { return };
    let own = samples.join("own-vm");
    let keys = |path: &str| -> Vec<String> {
        let found = found(&own.join(path));
        found
            .into_iter()
            .filter(|f| f.kind == "kernel-panic")
            .map(|f| f.key)
            .collect()
    };
    assert_eq!(keys("kdump/crash"), keys("kdump/serial-console.log"));
    assert_eq!(
        keys("pstore/efi/pstore"),
        keys("serial-console-ovmf-efi-pstore.log")
    );
    let loops = keys("serial-console-bootloop-3-panics-then-heal.log");
    assert_eq!(loops.len(), 3);
    assert_eq!(keys("pstore/erst-3-panics"), loops);
}
