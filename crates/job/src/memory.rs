//! Whether this machine can make a job at all.

use anyhow::{Result, bail};

/// What a parameter takes while the first checkpoint is made, bytes: itself, two moments of the optimiser, and what is stored.
const BYTES_PER_PARAMETER: u64 = 16;

/// Memory that is free for this process, bytes, where the system says.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Refuses a model whose first checkpoint does not fit into `available` bytes.
pub(crate) fn check(parameters: usize, available: Option<u64>) -> Result<()> {
    let needed = BYTES_PER_PARAMETER.saturating_mul(parameters as u64);
    match available {
        Some(available) if needed > available => bail!(
            "model: the first checkpoint of {parameters} parameters takes about {} MiB here, and {} are free\n\
             hint: make the model smaller, or submit it with zoo submit from a larger machine",
            needed >> 20,
            available >> 20
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_it_takes_memory() {
        assert!(check(1000, Some(16_000)).is_ok() && check(usize::MAX, None).is_ok());
        let error = check(2 << 30, Some(1 << 30)).unwrap_err().to_string();
        assert!(error.contains("about 32768 MiB here, and 1024 are free\nhint: "), "{error}");
    }
}
