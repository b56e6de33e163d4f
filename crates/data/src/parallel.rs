//! Work spread over threads, results in the order of the items.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `work` of every item, on at most `threads` threads. The result does not
/// depend on their number: `work` sees one item at a time.
pub(crate) fn map<Item: Sync, Output: Send>(
    threads: usize,
    items: &[Item],
    work: impl Fn(&Item) -> Output + Sync,
) -> Vec<Output> {
    let threads = threads.clamp(1, items.len().max(1));
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let output = work(item);
                    done.lock().expect("no thread panics while it holds the lock").push((index, output));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("the scope has joined every thread without a panic");
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_keep_the_order_of_the_items_for_any_number_of_threads() {
        let items: Vec<u64> = (0..1000).collect();
        let expected: Vec<u64> = items.iter().map(|item| item * item).collect();
        for threads in [0, 1, 2, 3, 7, 5000] {
            assert_eq!(super::map(threads, &items, |item| item * item), expected, "{threads} threads");
        }
        assert!(super::map(4, &[] as &[u64], |item| *item).is_empty());
    }
}
