//! What vendors published, and two authorities of our own that sign the same formats, so that acceptance can be shown as well.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod amd;
pub mod intel;

use zoo_attest::{AttestError, Attestation, Binding, Evidence, Policy, TcbStatus, verify};
use zoo_protocol::NodeKey;

/// What a vendor's own software once made, and when it was valid.
pub struct Sample {
    pub name: &'static str,
    pub evidence: Evidence,
    pub now_s: u64,
    pub status: TcbStatus,
}

/// Every sample: from the crates `dcap-qvl` (MIT) and `sev` (Apache-2.0).
pub fn samples() -> Vec<Sample> {
    let sample = |name, evidence: Result<Evidence, AttestError>, now_s, status| Sample {
        name,
        evidence: evidence.unwrap_or_else(|cause| panic!("{name}: {cause}")),
        now_s,
        status,
    };
    vec![
        sample("sgx", intel::sample("sgx"), 1_750_500_000, TcbStatus::ConfigurationNeeded),
        sample("tdx", intel::sample("tdx"), 1_750_500_000, TcbStatus::UpToDate),
        sample("tdx_td15ex", intel::sample("tdx_td15ex"), 1_792_000_000, TcbStatus::UpToDate),
        sample("milan", Ok(amd::sample()), 1_750_500_000, TcbStatus::Unjudged),
    ]
}

/// A node of a network.
pub fn binding() -> Binding {
    Binding { network: NodeKey::from_seed([1; 32]).id(), node: NodeKey::from_seed([2; 32]).id() }
}

/// Accepts any platform that the roots vouch for.
pub fn lenient() -> Policy {
    Policy { worst_tcb: TcbStatus::OutOfDate, ..Policy::default() }
}

/// Changes one byte after the other, every `stride`th. Each time the evidence has to be refused, or to come to the very same attestation: there are
/// bytes that say nothing, as the frame around a certificate in text. Returns how many said nothing.
pub fn tamper(
    now_s: u64,
    policy: &Policy,
    evidence: &Evidence,
    part: impl Fn(&mut Evidence) -> &mut [u8],
    stride: usize,
) -> usize {
    let said = |evidence: &Evidence| -> Result<Attestation, AttestError> {
        let attestation = verify(evidence, &binding(), now_s, policy)?;
        Ok(Attestation { evidence: zoo_content::Digest::of(b""), ..attestation })
    };
    let honest = said(evidence).expect("what is not tampered with is accepted");
    let mut evidence = evidence.clone();
    let length = part(&mut evidence).len();
    let mut nothing = 0;
    for at in (0..length).step_by(stride) {
        let bit = 1 << (at % 8);
        part(&mut evidence)[at] ^= bit;
        match said(&evidence) {
            Ok(attestation) => {
                assert_eq!(attestation, honest, "byte {at} of {length}: it now says something else");
                nothing += 1;
            }
            Err(AttestError::Expired { .. }) => panic!("byte {at} of {length}: a change is taken for age"),
            Err(_) => {}
        }
        part(&mut evidence)[at] ^= bit;
    }
    nothing
}
