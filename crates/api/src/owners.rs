//! Who submitted which job over HTTP, so that a key may cancel what it submitted.
//!
//! The file beside the journal names keys by their digests, as the file of the keys does. It is no part of the network's history: who
//! loses it loses no more than that only keys which may manage cancel the jobs of before.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::JobId;

use crate::keys::{KeysError, private_file};

/// The file's name in the orchestrator's directory.
const FILE: &str = "job-owners.json";
/// Jobs whose owner is known; of more, the newest.
const OWNED_MAX: usize = 1024;
/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The owners of the newest jobs.
#[derive(Debug)]
pub(crate) struct Owners {
    path: PathBuf,
    jobs: Mutex<VecDeque<Owned>>,
}

/// A job and the digest of the key that submitted it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owned {
    job: JobId,
    key: Digest,
}

impl Owners {
    /// Those of the orchestrator in `directory`; none if there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is something else.
    pub(crate) fn open(directory: &Path) -> Result<Self, KeysError> {
        let path = directory.join(FILE);
        let fail = |cause: &dyn ToString| KeysError::File {
            what: "read",
            path: path.clone(),
            cause: cause.to_string(),
        };
        let jobs = match fs::metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => VecDeque::new(),
            Err(cause) => return Err(fail(&cause)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Err(fail(&"it is too large")),
            Ok(_) => {
                let bytes = fs::read(&path).map_err(|cause| fail(&cause))?;
                serde_json::from_slice(&bytes).map_err(|cause| fail(&cause))?
            }
        };
        Ok(Self { path, jobs: Mutex::new(jobs) })
    }

    /// Whether this key submitted the job.
    pub(crate) fn owns(&self, key: &Digest, job: &JobId) -> bool {
        let jobs = self.jobs.lock().expect("looking does not panic");
        jobs.iter().any(|owned| owned.job == *job && owned.key == *key)
    }

    /// The job is this key's from now on.
    ///
    /// # Errors
    /// A file that cannot be written; until the next start it counts all the same.
    pub(crate) fn set(&self, job: JobId, key: Digest) -> std::io::Result<()> {
        let mut jobs = self.jobs.lock().expect("looking does not panic");
        jobs.retain(|owned| owned.job != job);
        jobs.push_back(Owned { job, key });
        if jobs.len() > OWNED_MAX {
            jobs.pop_front();
        }
        let unfinished = self.path.with_extension("unfinished");
        let mut file = private_file(&unfinished)?;
        file.write_all(&serde_json::to_vec(&*jobs)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_owner_who_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other, job) = (Digest::of(b"one"), Digest::of(b"other"), Digest::of(b"job"));
        let owners = Owners::open(directory.path()).unwrap();
        assert!(!owners.owns(&one, &job));
        owners.set(job, one).unwrap();
        owners.set(job, other).unwrap();
        let again = Owners::open(directory.path()).unwrap();
        assert_eq!((again.owns(&one, &job), again.owns(&other, &job)), (false, true));
        for at in 0..OWNED_MAX as u64 {
            again.jobs.lock().unwrap().push_back(Owned { job: Digest::of(&at.to_le_bytes()), key: one });
        }
        again.jobs.lock().unwrap().pop_front();
        again.set(Digest::of(b"newest"), one).unwrap();
        assert_eq!(again.jobs.lock().unwrap().len(), OWNED_MAX, "what is remembered is bounded");
        assert!(fs::metadata(directory.path().join(FILE)).unwrap().len() < FILE_BYTES_MAX);
        fs::write(directory.path().join(FILE), "[{").unwrap();
        assert!(matches!(Owners::open(directory.path()), Err(KeysError::File { what: "read", .. })));
    }
}
