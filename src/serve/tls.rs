use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use super::TlsFiles;

/// Certificate and key, as they were last read.
pub(crate) struct Tls {
    files: TlsFiles,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// Says which file is wrong, and how.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, String> {
        Ok(Self { files: files.clone(), acceptor: RwLock::new(acceptor(files)?) })
    }

    /// What accepts connections now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads both files anew; what cannot be read leaves what was.
    pub(crate) fn reload(&self) {
        match acceptor(&self.files) {
            Ok(acceptor) => {
                *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
                tracing::info!("read the certificate anew");
            }
            Err(why) => tracing::error!("{why}: the certificate that was read before stays"),
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("reading the certificate {cert}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{cert} has no certificate"));
    }
    let private =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| format!("reading the key {key}: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| format!("the certificate {cert} and the key {key}: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
