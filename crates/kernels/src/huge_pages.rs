//! Huge pages under everything large.
//!
//! Fresh memory costs a fault for every page that is touched, and memory in small pages a miss of the address cache for every few
//! kilobytes that are read. Linux has pages of two megabytes for who asks for them; elsewhere this is the system's allocator as it is.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with huge pages under every large piece where the system has them. A binary makes it its own:
///
/// ```
/// #[global_allocator]
/// static MEMORY: zoo_kernels::HugePages = zoo_kernels::HugePages;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HugePages;

/// Smallest piece that is worth a call, bytes: at least one huge page lies in it, wherever it begins.
const LARGE: usize = 4 << 20;

// SAFETY: the system's allocator does everything; to ask for huge pages changes neither where a piece lies nor what it holds.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        in_huge_pages(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        in_huge_pages(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's.
        in_huge_pages(unsafe { System.realloc(piece, layout, size) }, size)
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(piece, layout) }
    }
}

fn in_huge_pages(piece: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && !piece.is_null() {
        system::ask_for_huge_pages(piece as usize, size);
    }
    piece
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod system {
    use std::arch::asm;

    /// Bytes of a small page: what advice is given by.
    const PAGE: usize = 4096;

    /// Advises the system on the whole pages of a piece. It may not listen: then everything is as it was.
    pub(super) fn ask_for_huge_pages(address: usize, size: usize) {
        const MADVISE: i64 = 28;
        const HUGE_PAGES: u64 = 14;
        let start = address.next_multiple_of(PAGE);
        let length = (address + size - start) / PAGE * PAGE;
        // SAFETY: this advice changes how memory is mapped and nothing that can be read from it.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") MADVISE => _,
                in("rdi") start,
                in("rsi") length,
                in("rdx") HUGE_PAGES,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod system {
    pub(super) fn ask_for_huge_pages(_address: usize, _size: usize) {}
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// What the system says of the mapping that an address lies in: `hg` where huge pages were asked for.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let range = |line: &str| {
            let (start, rest) = line.split_once('-')?;
            let (end, _) = rest.split_once(' ')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let mut lines =
            maps.lines().skip_while(|line| range(line).is_none_or(|range| !range.contains(&address)));
        lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap().to_owned()
    }

    #[test]
    fn huge_pages_are_asked_for_under_a_large_piece_and_it_holds_what_it_should() {
        let has_huge_pages = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let layout = Layout::from_size_align(64 << 20, 64).unwrap();
        // SAFETY: pieces of that layout, freed with the size that they have then.
        unsafe {
            let piece = HugePages.alloc_zeroed(layout);
            let middle = piece as usize + (32 << 20);
            assert_eq!(flags(middle).split_whitespace().any(|flag| flag == "hg"), has_huge_pages);
            assert!(std::slice::from_raw_parts(piece, layout.size()).iter().all(|byte| *byte == 0));
            piece.write(7);
            let grown = HugePages.realloc(piece, layout, 2 * layout.size());
            assert_eq!(grown.read(), 7);
            HugePages.dealloc(grown, Layout::from_size_align(2 * layout.size(), 64).unwrap());
        }
    }
}
