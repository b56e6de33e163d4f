//! What was given, and above it what was made again.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::{BlobStore, Digest, StoreError, VerifiedBlob};

/// Rounds for which is kept what was made in them. A contribution that came late is added one round later, and what a replica kept is
/// good for another.
const ROUNDS_KEPT: u32 = 3;

/// Reads the evidence below, keeps in the scratch above, and forgets there what no later round can ask for.
pub(crate) struct Layered<'a> {
    evidence: &'a dyn BlobStore,
    scratch: &'a dyn BlobStore,
    /// What was made, and in which round it was last.
    made: BTreeMap<Digest, u32>,
}

impl<'a> Layered<'a> {
    pub(crate) fn new(evidence: &'a dyn BlobStore, scratch: &'a dyn BlobStore) -> Self {
        Self { evidence, scratch, made: BTreeMap::new() }
    }

    /// Keeps what was made in `round`.
    pub(crate) fn keep_for(&mut self, round: u32, blob: &VerifiedBlob) -> Result<(), StoreError> {
        if !self.evidence.contains(&blob.digest()) {
            self.scratch.keep(blob)?;
            self.made.insert(blob.digest(), round);
        }
        Ok(())
    }

    /// Forgets what was made long before `round`.
    pub(crate) fn tidy(&mut self, round: u32) -> Result<(), StoreError> {
        let is_old = |made_in: &u32| made_in.saturating_add(ROUNDS_KEPT) < round;
        let old: BTreeSet<_> =
            self.made.iter().filter(|(_, made)| is_old(made)).map(|(name, _)| *name).collect();
        for name in old {
            self.scratch.remove(&name)?;
            self.made.remove(&name);
        }
        Ok(())
    }
}

impl BlobStore for Layered<'_> {
    fn get(&self, digest: &Digest) -> Result<VerifiedBlob, StoreError> {
        match self.scratch.get(digest) {
            Err(StoreError::NotFound(_)) => self.evidence.get(digest),
            found => found,
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.scratch.put(bytes)
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.scratch.size(digest).or_else(|| self.evidence.size(digest))
    }

    fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let both = BTreeSet::from_iter(self.evidence.list()?.into_iter().chain(self.scratch.list()?));
        Ok(both.into_iter().collect())
    }

    fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.scratch.remove(digest)
    }
}
