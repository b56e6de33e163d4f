//! How work on rows is cut for rayon's current pool. The cuts never reach a
//! result: every operator's rows are independent, or its sums have cuts of
//! their own.

/// Work below which a task is not worth handing to another thread, in elements
/// of a light operator. Waking a thread costs a few microseconds, and a small
/// model has a hundred such moments in a step.
pub(crate) const TASK_ELEMENTS_MIN: usize = 16 * 1024;

/// Tasks per thread, so that a slow thread can be helped.
const TASKS_PER_THREAD: usize = 4;

/// Rows per task for `rows` rows of `row_elements` each: all of them when the
/// whole is small or the pool has one thread. Never 0.
pub(crate) fn rows_per_task(rows: usize, row_elements: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return rows.max(1);
    }
    let fair = rows.div_ceil(threads * TASKS_PER_THREAD);
    let least = TASK_ELEMENTS_MIN.div_ceil(row_elements.max(1));
    fair.max(least).max(1)
}

/// Elements per task for a plain slice, a multiple of `unit`. Never 0.
pub(crate) fn elements_per_task(elements: usize, unit: usize) -> usize {
    rows_per_task(elements.div_ceil(unit), unit) * unit
}
