//! Giving back what a start needed and an idle agent does not: the pages of the program that reading
//! settings, shaking hands and collecting facts touched once, and the heap they left empty.

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;

/// One mapping of the program's own file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
    is_code: bool,
}

/// The mappings of files that are only read, from the text of `/proc/self/maps`.
fn read_only(maps: &str) -> Vec<Mapping> {
    let mapping = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (start, end) = (
            usize::from_str_radix(start, 16).ok()?,
            usize::from_str_radix(end, 16).ok()?,
        );
        let rights = words.next()?;
        let inode = words.nth(2)?;
        let kept = inode != "0" && matches!(rights, "r-xp" | "r--p");
        kept.then_some(Mapping {
            start,
            length: end.checked_sub(start)?,
            is_code: rights == "r-xp",
        })
    };
    maps.lines().filter_map(mapping).collect()
}

/// Gives it back. What is still needed comes again from the page cache, a page at a time. Costs about
/// a millisecond, and nothing where the kernel is too old for it.
#[expect(unsafe_code)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: glibc's malloc_trim(3) takes a number, is thread-safe, and frees only what is free.
        unsafe { malloc_trim(0) };
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for mapping in read_only(&maps) {
        // Pages of code are never written to: dropped, and read again. A read-only mapping of data may
        // hold pages that the dynamic linker wrote before it was closed; LinuxPageOut keeps those.
        let advice = match mapping.is_code {
            true => Advice::LinuxDontNeed,
            false => Advice::LinuxPageOut,
        };
        // SAFETY: the range is a mapping of this process as the kernel just listed it. For private
        // file mappings without a page of their own both advices keep every byte as it reads now.
        let _ = unsafe { madvise(mapping.start as *mut c_void, mapping.length, advice) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_files_that_are_read_are_given_back() {
        let maps = "\
1000-3000 r-xp 00001000 fe:00 77 /usr/bin/ringward-agent\n\
3000-4000 r--p 00003000 fe:00 77 /usr/bin/ringward-agent\n\
4000-5000 rw-p 00004000 fe:00 77 /usr/bin/ringward-agent\n\
5000-9000 rw-p 00000000 00:00 0 [heap]\n\
a000-b000 r-xp 00000000 00:00 0 [vdso]\n\
nonsense\n";
        let starts: Vec<(usize, bool)> = read_only(maps)
            .iter()
            .map(|mapping| (mapping.start, mapping.is_code))
            .collect();
        assert_eq!(starts, [(0x1000, true), (0x3000, false)]);
    }

    #[test]
    fn the_program_goes_on_after_it() {
        give_back();
        give_back();
        assert_eq!(
            format!("{:?}", "still here".to_uppercase()),
            "\"STILL HERE\""
        );
    }
}
