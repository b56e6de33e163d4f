//! A guest's report (56860, table 23), versions 2 to 5.

use super::{Product, SnpTcb, chain};
use crate::{AttestError, REPORT_DATA_BYTES, Register, Statement, TeeKind};

/// Bytes of a report.
pub const REPORT_BYTES: usize = 0x4A0;
const SIGNED_BYTES: usize = 0x2A0;
/// Bytes of each number of a signature, little-endian; a number of P-384 takes 48 of them.
const NUMBER_BYTES: usize = 72;

const POLICY_MIGRATION_AGENT: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
const ECDSA_P384_SHA384: u32 = 1;
/// Bits 2 to 4 of the key's description: 0 is the chip's own key, 1 one that a cloud keeps (VLEK).
const SIGNING_KEY: u32 = 0b111 << 2;

/// A report of the right size.
pub struct Report<'a>(&'a [u8; REPORT_BYTES]);

impl<'a> Report<'a> {
    /// Reads one.
    pub fn read(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let malformed = |cause: String| AttestError::Malformed { what: "the report", cause };
        let sized = bytes.try_into();
        let report =
            Self(sized.map_err(|_| malformed(format!("it has {} bytes, not {REPORT_BYTES}", bytes.len())))?);
        match report.u32_at(0) {
            2..=5 => Ok(report),
            version => Err(malformed(format!("it is of version {version}; 2 to 5 are known"))),
        }
    }

    /// What it says.
    pub fn statement(&self) -> Statement {
        Statement {
            kind: TeeKind::SevSnp,
            registers: vec![
                Register::new("measurement", self.at::<48>(0x90)),
                Register::new("host_data", self.at::<32>(0xC0)),
            ],
            report_data: *self.at::<REPORT_DATA_BYTES>(0x50),
            debug: self.policy() & POLICY_DEBUG != 0,
        }
    }

    /// Whether the guest is closed to everybody but itself, and the report is by its innermost part, under the chip's own key.
    pub fn is_closed(&self) -> Result<(), AttestError> {
        if self.policy() & POLICY_MIGRATION_AGENT != 0 {
            return Err(AttestError::Open("the guest may be moved to another machine by an agent outside"));
        }
        if self.u32_at(0x30) != 0 {
            return Err(AttestError::Open(
                "the report was asked for by a part of the guest that others control (VMPL above 0)",
            ));
        }
        if self.u32_at(0x34) != ECDSA_P384_SHA384 || self.u32_at(0x48) & SIGNING_KEY != 0 {
            return Err(AttestError::Open("the report is not signed with the chip's own key (VCEK)"));
        }
        Ok(())
    }

    /// What is signed.
    pub fn signed(&self) -> &[u8] {
        &self.0[..SIGNED_BYTES]
    }

    /// The signature's two numbers, big-endian.
    pub fn signature(&self) -> Result<[u8; 96], AttestError> {
        let (numbers, reserved) = self.0[SIGNED_BYTES..].split_at(2 * NUMBER_BYTES);
        let mut signature = [0; 96];
        let mut rest = reserved.to_vec();
        for (number, written) in signature.chunks_exact_mut(48).zip(numbers.chunks_exact(NUMBER_BYTES)) {
            let (value, above) = written.split_at(48);
            number.iter_mut().zip(value.iter().rev()).for_each(|(to, from)| *to = *from);
            rest.extend(above);
        }
        match rest.iter().all(|byte| *byte == 0) {
            true => Ok(signature),
            false => Err(chain("the report", "something is written where nothing may be")),
        }
    }

    /// The versions of firmware that its key stands for.
    pub fn reported_tcb(&self, product: Product) -> SnpTcb {
        SnpTcb::of_bytes(product, self.at(0x180))
    }

    /// Whether it is of this chip: newer chips have shorter identities, with zeros behind.
    pub fn is_of_chip(&self, chip: &[u8]) -> bool {
        let written = self.at::<64>(0x1A0);
        written.strip_prefix(chip).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }

    fn policy(&self) -> u64 {
        u64::from_le_bytes(*self.at(8))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.at(at))
    }

    fn at<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.0[at..].first_chunk().expect("every field lies within a report")
    }
}
