//! What a node says of itself, measured in less than a second.

use std::time::{Duration, Instant};

use rayon::ThreadPool;
use zoo_admission::PRESET;
use zoo_kernels::{Profile, isa};
use zoo_model::preset;
use zoo_protocol::{BENCHMARK_STEP_TOKENS, Message, NodeProfile, Speeds, StorageKind};
use zoo_training::{Dataset, Trainer, TrainingSpec};

use crate::PNodeError;

/// Tokens of one step.
const STEP_TOKENS: usize = BENCHMARK_STEP_TOKENS as usize;
/// The benchmark of a profile stops after the first step that ends later than this.
const MEASURING_TIME: Duration = Duration::from_millis(200);

/// What a volunteer lets the node's work take, MiB, if anything is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryLimit(pub Option<u64>);

impl MemoryLimit {
    /// Memory that work may take now, MiB, if the system or the volunteer says.
    pub fn available_mib(self) -> Option<u64> {
        [available_memory_mib(), self.0].into_iter().flatten().min()
    }
}

/// As many threads as the machine runs at once.
pub(crate) fn all_threads() -> u16 {
    std::thread::available_parallelism().map_or(1, |threads| u16::try_from(threads.get()).unwrap_or(u16::MAX))
}

/// What a person says of a node.
pub(crate) struct About {
    pub name: String,
    pub region: String,
    pub upload_kib_per_s: u32,
    pub storage: Option<StorageKind>,
}

/// Checks that the machine computes the right bits, then measures how fast.
pub(crate) fn measure(
    about: About,
    threads: u16,
    memory: MemoryLimit,
    pool: &ThreadPool,
) -> Result<NodeProfile, PNodeError> {
    isa::self_test().map_err(|cause| PNodeError::Compute(cause.to_string()))?;
    let About { name, region, upload_kib_per_s, storage } = about;
    let mut profile = NodeProfile {
        name,
        threads,
        memory_mib: memory.available_mib().unwrap_or(0),
        isa: isa::active().to_string(),
        speeds: Speeds::default(),
        region,
        upload_kib_per_s,
        storage,
        software: concat!("zoo ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    profile.validate().map_err(PNodeError::Profile)?;
    profile.speeds = pool.install(|| {
        let [f32_exact, bf16_exact] = Profile::ALL.map(tokens_per_second);
        Ok::<_, PNodeError>(Speeds { f32_exact: f32_exact?, bf16_exact: bf16_exact? })
    })?;
    Ok(profile)
}

/// Trains the benchmark network on made-up text. The bits are those of any other run; only the
/// time is this machine's.
fn tokens_per_second(profile: Profile) -> Result<u32, PNodeError> {
    let failed = |cause: &dyn std::fmt::Display| PNodeError::Compute(cause.to_string());
    let model = preset::by_name(PRESET).expect("it is in the table of presets");
    let batch_sequences = (STEP_TOKENS / model.context).max(1) as u32;
    let vocab_size = model.vocab_size as u32;
    let tokens: Vec<u32> =
        (0..2 * STEP_TOKENS as u32 + 1).map(|at| at.wrapping_mul(2_654_435_761) % vocab_size).collect();
    let data = Dataset::encode(vocab_size, &tokens, tokens.len() as u64).map_err(|cause| failed(&cause))?;
    let spec = TrainingSpec { batch_sequences, profile, ..TrainingSpec::new(model) };
    let mut trainer = Trainer::new(spec, &data).map_err(|cause| failed(&cause))?;

    trainer.step().map_err(|cause| failed(&cause))?; // the first touches its memory for the first time
    let start = Instant::now();
    let mut tokens = 0;
    while start.elapsed() < MEASURING_TIME {
        tokens += trainer.step().map_err(|cause| failed(&cause))?.loss.tokens;
    }
    Ok((tokens as f64 / start.elapsed().as_secs_f64()) as u32)
}

/// Memory that can be had without swapping, if the system says.
fn available_memory_mib() -> Option<u64> {
    memory_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn memory_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> About {
        About {
            name: name.to_owned(),
            region: "here".to_owned(),
            upload_kib_per_s: 7,
            storage: Some(StorageKind::Dir),
        }
    }

    #[test]
    fn memory_is_read_where_the_system_tells_it() {
        let cases = [
            ("MemTotal:  4096 kB\nMemAvailable:    2048 kB\n", Some(2)),
            ("MemTotal:  4096 kB\n", None),
            ("MemAvailable: many kB\n", None),
            ("", None),
        ];
        for (meminfo, expected) in cases {
            assert_eq!(memory_in(meminfo), expected, "{meminfo:?}");
        }
    }

    #[test]
    fn a_node_measures_itself_in_less_than_a_second() {
        let pool = crate::worker::pool(1).unwrap();
        let start = Instant::now();
        let profile = measure(about("laptop"), 1, MemoryLimit(Some(100)), &pool).unwrap();
        assert!(Profile::ALL.into_iter().all(|one| profile.speeds.of(one) > 0));
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "a loaded machine may take longer, but not so long"
        );
    }

    #[test]
    fn a_name_that_is_too_long_is_refused_before_anything_is_measured() {
        let pool = crate::worker::pool(1).unwrap();
        let message = measure(about(&"x".repeat(65)), 1, MemoryLimit(None), &pool).unwrap_err().to_string();
        assert!(message.contains("hint: choose another name"), "{message}");
    }
}
