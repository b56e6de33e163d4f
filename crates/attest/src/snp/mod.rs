//! Reports of AMD SEV-SNP: the guest's report under the chip's key, that under AMD's, that under a root.

mod certificate;
mod report;
mod tcb;

use zoo_content::Digest;

use certificate::Certificate;
pub use report::{REPORT_BYTES, Report};
pub use tcb::{ParseSnpTcbError, Product, SnpTcb};

use crate::{AttestError, Claims, SnpEvidence, Tcb};

/// Everything that AMD's keys show about the report.
pub fn check(evidence: &SnpEvidence, roots: &[Vec<u8>]) -> Result<Claims, AttestError> {
    let report = Report::read(&evidence.report)?;
    report.is_closed()?;
    let ask = Certificate::read("the ASK certificate", &evidence.ask)?;
    let vcek = Certificate::read("the VCEK certificate", &evidence.vcek)?;
    let ark = root_of(&ask, roots)?;
    ask.may_sign()?;
    vcek.is_signed_by(&ask)?;
    vcek.has_signed(report.signed(), &report.signature()?)?;

    let product = vcek.product()?;
    let versions = report.reported_tcb(product);
    if vcek.versions(product)? != versions {
        return Err(chain("the report", "it states other versions of firmware than the chip's certificate"));
    }
    let chip = vcek.chip()?;
    if !report.is_of_chip(chip) {
        return Err(chain("the report", "it is of another chip than the certificate"));
    }
    let valid = [&ark, &ask, &vcek].map(Certificate::validity);
    Ok(Claims {
        statement: report.statement(),
        platform: Digest::of(&[b"zoo/platform/1\0amd\0", chip].concat()),
        tcb: Tcb::Amd { product, versions },
        valid_from_s: valid.iter().map(|window| window.start).max().expect("there are three"),
        valid_until_s: valid.iter().map(|window| window.end).min().expect("there are three"),
    })
}

/// The trusted certificate that signed this one.
fn root_of(ask: &Certificate, roots: &[Vec<u8>]) -> Result<Certificate, AttestError> {
    for root in roots {
        let root = Certificate::read("a root certificate", root)?;
        if ask.is_signed_by(&root).is_ok() {
            return Ok(root);
        }
    }
    Err(chain("the ASK certificate", "no root that is trusted signed it"))
}

fn chain(what: &'static str, cause: impl ToString) -> AttestError {
    AttestError::Chain { what, cause: cause.to_string() }
}
