//! The relay's certificate: from files, or one of its own that says nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::RelayError;

/// A certificate that browsers would accept, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    pub(crate) fn load(&self) -> Result<ServerConfig, RelayError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|cause| unusable(&self.certificate, cause))?;
        if chain.is_empty() {
            return Err(unusable(&self.certificate, "it holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|cause| unusable(&self.key, cause))?;
        server_config(chain, key).map_err(|cause| unusable(&self.certificate, cause))
    }
}

/// A certificate that nobody has signed. QUIC needs one; over plain HTTP nobody checks it, since then
/// nothing that the relay says is proven anyway.
pub(crate) fn unsigned() -> Result<ServerConfig, RelayError> {
    let made = rcgen::generate_simple_self_signed(vec!["relay.invalid".to_string()])
        .map_err(|cause| RelayError::Server(cause.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    server_config(vec![made.cert.der().clone()], key).map_err(|cause| RelayError::Server(cause.to_string()))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}

fn unusable(path: &Path, cause: impl ToString) -> RelayError {
    RelayError::Tls { path: path.to_owned(), cause: cause.to_string() }
}
