//! Quotes of Intel SGX and TDX. Their chain is checked by `dcap-qvl`; here it is held to one spelling, and its answer is put into our words.

use std::ops::Range;

use dcap_qvl::configs::RingConfig;
use dcap_qvl::quote::{AuthData, EnclaveReport, Quote, Report, TDReport10};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus as IntelStatus};
use serde::Deserialize;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::{DateTime, Decode};
use zoo_content::Digest;

use crate::{AttestError, Claims, Collateral, QuoteEvidence, Register, Statement, Tcb, TcbStatus, TeeKind};

/// The kind of part that holds the quoting enclave's report, in quotes of version 4 and 5. No signature covers its name.
const QUOTING_ENCLAVE: u16 = 6;
/// Bit 1 of an enclave's attributes.
const SGX_DEBUG: u8 = 0x02;

/// What the quote says.
pub fn statement(quote: &[u8]) -> Result<Statement, AttestError> {
    if length(quote)? != quote.len() {
        return Err(malformed("the quote", "its parts do not fill it to the end"));
    }
    let quote = parse(quote)?;
    if let AuthData::V4(data) = &quote.auth_data
        && data.certification_data.cert_type != QUOTING_ENCLAVE
    {
        return Err(malformed("the quote", "its signature is not followed by what vouches for the key"));
    }
    Ok(match &quote.report {
        Report::SgxEnclave(report) => of_enclave(report),
        report => {
            of_domain(report.as_td10().expect("every other report holds the first version of a domain's"))
        }
    })
}

/// Bytes of the quote that `bytes` begin with, if every length in it were right; what follows is padding.
pub fn length(bytes: &[u8]) -> Result<usize, AttestError> {
    let quote = parse(bytes)?;
    // A quote's head and report, the length of what follows, signature and key.
    let signed = quote.signed_length() + 4 + 64 + 64;
    // Then the quoting enclave's report, its signature, and two parts, each with its length.
    let certified = |auth: usize, chain: usize| 384 + 64 + 2 + auth + 2 + 4 + chain;
    Ok(match &quote.auth_data {
        AuthData::V3(data) => {
            signed + certified(data.qe_auth_data.data.len(), data.certification_data.body.data.len())
        }
        AuthData::V4(data) => {
            let data = &data.qe_report_data;
            signed + 2 + 4 + certified(data.qe_auth_data.data.len(), data.certification_data.body.data.len())
        }
    })
}

/// Collateral from the JSON document that collateral services answer with.
pub fn read_collateral(json: &str) -> Result<Collateral, AttestError> {
    let read: QuoteCollateralV3 =
        serde_json::from_str(json).map_err(|cause| malformed("the collateral", cause))?;
    Ok(Collateral {
        root_ca_crl: read.root_ca_crl,
        pck_crl: read.pck_crl,
        tcb_info_issuer_chain: read.tcb_info_issuer_chain,
        tcb_info: read.tcb_info,
        tcb_info_signature: read.tcb_info_signature,
        qe_identity_issuer_chain: read.qe_identity_issuer_chain,
        qe_identity: read.qe_identity,
        qe_identity_signature: read.qe_identity_signature,
    })
}

/// Everything that Intel's keys show about the quote.
pub fn check(evidence: &QuoteEvidence, now_s: u64, root: &[u8]) -> Result<Claims, AttestError> {
    let statement = statement(&evidence.quote)?;
    let claims = chain(evidence, now_s, root).map_err(|cause| why(evidence, now_s, root, cause))?;
    let valid = window(&claims);
    Ok(Claims {
        statement,
        platform: Digest::of(&[b"zoo/platform/1\0intel\0", &claims.platform.pck.ppid[..]].concat()),
        tcb: Tcb::Intel {
            status: status(claims.tcb.status),
            name: claims.tcb.status.to_string(),
            advisories: claims.tcb.advisory_ids,
        },
        valid_from_s: valid.start,
        valid_until_s: valid.end,
    })
}

