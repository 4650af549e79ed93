//! Reports of the compiler's and the allocator's checkers.

use super::super::blame::Body;
use super::super::plans;
use super::{Shape, first_words, plain, shape, stable, without_offsets};

pub(super) fn kasan(rest: &str, rows: &[Body]) -> Shape {
    let what = first_words(rest);
    if what.contains("free") && !what.contains("use-after-free") {
        return shape("kasan", "KASAN: invalid-free", &plans::SANITIZER_FREE);
    }
    let access = rows.iter().take(20).find_map(|row| {
        ["Read", "Write"].into_iter().find(|verb| {
            row.text.contains(&format!("{verb} of size "))
                || row.text.contains(&format!("{verb} at addr "))
        })
    });
    if let Some(what) = what
        .split(" on address")
        .next()
        .filter(|w| w.len() < what.len())
    {
        return plain(
            "kasan",
            format!("KASAN: {what} {}", access.unwrap_or("")).trim_end(),
            &plans::REPORTER,
        );
    }
    match access {
        Some(access) => shape(
            "kasan",
            format!("KASAN: {what} {access}"),
            &plans::SANITIZER,
        ),
        None => Shape {
            head: format!("KASAN: {}", stable(&without_offsets(rest))),
            titled: false,
            ..shape("kasan", "", &plans::SANITIZER)
        },
    }
}

/// `data-race in a / b`: the title names both parties, the first one is blamed.
pub(super) fn kcsan(rest: &str) -> Shape {
    plain(
        "kcsan",
        format!("KCSAN: {}", without_offsets(rest)),
        &plans::RACE,
    )
}

pub(super) fn ubsan(rest: &str) -> Shape {
    let what = first_words(rest);
    let what = if what.eq_ignore_ascii_case("undefined behaviour") {
        "undefined-behaviour"
    } else {
        what
    };
    shape("ubsan", format!("UBSAN: {what}"), &plans::UBSAN)
}
