//! Meeting at a relay: what the transport is told of it, and what goes over it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;

use iroh::dns::{DnsResolver, FallbackMode};
use iroh::endpoint::{Builder, Connection};
use iroh::tls::CaTlsConfig;
use iroh::{NetReportConfig, RelayConfig, RelayMap, RelayMode, RelayUrl, Watcher};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::limits::RELAY_CONNECT_TIMEOUT;
use crate::{NetworkError, Relay};

/// Tells the transport of the one relay that it may use; without one, that there is none. Neither asks any other host.
pub(crate) fn tell(builder: Builder, relay: Option<&Relay>) -> Result<Builder, NetworkError> {
    let Some(relay) = relay else {
        return Ok(builder.relay_mode(RelayMode::Disabled).net_report_config(NetReportConfig::minimal()));
    };
    let mut config = RelayConfig::from(url_of(relay)?);
    config.quic.get_or_insert_default().port = relay.port();
    let mut probes = NetReportConfig::minimal();
    probes.https_probes = true;
    let names = DnsResolver::builder().with_system_defaults().with_fallback_mode(FallbackMode::Never).build();
    let builder = builder
        .relay_mode(RelayMode::Custom(RelayMap::from(config)))
        .net_report_config(probes)
        .dns_resolver(names);
    if relay.is_secure() {
        return Ok(builder.ca_tls_config(CaTlsConfig::embedded()));
    }
    Ok(builder.ca_tls_config(CaTlsConfig::custom_server_cert_verifier(Arc::new(|provider| {
        Ok(Arc::new(AnyCertificate(provider)))
    }))))
}

/// As the transport knows it.
pub(crate) fn url_of(relay: &Relay) -> Result<RelayUrl, NetworkError> {
    let url = relay.to_string();
    url.parse().map_err(|_| NetworkError::Relay { relay: url, cause: "its host is no name".into() })
}

/// Waits until `iroh` can be met at `relay`.
pub(crate) async fn meet(iroh: &iroh::Endpoint, relay: &Relay) -> Result<(), NetworkError> {
    let mut status = iroh.home_relay_status();
    let met = async {
        while !status.get().iter().any(|relay| relay.is_connected()) {
            if status.updated().await.is_err() {
                break;
            }
        }
    };
    if timeout(RELAY_CONNECT_TIMEOUT, met).await.is_ok() {
        return Ok(());
    }
    let refused = iroh.home_relay_status().get().iter().find_map(|relay| {
        let denied = relay.auth_denied_reason().map(ToString::to_string);
        denied.or_else(|| relay.last_error().map(|error| format!("{error:#}")))
    });
    let cause = match refused {
        Some(cause) => cause,
        None => silence(relay).await,
    };
    Err(NetworkError::Relay { relay: relay.to_string(), cause })
}

/// Why a relay may have said nothing.
async fn silence(relay: &Relay) -> String {
    let address = (relay.host().to_string(), relay.port());
    let reached = spawn_blocking(move || -> io::Result<()> {
        let found = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        TcpStream::connect_timeout(&found, RELAY_CONNECT_TIMEOUT).map(drop)
    });
    match reached.await {
        Ok(Err(cause)) => cause.to_string(),
        Ok(Ok(())) => "what answers there is no relay".into(),
        Err(cause) => cause.to_string(),
    }
}

/// Whether what is sent over `connection` goes through a relay now.
pub(crate) fn is_relayed(connection: &Connection) -> bool {
    let paths = connection.paths();
    match paths.iter().find(|path| path.is_selected()) {
        Some(path) => path.is_relay(),
        None => !paths.iter().any(|path| path.is_ip()),
    }
}

/// Whether `address` is one that a node can be at. The transport calls relays by addresses of its own (a prefix of local IPv6
/// addresses that its makers drew); whoever states such an address names no machine but a path through a relay.
pub(crate) fn is_of_a_machine(address: &SocketAddr) -> bool {
    const STAND_IN: [u8; 6] = [0xfd, 0x15, 0x07, 0x0a, 0x51, 0x0b];
    !matches!(address.ip(), IpAddr::V6(ip) if ip.octets()[..6] == STAND_IN)
}

/// Believes every certificate. Only for a relay over plain HTTP, of which nothing is proven anyway: its certificate stands
/// in for none, since QUIC, which tells a node the address under which it is seen, cannot do without.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_which_the_transport_means_a_relay_are_of_no_machine() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("[2001:db8::1]:1", true),
            ("[fd15:70a:510c::1]:12345", true),
            ("[fd15:70a:510b::1]:12345", false),
            ("[fd15:70a:510b:1:a:b:c:d]:12345", false),
            ("[fd15:70a:510b:3::1]:1", false),
        ] {
            assert_eq!(is_of_a_machine(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
