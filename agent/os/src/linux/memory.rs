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
        // Out of the page cache too, where nobody else maps it, and from now on without reading ahead:
        // a fault maps 64 KiB around it of what is cached, most of which an idle agent never runs.
        // Pages of code are never written to, so what others share with us is dropped as well. A
        // read-only mapping of data may hold pages that the dynamic linker wrote before it was closed,
        // which dropping would lose.
        let advices: &[Advice] = match mapping.is_code {
            true => &[Advice::Random, Advice::LinuxPageOut, Advice::LinuxDontNeed],
            false => &[Advice::Random, Advice::LinuxPageOut],
        };
        for advice in advices {
            // SAFETY: the range is a mapping of this process as the kernel just listed it. For private
            // file mappings without a page of their own these advices keep every byte as it reads now.
            let _ = unsafe { madvise(mapping.start as *mut c_void, mapping.length, *advice) };
        }
    }
}

/// Makes the allocator take little and give back soon; called before anything is allocated that lives
/// long. One arena for all threads: the few short-lived ones that resolve names and unpack would each
/// leave a heap of its own behind. Buffers from 32 KiB on are mappings, gone when they are freed.
#[expect(unsafe_code)]
pub fn be_sparing() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // The numbers of glibc's malloc.h; they are part of its interface.
        const TRIM_THRESHOLD: i32 = -1;
        const MMAP_THRESHOLD: i32 = -3;
        const ARENA_MAX: i32 = -8;
        for (parameter, value) in [
            (ARENA_MAX, 1),
            (MMAP_THRESHOLD, 32 * 1024),
            (TRIM_THRESHOLD, 32 * 1024),
        ] {
            // SAFETY: mallopt(3) takes two numbers; no other thread runs yet.
            unsafe { mallopt(parameter, value) };
        }
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
        be_sparing();
        give_back();
        give_back();
        assert_eq!(
            format!("{:?}", "still here".to_uppercase()),
            "\"STILL HERE\""
        );
    }
}
