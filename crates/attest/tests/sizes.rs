//! Nothing is believed of a size.

mod common;

use common::{amd, samples};
use zoo_attest::{
    AttestError, Collateral, Evidence, FILE_BYTES_MAX, QuoteEvidence, Roots, SnpEvidence, check,
};
use zoo_protocol::WireError;

const NOW_S: u64 = 1_750_500_000;

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    for sample in samples() {
        let bytes = sample.evidence.to_bytes();
        for length in 0..bytes.len() {
            assert!(Evidence::from_bytes(&bytes[..length]).is_err(), "{} cut at {length}", sample.name);
        }
        assert_eq!(Evidence::from_bytes(&bytes), Ok(sample.evidence));
        assert!(Evidence::from_bytes(&[&bytes[..], b"\0"].concat()).is_err(), "{} and more", sample.name);
    }
}

#[test]
fn a_quote_or_report_that_is_cut_anywhere_is_refused() {
    for sample in samples() {
        let cut = |evidence: &Evidence, length: usize| -> Evidence {
            let mut evidence = evidence.clone();
            match &mut evidence {
                Evidence::Intel(evidence) => evidence.quote.truncate(length),
                Evidence::Amd(evidence) => evidence.report.truncate(length),
            }
            evidence
        };
        for length in 0..sample.evidence.parts()[0].1 {
            let refused = check(&cut(&sample.evidence, length), NOW_S, &Roots::vendors());
            assert!(matches!(refused, Err(AttestError::Malformed { .. })), "{} {length}", sample.name);
        }
    }
}

#[test]
fn a_quote_with_something_behind_it_is_refused() {
    for sample in samples() {
        let Evidence::Intel(mut evidence) = sample.evidence else { continue };
        evidence.quote.push(0);
        let refused = check(&Evidence::Intel(evidence), sample.now_s, &Roots::vendors());
        assert!(matches!(refused, Err(AttestError::Malformed { .. })), "{}: {refused:?}", sample.name);
    }
}

#[test]
fn a_part_that_is_too_large_is_refused_before_it_is_read() {
    let Evidence::Intel(small) = samples().remove(0).evidence else { panic!("it is Intel's") };
    let collateral = |edit: fn(&mut Collateral)| {
        let mut evidence = small.clone();
        edit(&mut evidence.collateral);
        Evidence::Intel(evidence)
    };
    let Evidence::Amd(guest) = amd::sample() else { panic!("it is AMD's") };
    let large = || vec![0; 70_000];
    let parts = [
        Evidence::Intel(QuoteEvidence { quote: large(), ..small.clone() }),
        collateral(|part| part.root_ca_crl = vec![0; 70_000]),
        collateral(|part| part.pck_crl = vec![0; 70_000]),
        collateral(|part| part.tcb_info_issuer_chain = " ".repeat(70_000)),
        collateral(|part| part.tcb_info = " ".repeat(70_000)),
        collateral(|part| part.tcb_info_signature = vec![0; 65]),
        collateral(|part| part.qe_identity_issuer_chain = " ".repeat(70_000)),
        collateral(|part| part.qe_identity = " ".repeat(70_000)),
        collateral(|part| part.qe_identity_signature = vec![0; 65]),
        Evidence::Amd(SnpEvidence { report: large(), ..guest.clone() }),
        Evidence::Amd(SnpEvidence { ask: large(), ..guest.clone() }),
        Evidence::Amd(SnpEvidence { vcek: large(), ..guest.clone() }),
    ];
    for (at, evidence) in parts.into_iter().enumerate() {
        let refused = check(&evidence, NOW_S, &Roots::vendors());
        assert!(matches!(refused, Err(AttestError::Wire(WireError::Limit { .. }))), "part {at}: {refused:?}");
        assert!(Evidence::from_bytes(&evidence.to_bytes()).is_err(), "part {at}");
    }
    let refused = Evidence::from_bytes(&vec![0; FILE_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(AttestError::Wire(WireError::Limit { .. }))), "{refused:?}");
    let refused = Evidence::intel(&[], &" ".repeat(600_000));
    assert!(matches!(refused, Err(AttestError::Wire(WireError::Limit { .. }))), "{refused:?}");
}

#[test]
fn a_file_of_anything_else_is_refused_with_a_hint() {
    for bytes in [&b""[..], b"ZOODISPT", b"ZOOATTST", b"ZOOATTST\x02\x00", b"%PDF-1.7"] {
        let cause = Evidence::from_bytes(bytes).unwrap_err().to_string();
        assert!(cause.contains("hint: "), "{cause}");
    }
}