/// The chain from the root to the quote, as `dcap-qvl` checks it; it refuses domains that debug, migrate or have others serve them.
fn chain(evidence: &QuoteEvidence, now_s: u64, root: &[u8]) -> Result<QuoteClaims, String> {
    let Collateral {
        root_ca_crl,
        pck_crl,
        tcb_info_issuer_chain,
        tcb_info,
        tcb_info_signature,
        qe_identity_issuer_chain,
        qe_identity,
        qe_identity_signature,
    } = evidence.collateral.clone();
    let collateral = QuoteCollateralV3 {
        // Read by nobody: the list of revoked platforms has to be signed by whoever signed the platform's certificate.
        pck_crl_issuer_chain: String::new(),
        root_ca_crl,
        pck_crl,
        tcb_info_issuer_chain,
        tcb_info,
        tcb_info_signature,
        qe_identity_issuer_chain,
        qe_identity,
        qe_identity_signature,
        // That of the quote counts.
        pck_certificate_chain: None,
    };
    QuoteVerifier::new(root.to_vec())
        .with_config::<RingConfig>()
        .verify_with_policy(&evidence.quote, collateral, now_s, &QuotePolicy::claims_only(now_s))
        .map_err(|cause| format!("{cause:#}"))
}

/// What is wrong where the chain does not hold: is it as Intel signed it, at another time?
fn why(evidence: &QuoteEvidence, now_s: u64, root: &[u8], cause: String) -> AttestError {
    let at_issue = latest_issue_s(&evidence.collateral).and_then(|at| chain(evidence, at, root).ok());
    match at_issue.map(|claims| window(&claims)) {
        Some(Range { start, end }) if !(start..end).contains(&now_s) => {
            AttestError::Expired { from_s: start, until_s: end, now_s }
        }
        _ => AttestError::Chain { what: "the quote with its collateral", cause },
    }
}

/// When all that was signed is valid.
fn window(claims: &QuoteClaims) -> Range<u64> {
    claims.latest_issue_date..claims.earliest_expiration_date
}

/// When the last part of the collateral was signed, as it says itself.
fn latest_issue_s(collateral: &Collateral) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dated {
        issue_date: String,
    }
    let of_document = |json: &str| {
        let dated: Dated = serde_json::from_str(json).ok()?;
        Some(dated.issue_date.parse::<DateTime>().ok()?.unix_duration().as_secs())
    };
    let of_list = |der: &[u8]| {
        let list = CertificateList::<Rfc5280>::from_der(der).ok()?;
        Some(list.tbs_cert_list.this_update.to_unix_duration().as_secs())
    };
    let dates = [
        of_document(&collateral.tcb_info)?,
        of_document(&collateral.qe_identity)?,
        of_list(&collateral.root_ca_crl)?,
        of_list(&collateral.pck_crl)?,
    ];
    dates.into_iter().max()
}

fn status(status: IntelStatus) -> TcbStatus {
    use IntelStatus::*;
    match status {
        UpToDate => TcbStatus::UpToDate,
        SWHardeningNeeded | ConfigurationNeeded | ConfigurationAndSWHardeningNeeded => {
            TcbStatus::ConfigurationNeeded
        }
        OutOfDate
        | OutOfDateConfigurationNeeded
        | TDRelaunchAdvised
        | TDRelaunchAdvisedConfigurationNeeded
        | Revoked => TcbStatus::OutOfDate,
    }
}

fn of_enclave(report: &EnclaveReport) -> Statement {
    // CONFIGID lies in what was reserved before there was one (Intel SDM, volume 3D, table 36-22).
    let config_id = &report.reserved3[32..];
    Statement {
        kind: TeeKind::Sgx,
        registers: vec![Register::new("mrenclave", &report.mr_enclave), Register::new("configid", config_id)],
        report_data: report.report_data,
        debug: report.attributes[0] & SGX_DEBUG != 0,
    }
}

fn of_domain(report: &TDReport10) -> Statement {
    // The first byte of a domain's attributes are the ways in which it is under debugging, profiling among them.
    let debug = report.td_attributes[0] != 0;
    let registers = vec![
        Register::new("mrtd", &report.mr_td),
        Register::new("mrconfigid", &report.mr_config_id),
        Register::new("mrowner", &report.mr_owner),
        Register::new("mrownerconfig", &report.mr_owner_config),
        Register::new("rtmr0", &report.rt_mr0),
        Register::new("rtmr1", &report.rt_mr1),
        Register::new("rtmr2", &report.rt_mr2),
        Register::new("rtmr3", &report.rt_mr3),
    ];
    Statement { kind: TeeKind::Tdx, registers, report_data: report.report_data, debug }
}

fn parse(bytes: &[u8]) -> Result<Quote, AttestError> {
    Quote::parse(bytes).map_err(|cause| malformed("the quote", format!("{cause:#}")))
}

fn malformed(what: &'static str, cause: impl ToString) -> AttestError {
    AttestError::Malformed { what, cause: cause.to_string() }
}
