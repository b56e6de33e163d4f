//! What the hardware states about the software inside.

use zoo_content::Digest;

use crate::{AttestError, Binding, REPORT_DATA_BYTES, TeeKind};

/// What a quote or report says. Whether the hardware said so is another question, which [`crate::check`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The kind of hardware.
    pub kind: TeeKind,
    /// What was measured, in the order in which it goes into [`Statement::measurement`].
    pub registers: Vec<Register>,
    /// What the software had signed.
    pub report_data: [u8; REPORT_DATA_BYTES],
    /// Whether it was started for debugging.
    pub debug: bool,
}

/// A measurement under the vendor's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The vendor's name, in lower case.
    pub name: &'static str,
    /// 32, 48 or 64 bytes.
    pub bytes: Vec<u8>,
}

impl Register {
    pub(crate) fn new(name: &'static str, bytes: &[u8]) -> Self {
        Self { name, bytes: bytes.to_vec() }
    }
}

impl Statement {
    /// One digest for the software and everything that was said to it when it was started: BLAKE3 of `zoo/measurement/1`, a zero byte, the kind's
    /// name, a zero byte, and
    ///
    /// | kind | registers |
    /// |---|---|
    /// | SGX | MRENCLAVE, CONFIGID |
    /// | TDX | MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0 to RTMR3 |
    /// | SEV-SNP | MEASUREMENT, HOST_DATA |
    pub fn measurement(&self) -> Digest {
        let mut bytes = [b"zoo/measurement/1\0", self.kind.name().as_bytes(), b"\0"].concat();
        self.registers.iter().for_each(|register| bytes.extend(&register.bytes));
        Digest::of(&bytes)
    }

    /// Whether it is about this node: what the software had signed is what the node's key demands, to the last byte.
    ///
    /// # Errors
    /// [`AttestError::Foreign`].
    pub fn is_bound_to(&self, binding: &Binding) -> Result<(), AttestError> {
        let Binding { network, node } = *binding;
        match self.report_data == binding.report_data() {
            true => Ok(()),
            false => Err(AttestError::Foreign { node, network }),
        }
    }
}
