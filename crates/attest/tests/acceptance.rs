//! The whole path with authorities of our own: what is right is accepted, and every single thing that is not is refused.

mod common;

use std::collections::BTreeSet;

use common::amd::replace;
use common::{amd, binding, intel, tamper};
use zoo_attest::{AttestError, Binding, Evidence, Policy, TcbStatus, TeeKind, check, verify};
use zoo_content::Digest;

/// In June 2025, when all certificates and collateral of the tests are valid.
const NOW_S: u64 = 1_750_500_000;

/// Evidence of every kind that is right, with the policy that trusts who signed it.
fn right() -> [(Evidence, Policy); 3] {
    let (amd, intel) = (amd::Authority::new(), intel::Authority::new());
    [
        (intel.evidence_with("sgx", |_| {}), intel.policy()),
        (intel.evidence_with("tdx", |_| {}), intel.policy()),
        (amd.evidence(), amd.policy()),
    ]
}

#[test]
fn evidence_about_the_node_is_accepted() {
    let kinds = [TeeKind::Sgx, TeeKind::Tdx, TeeKind::SevSnp];
    for ((evidence, policy), kind) in right().into_iter().zip(kinds) {
        let attestation = verify(&evidence, &binding(), NOW_S, &policy).expect("it is right");
        assert_eq!(attestation.kind, kind);
        assert_eq!(attestation.measurement, evidence.statement().unwrap().measurement());
        assert_eq!(attestation.evidence, Digest::of(&evidence.to_bytes()));
        assert!(attestation.is_valid_at(NOW_S) && attestation.valid_until_s <= NOW_S + policy.valid_s_max);
    }
}

#[test]
fn evidence_that_travels_stays_what_it_is() {
    for (evidence, policy) in right() {
        let arrived = Evidence::from_bytes(&evidence.to_bytes()).unwrap();
        assert_eq!(
            verify(&arrived, &binding(), NOW_S, &policy),
            verify(&evidence, &binding(), NOW_S, &policy)
        );
    }
}

#[test]
fn evidence_ends_with_its_collateral_or_sooner() {
    for (evidence, policy) in right() {
        let until_s = check(&evidence, NOW_S, &policy.roots).unwrap().valid_until_s;
        let until = |now_s, valid_s_max| {
            let policy = Policy { valid_s_max, ..policy.clone() };
            verify(&evidence, &binding(), now_s, &policy).unwrap().valid_until_s
        };
        assert_eq!(until(NOW_S, 3600), NOW_S + 3600);
        assert_eq!(until(NOW_S, u64::MAX), until_s);
        assert_eq!(until(until_s - 10, 3600), until_s);
        let late = verify(&evidence, &binding(), until_s, &policy);
        assert!(matches!(late, Err(AttestError::Expired { .. })), "{late:?}");
    }
}

#[test]
fn evidence_about_another_node_or_network_is_foreign() {
    for (evidence, policy) in right() {
        let Binding { network, node } = binding();
        for other in [Binding { network, node: network }, Binding { network: node, node }] {
            let refused = verify(&evidence, &other, NOW_S, &policy);
            assert!(matches!(refused, Err(AttestError::Foreign { .. })), "{refused:?}");
        }
    }
}

#[test]
fn one_bit_of_other_report_data_is_foreign() {
    let authority = amd::Authority::new();
    for at in 0x50..0x90 {
        let evidence = authority.evidence_with(|report| report[at] ^= 1, |_| {}, |_| {});
        let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
        assert!(matches!(refused, Err(AttestError::Foreign { .. })), "byte {at}: {refused:?}");
    }
}

#[test]
fn only_accepted_software_is_accepted() {
    for (evidence, policy) in right() {
        let measurement = evidence.statement().unwrap().measurement();
        let with = |measurements: &[Digest]| {
            let measurements: BTreeSet<Digest> = measurements.iter().copied().collect();
            verify(&evidence, &binding(), NOW_S, &Policy { measurements, ..policy.clone() })
        };
        assert!(with(&[measurement, Digest::of(b"other")]).is_ok());
        assert_eq!(with(&[Digest::of(b"other")]), Err(AttestError::Measurement(measurement)));
    }
}

#[test]
fn other_software_has_another_measurement() {
    let (amd, intel) = (amd::Authority::new(), intel::Authority::new());
    let (sgx, tdx) = (intel.evidence_with("sgx", |_| {}), intel.evidence_with("tdx", |_| {}));
    let snp = amd.evidence();
    let measured = |evidence: &Evidence| evidence.statement().unwrap().measurement();
    // MRENCLAVE, and CONFIGID.
    for at in [64, 64 + 128 + 40] {
        let other = intel.evidence_with("sgx", |report| report[at] ^= 1);
        assert_ne!(measured(&other), measured(&sgx), "byte {at}");
    }
    // MRTD, MRCONFIGID, and the first and the last run-time register.
    for at in [136, 184, 328, 472] {
        let other = intel.evidence_with("tdx", |report| report[at] ^= 1);
        assert_ne!(measured(&other), measured(&tdx), "byte {at}");
    }
    // The launch measurement, and what the host said to it.
    for at in [0x90, 0xBF, 0xC0, 0xDF] {
        let other = amd.evidence_with(|report| report[at] ^= 1, |_| {}, |_| {});
        assert_ne!(measured(&other), measured(&snp), "byte {at}");
    }
}

