//! Clocks, medians and the machine's own limits.

use std::time::Instant;

use anyhow::{Context, Result};

/// Runs `work` on a pool of `threads` threads.
pub fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .with_context(|| format!("cannot start {threads} threads"))?;
    Ok(pool.install(work))
}

/// Seconds of one run of `work`.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The median; of an even number, the upper middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median seconds of `work`, over at least `runs` runs and about a fifth of a second, after a warm-up.
pub fn median_seconds(runs: usize, mut work: impl FnMut()) -> f64 {
    let first = seconds(&mut work);
    let enough = ((0.2 / first.max(1e-9)) as usize).clamp(runs, 2000);
    median((0..enough).map(|_| seconds(&mut work)).collect())
}

/// Most memory this process has held, in MiB; 0 where the system does not say.
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0.0, |kib: f64| kib / 1024.0)
}

/// Bytes a second that a copy of `bytes` reads and writes on the current pool.
pub fn copy_bandwidth(bytes: usize) -> f64 {
    use rayon::prelude::*;
    let from = vec![1f32; bytes / 4];
    let mut to = vec![0f32; bytes / 4];
    let part = (from.len() / rayon::current_num_threads()).max(1);
    let time = median_seconds(5, || {
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
    });
    2.0 * bytes as f64 / time
}
