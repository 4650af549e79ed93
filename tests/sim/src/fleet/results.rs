//! RESULTS.md and its plot: every scenario in tables, made by one verb.

use super::policy::PolicyName;
use super::scenario::Scenario;
use super::tables::{Results, Share, Spread, Summary, summarise};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Scenarios of the tables with the seeds of one usual run and, where time needs it, other hosts.
const TABLE: [(&str, u64, Option<u32>); 21] = [
    ("lethal-all", 100, None),
    ("lethal-10pct", 200, None),
    ("lethal-1pct", 200, None),
    ("lethal-03pct", 200, None),
    ("one-model-dies", 200, None),
    ("july-2024", 20, None),
    ("next-boot-dies", 20, None),
    ("slow-burn", 20, Some(10_000)),
    ("liar-hosts-lethal", 50, None),
    ("tiny-fleets", 300, None),
    ("clean", 1000, Some(10_000)),
    ("clean-watched", 100, Some(10_000)),
    ("base-1e-3", 100, Some(10_000)),
    ("flaky-fleet", 100, Some(10_000)),
    ("recurring-signatures", 800, Some(10_000)),
    ("baseline-drift-x3", 800, Some(10_000)),
    ("laptops-asleep", 150, Some(10_000)),
    ("site-outage-during-clean-update", 1000, Some(10_000)),
    ("liar-hosts", 200, Some(10_000)),
    ("tiny-fleets-clean", 3000, None),
    ("quiet-days", 300, None),
];
const VENDOR: (&str, u64) = ("vendor-change", 100);
/// Scenarios of the plot, with the seeds of the other policies.
const COMPARED: [&str; 5] = [
    "lethal-all",
    "lethal-10pct",
    "lethal-1pct",
    "lethal-03pct",
    "one-model-dies",
];
const COMPARED_SEEDS: u64 = 20;

/// The folder of tests/sim.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where a scenario of this name lies.
#[must_use]
pub fn scenario_path(name: &str) -> PathBuf {
    folder().join("scenarios").join(format!("{name}.toml"))
}

/// Runs every scenario, or takes summaries from the JSON files of earlier runs (`NAME.json` in
/// `earlier`), and writes the tables.
///
/// # Errors
/// What could not be read or written.
pub fn write(jobs: u64, scale: f64, earlier: Option<&Path>) -> Result<(), String> {
    let mut ours = Vec::new();
    for (name, seeds, hosts) in TABLE.into_iter().chain([(VENDOR.0, VENDOR.1, None)]) {
        ours.push(summary_of(name, seeds, hosts, jobs, scale, earlier)?);
    }
    let mut others = Vec::new();
    for name in COMPARED {
        let scenario = load(name)?;
        for policy in [PolicyName::HawkbitThreshold, PolicyName::TimeWaves] {
            let runs = super::run_seeds(&scenario, scenario.hosts, 0, COMPARED_SEEDS, policy, jobs);
            others.push(summarise(&scenario, policy.name(), 0, &runs));
        }
    }
    put("RESULTS.md", &page(&ours, &others))?;
    put("failed.svg", &plot(&ours, &others))
}

fn put(name: &str, text: &str) -> Result<(), String> {
    let path = folder().join(name);
    std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn load(name: &str) -> Result<Scenario, String> {
    let path = scenario_path(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Scenario::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn summary_of(
    name: &str,
    seeds: u64,
    hosts: Option<u32>,
    jobs: u64,
    scale: f64,
    earlier: Option<&Path>,
) -> Result<Summary, String> {
    let scenario = load(name)?;
    if let Some(folder) = earlier {
        let path = folder.join(format!("{name}.json"));
        if let Ok(text) = std::fs::read_to_string(&path) {
            let results: Results =
                serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            return Ok(results.summary);
        }
    }
    let seeds = ((seeds as f64 * scale) as u64).max(1);
    let runs = super::run_seeds(
        &scenario,
        hosts.unwrap_or(scenario.hosts),
        0,
        seeds,
        PolicyName::Ringward,
        jobs,
    );
    Ok(summarise(&scenario, PolicyName::Ringward.name(), 0, &runs))
}

fn page(ours: &[Summary], others: &[Summary]) -> String {
    let mut text = String::from(
        "# Results of the fleet simulator\n\nMade by `cargo xtask sim --results`. The machine under test is the server's own rollout; only hosts are \
         modelled: rings of 1, 9 and 90 %, soak 15 min, apply and boot 1-10 min, base 10⁻⁴ a reboot or exposure, every host rebooting once a day on \
         average from 72 h before the start, α = 10⁻³. Seeds start at 0 without gaps. Intervals are Clopper-Pearson, 95 %. The oracle knows the harm \
         and needs ln(1/α) / KL(q‖p₀) exposures, rounded up to whole hosts.\n\n",
    );
    harmful(&mut text, ours);
    clean(&mut text, ours);
    suspects(&mut text, ours);
    compared(&mut text, ours, others);
    text
}

fn harmful(text: &mut String, ours: &[Summary]) {
    text.push_str("## Bad releases\n\n| scenario | runs | hosts | failed median (p95, max) | exposed | resolved | × oracle exposed / resolved | halted | h to halt |\n|---|---|---|---|---|---|---|---|---|\n");
    for s in ours.iter().filter(|s| s.oracle.is_some()) {
        let ratios = match (s.exposed_ratio, s.resolved_ratio) {
            (Some(e), Some(r)) => format!("{e:.2} / {r:.2}"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} | {:.0} | {ratios} | {} | {} |",
            s.scenario,
            s.runs,
            s.hosts,
            three(&s.failed),
            s.exposed.median,
            s.resolved.median,
            part(&s.halted),
            hours(s.t_halt_h.as_ref())
        );
    }
}

fn clean(text: &mut String, ours: &[Summary]) {
    text.push_str("\n## Clean releases\n\n| scenario | runs | hosts | false halts and holds over 30 min | interval | failed anyway, median | h to complete, median (p95) |\n|---|---|---|---|---|---|---|\n");
    for s in ours
        .iter()
        .filter(|s| s.oracle.is_none() && s.ranked_first.is_none())
    {
        let f = &s.false_halts_and_holds;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1e} .. {:.1e} | {:.0} | {} |",
            s.scenario,
            s.runs,
            s.hosts,
            f.count,
            f.low,
            f.high,
            s.failed.median,
            hours(s.t_done_h.as_ref())
        );
    }
}

fn suspects(text: &mut String, ours: &[Summary]) {
    text.push_str("\n## Suspects, without a rollout\n\n| scenario | runs | hosts | guilty ranked first | none named |\n|---|---|---|---|---|\n");
    for s in ours {
        if let (Some(first), Some(none)) = (&s.ranked_first, &s.none_named) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                s.scenario,
                s.runs,
                s.hosts,
                part(first),
                part(none)
            );
        }
    }
}