#[test]
fn a_platform_that_is_not_good_enough_is_refused() {
    let [(sgx, policy), _, (snp, amd)] = right();
    for (evidence, policy, status) in
        [(sgx, policy, TcbStatus::ConfigurationNeeded), (snp, amd, TcbStatus::Unjudged)]
    {
        let with = |worst_tcb| {
            let policy = Policy { worst_tcb, ..policy.clone() };
            verify(&evidence, &binding(), NOW_S, &policy).map(|attestation| attestation.tcb)
        };
        let worst = TcbStatus::UpToDate;
        assert_eq!(with(worst), Err(AttestError::Tcb { status, worst }));
        assert_eq!(with(status), Ok(status));
    }
}

#[test]
fn whoever_can_be_looked_into_is_refused() {
    let (amd, intel) = (amd::Authority::new(), intel::Authority::new());
    // Bit 1 of an enclave's attributes, every bit of the first byte of a domain's, bit 19 of a guest's policy.
    let enclave = intel.evidence_with("sgx", |report| report[48] |= 2);
    let domains = (0..8).map(|bit| intel.evidence_with("tdx", move |report| report[120] |= 1 << bit));
    for evidence in domains.chain([enclave]) {
        assert_eq!(verify(&evidence, &binding(), NOW_S, &intel.policy()), Err(AttestError::Debug));
    }
    let guest = amd.evidence_with(|report| report[8 + 2] |= 1 << 3, |_| {}, |_| {});
    assert_eq!(verify(&guest, &binding(), NOW_S, &amd.policy()), Err(AttestError::Debug));
}

#[test]
fn whoever_is_not_closed_is_refused() {
    let (amd, intel) = (amd::Authority::new(), intel::Authority::new());
    // A migration agent, a report asked for at VMPL 1, another algorithm, a key that a cloud keeps.
    for (at, bits) in [(8 + 2, 1 << 2), (0x30, 1), (0x34, 3), (0x48, 1 << 2)] {
        let evidence = amd.evidence_with(move |report| report[at] ^= bits, |_| {}, |_| {});
        let refused = verify(&evidence, &binding(), NOW_S, &amd.policy());
        assert!(matches!(refused, Err(AttestError::Open(_))), "byte {at}: {refused:?}");
    }
    // A domain that migrates.
    let domain = intel.evidence_with("tdx", |report| report[120 + 3] |= 1 << 5);
    let refused = verify(&domain, &binding(), NOW_S, &intel.policy());
    assert!(matches!(refused, Err(AttestError::Chain { .. })), "{refused:?}");
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let authority = amd::Authority::new();
    let until_2024 = |der: &mut Vec<u8>| replace(der, b"300403192343Z", b"240403192343Z");
    let evidence = authority.evidence_with(|_| {}, |_| {}, until_2024);
    let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
    assert!(matches!(refused, Err(AttestError::Expired { until_s: 1_712_172_224, .. })), "{refused:?}");

    let from_2044 = |der: &mut Vec<u8>| replace(der, b"201022182420Z", b"441022182420Z");
    let evidence = authority.evidence_with(|_| {}, from_2044, |_| {});
    let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
    assert!(matches!(refused, Err(AttestError::Expired { from_s: 2_360_773_460, .. })), "{refused:?}");
}

#[test]
fn the_report_has_to_be_of_the_chip_and_firmware_that_the_certificate_names() {
    let authority = amd::Authority::new();
    // Another chip; older firmware than the certificate's; a signature that hides something.
    for at in [0x1A0, 0x180, 0x187] {
        let evidence = authority.evidence_with(move |report| report[at] ^= 1, |_| {}, |_| {});
        let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
        assert!(matches!(refused, Err(AttestError::Chain { .. })), "byte {at}: {refused:?}");
    }
    let other_product = |der: &mut Vec<u8>| replace(der, b"Milan-B0", b"Paris-B0");
    let evidence = authority.evidence_with(|_| {}, |_| {}, other_product);
    let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
    assert!(matches!(refused, Err(AttestError::Chain { .. })), "{refused:?}");
}

