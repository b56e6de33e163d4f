//! Text that is read while a person watches.

use std::num::NonZeroUsize;

use zoo_data::Progress as Step;
use zoo_job::Reading;

use crate::progress::{Progress, count};

/// What `read` makes of text that it reads on all threads, with progress on stderr.
pub fn watched<T>(quiet: bool, read: impl FnOnce(&mut Reading<'_>) -> T) -> T {
    let mut shown = Progress::start(0, quiet);
    let mut progress = |step| shown.update(0, || describe(step));
    read(&mut Reading { threads: available_threads(), progress: &mut progress })
}

/// Threads that this machine offers.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn describe(step: Step) -> String {
    match step {
        Step::Reading => "reading text".to_owned(),
        Step::TrainingTokenizer { bytes } => format!("training a tokenizer on {} bytes", count(bytes as f64)),
        Step::Tokenising { done, total } => {
            format!("cutting text into tokens: {} of {} bytes", count(done as f64), count(total as f64))
        }
    }
}
