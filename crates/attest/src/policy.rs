//! Who is trusted, and for what.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::Digest;
use zoo_protocol::Message;

use crate::{AttestError, Attestation, Binding, Evidence, Product, SnpTcb, Statement, TcbStatus, intel, snp};

/// Seven days.
const VALID_S_MAX: u64 = 7 * 24 * 3600;

/// What a network accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose signatures count.
    pub roots: Roots,
    /// Accepted software ([`Statement::measurement`]). Empty is any, and then evidence says nothing but that *something* in such
    /// hardware knew the node's key.
    pub measurements: BTreeSet<Digest>,
    /// The worst status of a platform that is accepted.
    pub worst_tcb: TcbStatus,
    /// What is up to date for AMD's processors, who sign no list of it. A processor without an entry is [`TcbStatus::Unjudged`].
    pub snp_least: BTreeMap<Product, SnpTcb>,
    /// How long an attestation counts at most, seconds. Intel's collateral ends after thirty days, AMD's certificates after seven years.
    pub valid_s_max: u64,
}

/// Certificates that every chain has to lead to, DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Intel's.
    pub intel: Vec<u8>,
    /// AMD's, one for each generation of processors (ARK).
    pub amd: Vec<Vec<u8>>,
}

/// What the vendor's signatures show, before anybody asks whether it is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What the hardware stated.
    pub statement: Statement,
    /// Digest of the processor's identity.
    pub platform: Digest,
    /// The platform's firmware.
    pub tcb: Tcb,
    /// First second since 1970 at which all of it is valid.
    pub valid_from_s: u64,
    /// First second at which some of it is not any more.
    pub valid_until_s: u64,
}

/// A platform's firmware, as its vendor speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcb {
    /// Intel says how it stands.
    Intel {
        /// In our words.
        status: TcbStatus,
        /// In Intel's.
        name: String,
        /// Intel's advisories that concern it.
        advisories: Vec<String>,
    },
    /// AMD says which versions it has.
    Amd {
        /// Of which processor.
        product: Product,
        /// The versions that the chip's key stands for.
        versions: SnpTcb,
    },
}

impl Default for Policy {
    /// Any software, on a platform that is up to date, for seven days.
    fn default() -> Self {
        Self {
            roots: Roots::vendors(),
            measurements: BTreeSet::new(),
            worst_tcb: TcbStatus::UpToDate,
            snp_least: BTreeMap::new(),
            valid_s_max: VALID_S_MAX,
        }
    }
}

impl Roots {
    /// Those of the vendors: Intel's for SGX and TDX, AMD's for Milan, Genoa (with Bergamo and Siena) and Turin.
    pub fn vendors() -> Self {
        let amd: [&[u8]; 3] = [
            include_bytes!("../roots/ark-milan.der"),
            include_bytes!("../roots/ark-genoa.der"),
            include_bytes!("../roots/ark-turin.der"),
        ];
        let intel = include_bytes!("../roots/intel-sgx-root.der").to_vec();
        Self { intel, amd: amd.map(<[u8]>::to_vec).to_vec() }
    }
}

/// What the vendor's signatures over the evidence show at `now_s`, seconds since 1970. Whose statement it is, and whether it is enough, is not
/// asked; debugging is refused.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(evidence: &Evidence, now_s: u64, roots: &Roots) -> Result<Claims, AttestError> {
    evidence.validate()?;
    if evidence.statement()?.debug {
        return Err(AttestError::Debug);
    }
    let claims = match evidence {
        Evidence::Intel(evidence) => intel::check(evidence, now_s, &roots.intel)?,
        Evidence::Amd(evidence) => snp::check(evidence, &roots.amd)?,
    };
    claims.are_valid_at(now_s)?;
    Ok(claims)
}

/// Whether the evidence shows at `now_s`, seconds since 1970, that the node runs what the policy accepts.
///
/// # Errors
/// The first thing that does not hold, or is not accepted.
pub fn verify(
    evidence: &Evidence,
    binding: &Binding,
    now_s: u64,
    policy: &Policy,
) -> Result<Attestation, AttestError> {
    let claims = check(evidence, now_s, &policy.roots)?;
    claims.statement.is_bound_to(binding)?;
    let (measurement, tcb) = policy.accept(&claims)?;
    Ok(Attestation {
        kind: claims.statement.kind,
        measurement,
        platform: claims.platform,
        tcb,
        valid_until_s: claims.valid_until_s.min(now_s.saturating_add(policy.valid_s_max)),
        evidence: evidence.digest(),
    })
}

impl Claims {
    fn are_valid_at(&self, now_s: u64) -> Result<(), AttestError> {
        let (from_s, until_s) = (self.valid_from_s, self.valid_until_s);
        match (from_s..until_s).contains(&now_s) {
            true => Ok(()),
            false => Err(AttestError::Expired { from_s, until_s, now_s }),
        }
    }
}

impl Policy {
    /// The measurement and the platform's status, if both are accepted.
    ///
    /// # Errors
    /// What is not.
    pub fn accept(&self, claims: &Claims) -> Result<(Digest, TcbStatus), AttestError> {
        let measurement = claims.statement.measurement();
        if !self.measurements.is_empty() && !self.measurements.contains(&measurement) {
            return Err(AttestError::Measurement(measurement));
        }
        let (status, worst) = (self.status(&claims.tcb), self.worst_tcb);
        if status > worst {
            return Err(AttestError::Tcb { status, worst });
        }
        Ok((measurement, status))
    }

    /// How the platform stands.
    pub fn status(&self, tcb: &Tcb) -> TcbStatus {
        match tcb {
            Tcb::Intel { status, .. } => *status,
            Tcb::Amd { product, versions } => match self.snp_least.get(product) {
                None => TcbStatus::Unjudged,
                Some(least) if versions.are_at_least(least) => TcbStatus::UpToDate,
                Some(_) => TcbStatus::OutOfDate,
            },
        }
    }
}
