//! What vendors' hardware signed, as it was published: its chains hold, and it is about none of our nodes.

mod common;

use common::{amd, binding, lenient, samples};
use zoo_attest::{
    AttestError, Evidence, Policy, Product, Roots, SnpTcb, Tcb, TcbStatus, TeeKind, check, verify,
};
use zoo_protocol::NodeKey;

#[test]
fn every_sample_leads_to_its_vendors_root() {
    for sample in samples() {
        let claims = check(&sample.evidence, sample.now_s, &Roots::vendors())
            .unwrap_or_else(|cause| panic!("{}: {cause}", sample.name));
        assert_eq!(lenient().status(&claims.tcb), sample.status, "{}", sample.name);
        assert!((claims.valid_from_s..claims.valid_until_s).contains(&sample.now_s), "{}", sample.name);
    }
}

#[test]
fn a_sample_says_what_its_vendors_own_software_read_in_it() {
    let kinds: Vec<TeeKind> =
        samples().iter().map(|sample| sample.evidence.statement().unwrap().kind).collect();
    assert_eq!(kinds, [TeeKind::Sgx, TeeKind::Tdx, TeeKind::Tdx, TeeKind::SevSnp]);

    let begins = |evidence: Evidence| -> String {
        let register = &evidence.statement().unwrap().registers[0];
        let hex: String = register.bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {hex}", register.name)
    };
    let read: Vec<String> = samples().into_iter().map(|sample| begins(sample.evidence)).collect();
    assert_eq!(read[0], "mrenclave 33d8736db756ed49");
    assert_eq!(read[1], "mrtd 91eb2b44d141d4ec");
    assert_eq!(read[3], "measurement 7a1e5c266c0108db");
}

#[test]
fn a_sample_is_foreign_to_every_node() {
    for sample in samples() {
        for seed in 0..20 {
            let node = NodeKey::from_seed([seed; 32]).id();
            let binding = zoo_attest::Binding { node, ..binding() };
            let refused = verify(&sample.evidence, &binding, sample.now_s, &lenient());
            assert_eq!(
                refused,
                Err(AttestError::Foreign { node, network: binding.network }),
                "{}",
                sample.name
            );
        }
    }
}

#[test]
fn a_sample_is_refused_before_and_after_its_time() {
    for sample in samples() {
        let roots = Roots::vendors();
        let claims = check(&sample.evidence, sample.now_s, &roots).unwrap();
        let (from_s, until_s) = (claims.valid_from_s, claims.valid_until_s);
        for now_s in [0, from_s - 1, until_s, until_s + 1_000_000_000] {
            let refused = check(&sample.evidence, now_s, &roots);
            assert_eq!(refused, Err(AttestError::Expired { from_s, until_s, now_s }), "{}", sample.name);
        }
        for now_s in [from_s, until_s - 1] {
            assert!(check(&sample.evidence, now_s, &roots).is_ok(), "{} at {now_s}", sample.name);
        }
    }
}

#[test]
fn a_sample_means_nothing_to_who_trusts_other_roots() {
    let [intel, amd] = [common::intel::Authority::new().policy(), amd::Authority::new().policy()];
    for sample in samples() {
        let roots = Roots { intel: intel.roots.intel.clone(), amd: amd.roots.amd.clone() };
        let refused = check(&sample.evidence, sample.now_s, &roots);
        assert!(matches!(refused, Err(AttestError::Chain { .. })), "{}: {refused:?}", sample.name);
    }
}

#[test]
fn the_samples_platforms_stand_as_their_vendors_say() {
    let tcb = |name: &str| {
        let sample = samples().into_iter().find(|sample| sample.name == name).unwrap();
        check(&sample.evidence, sample.now_s, &Roots::vendors()).unwrap().tcb
    };
    let Tcb::Intel { name, advisories, .. } = tcb("sgx") else { panic!("it is Intel's") };
    assert_eq!(name, "ConfigurationAndSWHardeningNeeded");
    assert_eq!(advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    let versions: SnpTcb = "3.0.8.115".parse().unwrap();
    assert_eq!(tcb("milan"), Tcb::Amd { product: Product::Milan, versions });
}

#[test]
fn amds_processors_are_judged_by_the_versions_that_are_asked_for() {
    let claims = check(&amd::sample(), 1_750_500_000, &Roots::vendors()).unwrap();
    for (least, status) in [
        (None, TcbStatus::Unjudged),
        (Some((Product::Genoa, "0.0.0.0")), TcbStatus::Unjudged),
        (Some((Product::Milan, "3.0.8.115")), TcbStatus::UpToDate),
        (Some((Product::Milan, "3.0.8.116")), TcbStatus::OutOfDate),
    ] {
        let least = least.map(|(product, versions)| (product, versions.parse().unwrap()));
        let policy = Policy { snp_least: least.into_iter().collect(), ..Policy::default() };
        assert_eq!(policy.status(&claims.tcb), status);
        let accepted = policy.accept(&claims);
        assert_eq!(accepted.is_ok(), status == TcbStatus::UpToDate, "{status}: {accepted:?}");
    }
}

#[test]
fn a_platform_older_than_everything_that_intel_lists_is_refused() {
    let evidence = common::intel::sample("tdx_outdated").unwrap();
    let refused = check(&evidence, 1_772_000_000, &Roots::vendors());
    let Err(AttestError::Chain { cause, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(cause, "No matching TCB level found");
}

#[test]
fn padding_behind_a_quote_is_left_out() {
    let padded = include_bytes!("samples/tdx.quote");
    let Ok(Evidence::Intel(evidence)) = common::intel::sample("tdx") else { panic!("it is Intel's") };
    assert!(evidence.quote.len() < padded.len() && padded.starts_with(&evidence.quote));
}
