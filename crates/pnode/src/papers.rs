//! What a node shows of itself, so that it is checked less: an operator's word, and what its hardware vouches for.
//!
//! A credential ends within days; whoever replaces the file need not start the node again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zoo_content::Digest;
use zoo_protocol::{Credential, Declaration, Sealed, ToOrchestrator, limits};

/// The files, and what of them this conversation has shown.
#[derive(Debug, Default)]
pub(crate) struct Papers {
    credential: Option<PathBuf>,
    evidence: Option<PathBuf>,
    /// Digest of the software that runs here, if that is known.
    binary: Option<Digest>,
    /// The bytes of the credential that was shown, or could not be.
    seen: Option<Vec<u8>>,
    has_shown_evidence: bool,
    /// The last trouble: it is told once.
    trouble: Option<String>,
}

impl Papers {
    pub(crate) fn new(
        credential: Option<PathBuf>,
        evidence: Option<PathBuf>,
        binary: Option<Digest>,
    ) -> Self {
        Self { credential, evidence, binary, ..Self::default() }
    }

    /// A conversation begins, in which nothing has been shown.
    pub(crate) fn begin(&mut self) {
        (self.seen, self.has_shown_evidence, self.trouble) = (None, false, None);
    }

    /// What to show next, if anything is new.
    pub(crate) fn next(&mut self) -> Result<Option<ToOrchestrator>, String> {
        let found = match self.new_evidence() {
            Ok(None) => self.new_credential(),
            found => found,
        };
        found.or_else(|cause| {
            let is_news = self.trouble.as_ref() != Some(&cause);
            self.trouble = Some(cause.clone());
            if is_news { Err(cause) } else { Ok(None) }
        })
    }

    fn new_evidence(&mut self) -> Result<Option<ToOrchestrator>, String> {
        let Some(path) = self.evidence.as_ref().filter(|_| !self.has_shown_evidence) else { return Ok(None) };
        self.has_shown_evidence = true;
        Ok(Some(ToOrchestrator::Evidence(read(path, limits::MAX_EVIDENCE_BYTES)?)))
    }

    fn new_credential(&mut self) -> Result<Option<ToOrchestrator>, String> {
        let Some(path) = &self.credential else { return Ok(None) };
        let bytes = read(path, 2 * limits::MAX_DECLARATION_BYTES)?;
        if self.seen.as_ref() == Some(&bytes) {
            return Ok(None);
        }
        let declaration = Declaration::from_file(&bytes);
        self.seen = Some(bytes);
        let shown = path.display();
        match declaration.map_err(|cause| format!("{shown}: {cause}"))? {
            Declaration::Credential(sealed) if !self.is_for_this_build(&sealed) => Err(format!(
                "{shown} is for another build of zoo than the one that runs here\nhint: the operator issues one for this one"
            )),
            declaration @ Declaration::Credential(_) => {
                Ok(Some(ToOrchestrator::Declare(Box::new(declaration))))
            }
            _ => Err(format!("{shown} is no credential\nhint: zoo operator issue writes one")),
        }
    }
}

impl Papers {
    /// What cannot be read is for the orchestrator to refuse, with its reason.
    fn is_for_this_build(&self, sealed: &Sealed<Credential>) -> bool {
        let named = sealed.open().ok().map(|credential| credential.build.binary);
        self.binary.is_none() || named.is_none() || self.binary == named
    }
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let failed = |cause: std::io::Error| format!("cannot read {}: {cause}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(most as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        return Err(format!("{} is larger than {most} bytes\nhint: is it the right file?", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use zoo_protocol::{Build, NodeId, NodeKey, Retirement};

    use super::*;

    fn credential(valid_from_s: u64) -> Declaration {
        let build = Build { binary: Digest::of(b"zoo"), version: "0".into(), target: "any".into() };
        let (network, node) = (NodeId([1; 32]), NodeId([2; 32]));
        let valid_until_s = valid_from_s + 100_000;
        let credential = Credential { network, node, build, valid_from_s, valid_until_s };
        Declaration::Credential(Sealed::seal(&credential, &NodeKey::from_seed([3; 32])))
    }

    #[test]
    fn each_paper_is_shown_once_a_conversation_and_a_newer_credential_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (first, evidence) = (folder.path().join("credential"), folder.path().join("evidence"));
        fs::write(&first, credential(1).to_file()).unwrap();
        fs::write(&evidence, b"evidence").unwrap();
        let mut papers = Papers::new(Some(first.clone()), Some(evidence), Some(Digest::of(b"zoo")));
        for _ in 0..2 {
            papers.begin();
            assert_eq!(papers.next(), Ok(Some(ToOrchestrator::Evidence(b"evidence".to_vec()))));
            assert_eq!(papers.next(), Ok(Some(ToOrchestrator::Declare(credential(1).into()))));
            assert_eq!(papers.next(), Ok(None));
        }
        fs::write(&first, credential(2).to_file()).unwrap();
        assert_eq!(papers.next(), Ok(Some(ToOrchestrator::Declare(credential(2).into()))));
        assert_eq!(papers.next(), Ok(None));
    }

    #[test]
    fn a_paper_that_is_none_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        let mut papers = Papers::new(Some(path.clone()), None, Some(Digest::of(b"other")));
        let retirement = Retirement::declare(NodeId([1; 32]), &NodeKey::from_seed([3; 32])).to_file();
        let long = vec![0; 2 * limits::MAX_DECLARATION_BYTES + 1];
        let other = credential(1).to_file();
        for (bytes, cause) in [
            (&b"nonsense"[..], "hint: "),
            (&other, "another build"),
            (&retirement, "is no credential"),
            (&long, "larger"),
        ] {
            fs::write(&path, bytes).unwrap();
            assert!(papers.next().unwrap_err().contains(cause));
            assert_eq!(papers.next(), Ok(None), "{cause}");
        }
        fs::remove_file(&path).unwrap();
        assert!(papers.next().unwrap_err().contains("cannot read"));
    }
}