#[test]
fn a_chip_signs_no_chips() {
    // The chip's certificate in the place of the one that signs chips.
    let authority = amd::Authority::new();
    let Evidence::Amd(right) = authority.evidence() else { panic!("it is AMD's") };
    let evidence = Evidence::amd(&right.report, &right.vcek, &right.vcek).unwrap();
    let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
    assert!(matches!(refused, Err(AttestError::Chain { .. })), "{refused:?}");
    // An intermediate that may not sign others: `CA:TRUE` made `CA:FALSE` would be shorter, so its path length goes to 1.
    let longer_path = |der: &mut Vec<u8>| {
        replace(der, &[0x01, 0x01, 0xFF, 0x02, 0x01, 0x00], &[0x01, 0x01, 0xFF, 0x02, 0x01, 0x01])
    };
    let evidence = authority.evidence_with(|_| {}, longer_path, |_| {});
    let refused = verify(&evidence, &binding(), NOW_S, &authority.policy());
    assert!(matches!(refused, Err(AttestError::Chain { .. })), "{refused:?}");
}

#[test]
fn two_nodes_on_one_machine_have_the_same_platform() {
    let [(sgx, intel), _, (snp, amd)] = right();
    let platform =
        |evidence: &Evidence, policy: &Policy| verify(evidence, &binding(), NOW_S, policy).unwrap().platform;
    let authority = amd::Authority::new();
    let again = authority.evidence_with(|report| report[0x90] ^= 1, |_| {}, |_| {});
    assert_eq!(platform(&snp, &amd), platform(&again, &amd));
    assert_ne!(platform(&snp, &amd), platform(&sgx, &intel));
    // Another chip, in report and certificate.
    let chip = [0xD4, 0x95, 0x54, 0xEC];
    let other = |bytes: &mut Vec<u8>| replace(bytes, &chip, &[1, 2, 3, 4]);
    let other = authority.evidence_with(other, |_| {}, other);
    assert_ne!(platform(&snp, &amd), platform(&other, &amd));
}

#[test]
fn no_byte_of_a_report_or_its_certificates_can_be_changed() {
    let [_, _, (evidence, policy)] = right();
    fn amd(evidence: &mut Evidence) -> &mut zoo_attest::SnpEvidence {
        let Evidence::Amd(evidence) = evidence else { panic!("it is AMD's") };
        evidence
    }
    assert_eq!(tamper(NOW_S, &policy, &evidence, |evidence| &mut amd(evidence).report, 1), 0);
    assert_eq!(tamper(NOW_S, &policy, &evidence, |evidence| &mut amd(evidence).ask, 1), 0);
    assert_eq!(tamper(NOW_S, &policy, &evidence, |evidence| &mut amd(evidence).vcek, 1), 0);
}

#[test]
fn no_byte_of_a_quote_or_its_collateral_can_be_changed_to_say_something_else() {
    let [(sgx, policy), (tdx, _), _] = right();
    fn intel(evidence: &mut Evidence) -> &mut zoo_attest::QuoteEvidence {
        let Evidence::Intel(evidence) = evidence else { panic!("it is Intel's") };
        evidence
    }
    for mut evidence in [sgx, tdx] {
        // Until its certificates every byte counts; those are text, whose frame says nothing.
        let begin = b"-----BEGIN";
        let quote = &intel(&mut evidence).quote;
        let text =
            quote.windows(begin.len()).position(|bytes| bytes == begin).expect("there are certificates");
        let nothing = tamper(NOW_S, &policy, &evidence, |evidence| &mut intel(evidence).quote[..text], 1);
        assert_eq!(nothing, 0);
        tamper(NOW_S, &policy, &evidence, |evidence| &mut intel(evidence).quote[text..], 17);
        assert_eq!(
            tamper(NOW_S, &policy, &evidence, |evidence| &mut intel(evidence).collateral.root_ca_crl, 7),
            0
        );
        assert_eq!(
            tamper(NOW_S, &policy, &evidence, |evidence| &mut intel(evidence).collateral.pck_crl, 41),
            0
        );
    }
}

#[test]
fn no_digit_of_what_intel_signs_about_platforms_can_be_changed() {
    let [(evidence, policy), ..] = right();
    let Evidence::Intel(right) = evidence else { panic!("it is Intel's") };
    let changed = |text: &str, at: usize| -> String {
        let digit = if &text[at..=at] == "1" { "2" } else { "1" };
        [&text[..at], digit, &text[at + 1..]].concat()
    };
    let digits = |text: &str| -> Vec<usize> {
        text.char_indices()
            .filter(|(_, letter)| letter.is_ascii_digit())
            .map(|(at, _)| at)
            .step_by(23)
            .collect()
    };
    for at in digits(&right.collateral.tcb_info) {
        let mut evidence = right.clone();
        evidence.collateral.tcb_info = changed(&right.collateral.tcb_info, at);
        let refused = verify(&Evidence::Intel(evidence), &binding(), NOW_S, &policy);
        assert!(matches!(refused, Err(AttestError::Chain { .. })), "digit {at}: {refused:?}");
    }
    for at in digits(&right.collateral.qe_identity) {
        let mut evidence = right.clone();
        evidence.collateral.qe_identity = changed(&right.collateral.qe_identity, at);
        let refused = verify(&Evidence::Intel(evidence), &binding(), NOW_S, &policy);
        assert!(matches!(refused, Err(AttestError::Chain { .. })), "digit {at}: {refused:?}");
    }
}
