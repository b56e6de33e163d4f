//! HTTPS, where no proxy in front does it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate with its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, and those between it and one that clients trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why HTTPS is not possible with these files.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} for HTTPS: {cause}\nhint: it has to be a PEM file", .path.display())]
pub struct TlsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

impl Tls {
    /// What a server needs of it.
    ///
    /// # Errors
    /// A file that is missing or no PEM, a key that is not the certificate's.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let fail = |path: &PathBuf, cause: String| TlsError { path: path.clone(), cause };
        let wrong_certificate =
            |cause: rustls::pki_types::pem::Error| fail(&self.certificate, cause.to_string());
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&self.certificate).map_err(wrong_certificate)?.collect();
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|cause| fail(&self.key, cause.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain.map_err(|cause| rustls::Error::General(cause.to_string()))?, key)
            })
            .map_err(|cause| fail(&self.certificate, cause.to_string()))?;
        Ok(Arc::new(config))
    }
}