fn compared(text: &mut String, ours: &[Summary], others: &[Summary]) {
    text.push_str("\n## Failed hosts by policy (median)\n\n![failed hosts by policy](failed.svg)\n\nThese are models of published rules on the same hosts, not runs of those products: hawkBit's rollout groups with a success threshold of 50 % and an error threshold of 1 % (Eclipse hawkBit, \"Rollout Management\", <https://eclipse.dev/hawkbit/concepts/rollout-management>), which count what devices report, so that a silent host is neither success nor error; and update rings that wait for days (Microsoft, \"windowsUpdates qualityUpdateRing\"). See `src/fleet/others.rs`.\n\n| scenario | ringward | hawkbit-threshold | time-waves |\n|---|---|---|---|\n");
    for name in COMPARED {
        let [a, b, c] = medians(name, ours, others);
        let _ = writeln!(text, "| {name} | {a:.0} | {b:.0} | {c:.0} |");
    }
}

fn medians(name: &str, ours: &[Summary], others: &[Summary]) -> [f64; 3] {
    [
        PolicyName::Ringward,
        PolicyName::HawkbitThreshold,
        PolicyName::TimeWaves,
    ]
    .map(|policy| {
        let mut all = ours.iter().chain(others);
        all.find(|s| s.scenario == name && s.policy == policy.name())
            .map_or(0.0, |s| s.failed.median)
    })
}

fn three(s: &Spread) -> String {
    format!("{:.0} ({:.0}, {:.0})", s.median, s.p95, s.max)
}

fn part(s: &Share) -> String {
    format!("{} of {} (≥ {:.2} %)", s.count, s.of, s.low * 100.0)
}

fn hours(s: Option<&Spread>) -> String {
    s.map_or_else(
        || "-".to_owned(),
        |s| format!("{:.1} ({:.1})", s.median, s.p95),
    )
}

/// Bars on a logarithmic scale from 1 to 100,000 hosts.
fn plot(ours: &[Summary], others: &[Summary]) -> String {
    const COLOURS: [(&str, &str); 3] = [
        ("ringward", "#0072b2"),
        ("hawkbit-threshold", "#e69f00"),
        ("time-waves", "#999999"),
    ];
    let (left, top, height, step) = (60.0, 40.0, 250.0, 130.0);
    let width = left + step * COMPARED.len() as f64 + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        top + height + 50.0
    );
    for decade in 0..=5 {
        let y = top + height - height * f64::from(decade) / 5.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            width - 20.0,
            left - 6.0,
            y + 4.0,
            10u32.pow(decade)
        );
    }
    for (i, name) in COMPARED.into_iter().enumerate() {
        let x = left + step * i as f64 + 15.0;
        for (j, value) in medians(name, ours, others).into_iter().enumerate() {
            let bar = height * (value.max(1.0).log10() / 5.0).min(1.0);
            let at = x + 34.0 * j as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{at}\" y=\"{:.1}\" width=\"30\" height=\"{bar:.1}\" fill=\"{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{value:.0}</text>",
                top + height - bar,
                COLOURS[j].1,
                at + 15.0,
                top + height - bar - 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            x + 49.0,
            top + height + 18.0
        );
    }
    for (j, (name, colour)) in COLOURS.into_iter().enumerate() {
        let x = left + 160.0 * j as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"20\">{name}</text>",
            x + 18.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
