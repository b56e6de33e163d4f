//! What a vendor of processors vouches for about a node, as far as the network goes by it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::{Message, WireError};

/// What came of checking a node's evidence (`zoo_attest::verify`): small, of one encoding, fit for a journal.
///
/// It lowers how often a node's work is checked, never to zero, and ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The kind of hardware.
    pub kind: TeeKind,
    /// Digest of what the hardware measured: the software that was started.
    pub measurement: Digest,
    /// Digest of the processor's identity: two nodes with the same one share a machine.
    pub platform: Digest,
    /// Whether the platform's firmware is up to date.
    pub tcb: TcbStatus,
    /// First second since 1970 at which it means nothing any more.
    pub valid_until_s: u64,
    /// Digest of the evidence as it was checked, so that anybody who has it can check it again.
    pub evidence: Digest,
}

impl Attestation {
    /// Whether it still means anything.
    pub fn is_valid_at(&self, now_s: u64) -> bool {
        now_s < self.valid_until_s
    }
}

impl Message for Attestation {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

/// A kind of trusted execution environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    /// An enclave of Intel SGX: part of a process.
    Sgx,
    /// A trust domain of Intel TDX: a virtual machine.
    Tdx,
    /// A guest of AMD SEV-SNP: a virtual machine.
    SevSnp,
}

impl TeeKind {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::SevSnp => "sev-snp",
        }
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the platform's firmware and microcode (its trusted computing base) stand, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcbStatus {
    /// Everything that is known against it is mended: as Intel's signed list says, or, for AMD, at least the versions that were asked for.
    UpToDate,
    /// Its versions are new enough, but its settings, or the software in it, have to do something more, and nobody says that they did.
    ConfigurationNeeded,
    /// Nobody said what would be new enough: AMD signs no such list, and none was asked for.
    Unjudged,
    /// Something is known against it that newer versions mend.
    OutOfDate,
}

impl TcbStatus {
    /// Every status, best first.
    pub const ALL: [Self; 4] = [Self::UpToDate, Self::ConfigurationNeeded, Self::Unjudged, Self::OutOfDate];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::ConfigurationNeeded => "configuration-needed",
            Self::Unjudged => "unjudged",
            Self::OutOfDate => "out-of-date",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no status of a platform\nhint: up-to-date, configuration-needed, unjudged or out-of-date, from best to worst"
)]
pub struct ParseTcbStatusError(String);

impl FromStr for TcbStatus {
    type Err = ParseTcbStatusError;

    fn from_str(text: &str) -> Result<Self, ParseTcbStatusError> {
        let status = Self::ALL.into_iter().find(|status| status.name() == text);
        status.ok_or_else(|| ParseTcbStatusError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn an_attestation_is_journalled_as_it_is() {
        let attestation = Attestation {
            kind: TeeKind::SevSnp,
            measurement: Digest::of(b"software"),
            platform: Digest::of(b"chip"),
            tcb: TcbStatus::UpToDate,
            valid_until_s: 1_800_000_000,
            evidence: Digest::of(b"evidence"),
        };
        assert_eq!(decode(&encode(&attestation)), Ok(attestation));
        assert!(encode(&attestation).len() < 128, "it is small");
    }

    #[test]
    fn an_attestation_ends_by_itself() {
        let [measurement, platform, evidence] = [Digest::of(b""); 3];
        let (kind, tcb) = (TeeKind::Tdx, TcbStatus::UpToDate);
        let attestation = Attestation { kind, measurement, platform, tcb, valid_until_s: 100, evidence };
        assert!(attestation.is_valid_at(99));
        assert!(!attestation.is_valid_at(100));
    }

    #[test]
    fn a_status_is_written_as_it_is_read() {
        for status in TcbStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        assert!("fine".parse::<TcbStatus>().is_err());
    }
}
