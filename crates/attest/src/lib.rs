//! Evidence from trusted hardware, checked offline and bound to a node's key.
//!
//! A processor of Intel (SGX, TDX) or AMD (SEV-SNP) signs which software it was started with, and 64 bytes of that software's choice.
//! A node puts a digest of the network's key and its own there ([`Binding`]), and shows the signed statement with the vendor's
//! certificates ([`Evidence`]). Whoever has both can check it without asking anybody ([`verify`]): the vendor's signatures down to the
//! roots that the [`Policy`] trusts, their validity at a time that is an argument, the binding, the measured software, the
//! platform's firmware, and that nobody may look inside with a debugger. What comes out is an [`Attestation`], small enough for a journal.
//!
//! ```
//! use zoo_attest::{AttestError, Binding, Evidence, Policy, TcbStatus, verify};
//! use zoo_protocol::NodeKey;
//!
//! // A quote that Intel's own software published, with what Intel signs about the platform.
//! let quote = include_bytes!("../tests/samples/tdx.quote");
//! let collateral = include_str!("../tests/samples/tdx.json");
//! let evidence = Evidence::intel(quote, collateral)?;
//! assert_eq!(Evidence::from_bytes(&evidence.to_bytes())?, evidence);
//!
//! // Its signatures hold, but it says nothing about this node.
//! let binding = Binding { network: NodeKey::from_seed([1; 32]).id(), node: NodeKey::from_seed([2; 32]).id() };
//! let june_2025 = 1_750_400_000;
//! assert!(matches!(verify(&evidence, &binding, june_2025, &Policy::default()), Err(AttestError::Foreign { .. })));
//! # Ok::<(), AttestError>(())
//! ```
//!
//! What it shows is what the vendor's key signed, no more: whoever has the machine in their hands can get such keys out of current
//! hardware, so evidence orders how often work is checked and never replaces checking.

mod binding;
mod error;
mod evidence;
mod intel;
mod policy;
mod snp;
mod statement;

pub use binding::{Binding, REPORT_DATA_BYTES};
pub use error::AttestError;
pub use evidence::{Collateral, Evidence, FILE_BYTES_MAX, QuoteEvidence, SnpEvidence};
pub use policy::{Claims, Policy, Roots, Tcb, check, verify};
pub use snp::{ParseSnpTcbError, Product, REPORT_BYTES, SnpTcb};
pub use statement::{Register, Statement};
pub use zoo_protocol::{Attestation, TcbStatus, TeeKind};
