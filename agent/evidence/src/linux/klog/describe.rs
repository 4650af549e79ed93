//! From a collected report to its finding.

use serde_json::Value;

use super::blame::{self, Blamed, Body};
use super::facts::{self, Facts};
use super::frame::Row;
use super::incident::Incident;
use super::shape;
use crate::finding::Finding;
use crate::text;

/// Frames kept as evidence.
const FRAMES_MAX: usize = 16;
/// Frames that make the hash: deep enough to tell callers apart, shallow enough that a truncated
/// dump still has them.
const HASHED_FRAMES: usize = 4;
/// Rows of the printed stack kept as evidence.
const STACK_MAX: usize = 64;

/// The finding of one report.
pub(super) fn describe(incident: &Incident, release: Option<&str>) -> Finding {
    let rows = &incident.rows;
    let shape = shape::of(incident.lead, rows);
    let blamed = shape
        .plan
        .and_then(|plan| blame::find(plan, rows).or_else(|| anybody(rows)));
    let title = match &blamed {
        Some(blamed) if shape.titled => {
            format!("{} in {}{}", shape.head, blamed.function, shape.tail)
        }
        _ => format!("{}{}", shape.head, shape.tail),
    };
    let stack = blamed.as_ref().map_or(&[][..], |blamed| &blamed.stack);
    let hash = hash(&shape, blamed.as_ref());
    let key = match incident.monotonic_us {
        Some(us) => format!("kernel:{hash}@{us}"),
        None => format!("kernel:{hash}"),
    };
    let printed = printed_stack(rows);
    let known: Facts = facts::of(rows);
    let mut finding = Finding::new(shape.kind, &key, &title)
        .with("hash", hash)
        .with("header", rows.first().map_or("", |row| row.text.trim()))
        .with("frames", frames(stack))
        .with("stack", below_reporters(&printed))
        .with("stack_depth", printed.len())
        .with("panicked", incident.panic.is_some())
        .with(
            "trace",
            rows.iter().any(|row| matches!(row.row, Row::Frames(_))),
        )
        .with_some("panic", incident.panic.as_deref())
        .with_some("kernel", known.release.as_deref().or(release))
        .with_some("taint", known.taint)
        .with_some("comm", known.comm)
        .with_some("pid", known.pid)
        .with_some("cpu", known.cpu)
        .with_some("hardware", known.hardware)
        .with_some("modules_loaded", known.modules)
        .with_some("monotonic_us", incident.monotonic_us);
    if let Some(blamed) = blamed {
        finding.function = Some(text::clean(&blamed.function, 256));
        let module = blamed.module.or_else(|| module_of(rows, &blamed.function));
        finding.module = module.map(|module| text::clean(&module, 64));
    }
    finding
}

/// The module of a function that the header names without one and the stack with one.
fn module_of(rows: &[Body], function: &str) -> Option<String> {
    rows.iter().find_map(|row| {
        let frames = match &row.row {
            Row::Frames(frames) => frames.as_slice(),
            Row::Instruction(Some(frame)) | Row::Doubtful(frame) => std::slice::from_ref(frame),
            _ => return None,
        };
        frames
            .iter()
            .find(|frame| frame.function == function)
            .and_then(|frame| frame.module.clone())
    })
}

/// The printed stack without the functions that only report.
fn below_reporters(printed: &[&str]) -> Value {
    printed
        .iter()
        .skip_while(|name| super::helpers::is_reporter(name))
        .take(STACK_MAX)
        .map(|name| Value::String(text::clean(name, 256)))
        .collect()
}

/// The first stack as the kernel printed it, doubtful frames too.
fn printed_stack(rows: &[Body]) -> Vec<&str> {
    let start = rows
        .iter()
        .position(|row| row.row == Row::Trace)
        .map_or(0, |at| at + 1);
    let mut names: Vec<&str> = Vec::new();
    for row in &rows[start..] {
        match &row.row {
            Row::Frames(frames) => {
                for frame in frames {
                    // 32-bit arm prints each caller again as the next callee.
                    if frames.len() == 1 || names.last() != Some(&frame.function.as_str()) {
                        names.push(&frame.function);
                    }
                }
            }
            Row::Doubtful(frame) => names.push(&frame.function),
            Row::Trace | Row::SideTrace => break,
            Row::Instruction(_) | Row::Plain => {}
        }
    }
    names
}

/// Where the usual walk finds nobody (torn reports, unknown shapes): the faulting instruction, else
/// the first frame of the first stack that is no helper.
fn anybody(rows: &[Body]) -> Option<Blamed> {
    let instruction = rows.iter().find_map(|row| match &row.row {
        Row::Instruction(Some(frame)) if !super::helpers::is_helper(&frame.function) => {
            Some(frame.clone())
        }
        _ => None,
    });
    let stack: Vec<_> = instruction
        .into_iter()
        .chain(
            rows.iter()
                .take_while(|row| row.row != Row::SideTrace)
                .filter_map(|row| match &row.row {
                    Row::Frames(frames) => Some(frames.clone()),
                    _ => None,
                })
                .flatten()
                .filter(|frame| !super::helpers::is_helper(&frame.function)),
        )
        .take(FRAMES_MAX)
        .collect();
    let first = stack.first()?;
    Some(Blamed {
        function: super::helpers::without_syscall_wrapper(&first.function).to_owned(),
        module: first.module.clone(),
        stack,
    })
}

fn hash(shape: &shape::Shape, blamed: Option<&Blamed>) -> String {
    let Some(blamed) = blamed else {
        return text::short_hash([shape.kind, shape.head.as_str()]);
    };
    let frames = blamed
        .stack
        .iter()
        .take(HASHED_FRAMES)
        .map(|frame| super::helpers::without_syscall_wrapper(&frame.function));
    text::short_hash(
        [shape.kind, blamed.function.as_str()]
            .into_iter()
            .chain(frames),
    )
}

fn frames(stack: &[super::frame::Frame]) -> Value {
    stack
        .iter()
        .take(FRAMES_MAX)
        .map(|frame| {
            Value::String(text::clean(
                &match &frame.module {
                    Some(module) => format!("{} [{module}]", frame.function),
                    None => frame.function.clone(),
                },
                320,
            ))
        })
        .collect::<Vec<_>>()
        .into()
}
