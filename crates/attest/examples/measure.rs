//! How long one piece of evidence takes to check: `cargo run --release -p zoo-attest --example measure`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use zoo_attest::{Evidence, Roots, check};

const TIMES: usize = 501;

fn main() {
    let roots = Roots::vendors();
    let [june_2025, october_2026] = [1_750_500_000, 1_792_000_000];
    let intel = |quote: &[u8], collateral: &str| Evidence::intel(quote, collateral).expect("a sample");
    let samples = [
        (
            "SGX",
            june_2025,
            intel(include_bytes!("../tests/samples/sgx.quote"), include_str!("../tests/samples/sgx.json")),
        ),
        (
            "TDX",
            june_2025,
            intel(include_bytes!("../tests/samples/tdx.quote"), include_str!("../tests/samples/tdx.json")),
        ),
        (
            "TDX 1.5 ex",
            october_2026,
            intel(
                include_bytes!("../tests/samples/tdx_td15ex.quote"),
                include_str!("../tests/samples/tdx_td15ex.json"),
            ),
        ),
        (
            "SEV-SNP",
            june_2025,
            Evidence::amd(
                include_bytes!("../tests/samples/milan.report"),
                include_bytes!("../tests/samples/ask-milan.der"),
                include_bytes!("../tests/samples/vcek-milan.der"),
            )
            .expect("a sample"),
        ),
    ];
    for (name, now_s, evidence) in samples {
        let genuine = median(|| check(&evidence, now_s, &roots).is_ok());
        let old = median(|| check(&evidence, 0, &roots).is_err());
        let bytes = evidence.to_bytes().len();
        println!("{name}: {bytes} bytes, {genuine:.2?} if it holds, {old:.2?} if it is out of its time");
    }
}

fn median(mut check: impl FnMut() -> bool) -> Duration {
    let once = |_| {
        let start = Instant::now();
        assert!(black_box(check()));
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..TIMES).map(once).collect();
    times.sort();
    times[TIMES / 2]
}
