//! `zoo dispute`: a dispute is played, and its record convinces whoever was not there.

mod common;

use std::fs;

use common::Bench;
use serde_json::json;

#[test]
fn a_record_is_written_and_holds_until_a_byte_of_it_is_changed() {
    let bench = Bench::new();
    let rehearsed = bench.zoo(["dispute", "rehearse", "--out", "dispute.zoo", "--steps", "3", "--json"]);
    let rehearsed = rehearsed.succeeds().last_event("dispute");
    let checked = bench.zoo(["dispute", "check", "dispute.zoo", "--json"]).succeeds().last_event("dispute");
    assert_eq!(rehearsed, checked);
    assert_eq!((&checked["verified"], &checked["loser"]), (&true.into(), &"maker".into()));
    assert_eq!(checked["reason"], "computation");
    assert_ne!(checked["said"], checked["computed"]);
    assert!(checked["tensor"].as_str().unwrap().starts_with("gradient of "), "{checked}");
    assert!(checked["moves"].as_u64().unwrap() <= 32);
    let told = bench.zoo(["dispute", "check", "dispute.zoo"]).succeeds().stdout;
    assert!(told.starts_with("the maker loses: step "), "{told}");

    for (wrong, tensor) in [("update", "integers of "), ("kept", "unsaid now of ")] {
        let arguments =
            ["dispute", "rehearse", "--out", "other.zoo", "--steps", "3", "--wrong", wrong, "--json"];
        let rehearsed = bench.zoo(arguments).succeeds().last_event("dispute");
        assert_eq!((&rehearsed["loser"], &rehearsed["reason"]), (&"maker".into(), &"computation".into()));
        assert!(rehearsed["tensor"].as_str().unwrap().starts_with(tensor), "{rehearsed}");
    }
    let dense = ["dispute", "rehearse", "--out", "x", "--wrong", "kept", "--update", "dense"];
    bench.zoo(dense).refuses("hint: use --update sparse");

    let mut bytes = fs::read(bench.path("dispute.zoo")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bench.write("changed.zoo", &bytes);
    bench.zoo(["dispute", "check", "changed.zoo"]).refuses("changed.zoo does not hold");
    let refused = bench.zoo(["dispute", "check", "changed.zoo", "--json"]).refuses("does not hold");
    assert_eq!(refused.last_event("dispute")["verified"], false);
}

#[test]
fn what_is_no_record_is_refused_with_a_hint() {
    let bench = Bench::new();
    bench.zoo(["dispute", "check", "text.txt"]).refuses("not a record of a dispute");
    let missing = bench.zoo(["dispute", "check", "nowhere"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("cannot read nowhere"), "{}", missing.stderr);
    bench
        .zoo(["dispute", "rehearse", "--out", "x", "--preset", "none"])
        .refuses("there is no preset \"none\"");
}

#[test]
fn an_honest_step_is_valid_and_a_forged_gradient_is_found() {
    let bench = Bench::new();
    let honest = bench.zoo(["dispute", "validate", "--profile", "bf16-exact", "--json"]);
    let honest = honest.succeeds().last_event("validation");
    assert_eq!((&honest["wrong"], &honest["unsettled"]), (&json!([]), &json!([])));
    assert!(honest["spent"].as_u64() < honest["again"].as_u64(), "{honest}");
    let product =
        honest["operators"].as_array().unwrap().iter().find(|line| line["operator"] == "matrix product");
    assert!(product.unwrap()["freivalds"].as_u64() > Some(0), "{honest}");

    let forged = bench.zoo(["dispute", "validate", "--forge", "zeroed", "--json"]);
    let forged = forged.succeeds().last_event("validation");
    assert_eq!(forged["forged"]["found"], true, "{forged}");
    assert!(forged["forged"]["missed"].as_f64().unwrap() <= 1.0 / 256.0, "{forged}");
    let wrong = forged["wrong"].as_array().unwrap();
    assert_eq!(wrong.len(), 1, "{forged}");
    assert_eq!(
        (&wrong[0]["tensor"], &wrong[0]["vnode"]),
        (&forged["forged"]["tensor"], &forged["forged"]["vnode"])
    );
    assert_ne!(wrong[0]["said"], wrong[0]["computed"]);

    let told = bench.zoo(["dispute", "validate", "--forge", "scaled"]).succeeds().stdout;
    assert!(told.contains("\nwrong: ") && told.contains("\nfound: "), "{told}");
    let told = bench.zoo(["dispute", "validate", "--spots", "0"]).succeeds().stdout;
    assert!(told.ends_with("nothing is wrong\n"), "{told}");
    bench.zoo(["dispute", "validate", "--preset", "none"]).refuses("there is no preset \"none\"");
}
