//! `zoo attest`: evidence is packed, shown and checked, offline.

mod common;

use std::fs;
use std::path::Path;

use common::Bench;

/// The samples of `zoo-attest`, as vendors' software made them.
fn bring_samples(bench: &Bench) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/tests/samples");
    for name in ["tdx.quote", "tdx.json", "milan.report", "ask-milan.der", "vcek-milan.der"] {
        bench.write(name, fs::read(samples.join(name)).expect("a sample"));
    }
}

#[test]
fn a_quote_is_packed_shown_and_checked_and_is_foreign_to_a_node_of_ours() {
    let bench = Bench::new();
    bring_samples(&bench);
    let pack = ["attest", "pack", "--quote", "tdx.quote", "--collateral", "tdx.json", "--out", "tdx.zoo"];
    let packed = bench.zoo(pack).succeeds().stdout;
    assert!(packed.starts_with("tdx.zoo: evidence of tdx, "), "{packed}");

    let shown = bench.zoo(["attest", "show", "tdx.zoo", "--json"]).succeeds().last_event("evidence");
    assert_eq!((&shown["checked"], &shown["debug"]), (&false.into(), &false.into()));
    assert!(shown["registers"]["mrtd"].as_str().unwrap().starts_with("91eb2b44d141d4ec"), "{shown}");

    let day = ["attest", "check", "tdx.zoo", "--at", "2025-06-21"];
    let checked = bench.zoo([&day[..], &["--json"]].concat()).succeeds().last_event("attestation");
    assert_eq!((&checked["verified"], &checked["kind"]), (&true.into(), &"tdx".into()));
    assert_eq!((&checked["measurement"], &checked["tcb"]), (&shown["measurement"], &"up-to-date".into()));
    let told = bench.zoo(day).succeeds().stdout;
    assert!(told.contains("until 2025-07-19T"), "{told}");

    let key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    let bound = [&day[..], &["--node", key, "--network", key, "--json"]].concat();
    let refused = bench.zoo(bound).refuses("it is foreign");
    assert_eq!(refused.last_event("attestation")["reason"], "foreign");
    let software = [&day[..], &["--measurement", key]].concat();
    bench.zoo(software).refuses("is not accepted");
    bench.zoo(["attest", "check", "tdx.zoo", "--at", "2025-08-21"]).refuses("it is valid from");
}

#[test]
fn a_report_is_judged_by_the_versions_that_are_asked_for() {
    let bench = Bench::new();
    bring_samples(&bench);
    let parts = ["--report", "milan.report", "--ask", "ask-milan.der", "--vcek", "vcek-milan.der"];
    let pack = ["attest", "pack", "--out", "milan.zoo"];
    bench.zoo([&pack[..], &parts].concat()).succeeds();
    let day = ["attest", "check", "milan.zoo", "--at", "2025-06-21"];
    bench.zoo(day).refuses("the platform is unjudged");
    let with = |least: &'static str| bench.zoo([&day[..], &["--snp-least", least]].concat());
    with("milan=3.0.8.115").succeeds();
    with("milan=3.0.8.116").refuses("the platform is out-of-date");
}

#[test]
fn evidence_with_a_changed_byte_is_refused() {
    let bench = Bench::new();
    bring_samples(&bench);
    let pack = ["attest", "pack", "--quote", "tdx.quote", "--collateral", "tdx.json", "--out", "tdx.zoo"];
    bench.zoo(pack).succeeds();
    let mut bytes = fs::read(bench.path("tdx.zoo")).unwrap();
    bytes[400] ^= 1;
    bench.write("changed.zoo", &bytes);
    let check = ["attest", "check", "changed.zoo", "--at", "2025-06-21", "--json"];
    let refused = bench.zoo(check).refuses("does not hold under the vendor's keys");
    assert_eq!(refused.last_event("attestation")["verified"], false);
}

#[test]
fn what_is_no_evidence_is_refused_with_a_hint() {
    let bench = Bench::new();
    bring_samples(&bench);
    bench.zoo(["attest", "check", "text.txt"]).refuses("not a file of evidence");
    bench.zoo(["attest", "show", "tdx.quote"]).refuses("not a file of evidence");
    let pack = ["attest", "pack", "--quote", "tdx.json", "--collateral", "tdx.json", "--out", "x.zoo"];
    bench.zoo(pack).refuses("the quote cannot be read");
    bench.zoo(["attest", "pack", "--out", "x.zoo"]).refuses("nothing to pack");
}

#[test]
fn what_a_node_has_signed_depends_on_node_and_network() {
    let bench = Bench::new();
    let key = |digit: &str| digit.repeat(64);
    let printed = |node: &str, network: &str| {
        let ran = bench.zoo(["attest", "binding", "--node", &key(node), "--network", &key(network)]);
        ran.succeeds().stdout.trim().to_owned()
    };
    let data = printed("1", "2");
    assert_eq!(data.len(), 128);
    assert!(data.ends_with(&"0".repeat(64)), "{data}");
    assert_ne!(data, printed("2", "1"));
}
