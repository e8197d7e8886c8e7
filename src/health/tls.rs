//! TLS below HTTP: with or without a look at the certificate.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::Failure;
use crate::config::HttpsCheck;

/// How the connections of a check are secured.
pub(super) struct TlsProbe {
    /// An error is the same at each question: reload after it is mended.
    config: Result<Arc<ClientConfig>, String>,
    name: Option<String>,
}

impl TlsProbe {
    pub(super) fn new(check: &HttpsCheck) -> Self {
        Self { config: client_config(check).map(Arc::new), name: check.sni.clone() }
    }

    /// Makes a TLS connection of a stream that leads to `server`.
    pub(super) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        server: IpAddr,
    ) -> Result<TlsStream<S>, Failure> {
        let config = self.config.clone().map_err(Failure::Tls)?;
        let name = match &self.name {
            Some(name) => ServerName::try_from(name.clone()).map_err(|error| Failure::Tls(error.to_string()))?,
            None => ServerName::from(server),
        };
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| Failure::Tls(error.to_string()))
    }
}

fn client_config(check: &HttpsCheck) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if check.tls_verify {
        builder.with_root_certificates(roots(check.tls_ca.as_deref())?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
    };
    let mut config = builder.with_no_client_auth();
    // Each question is a whole handshake, so that each says whether one succeeds.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn roots(file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let Some(file) = file else {
        let roots = SYSTEM.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        });
        return match roots.is_empty() {
            true => Err("the system has no certificate authorities: install ca-certificates or set tls_ca".to_owned()),
            false => Ok(Arc::clone(roots)),
        };
    };
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() { Err(cannot(&"there is no certificate in it")) } else { Ok(Arc::new(roots)) }
}

/// Takes any certificate, as `tls_verify = false` says; that the server has its key is still proved.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
