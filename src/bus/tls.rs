//! TLS to the broker: whom to trust, and who we are.
//!
//! Stricter than oslo.messaging in two points: the host name is always verified, and with `ssl_ca_file` nobody but the authorities in
//! that file is trusted.

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::options::RabbitOptions;

/// What the options say, read from their files. Errors name the file and what is wrong with it.
pub(crate) async fn connector(rabbit: &RabbitOptions) -> Result<RustlsConnector, String> {
    let trusted = if rabbit.ssl_ca_file.is_empty() {
        RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
            format!("the system's certificate authorities cannot be read ({error}); set ssl_ca_file")
        })?
    } else {
        RustlsConnectorConfig::default()
            .with_parsable_certificates(certificates("ssl_ca_file", &rabbit.ssl_ca_file).await?)
    };
    let built = if rabbit.ssl_cert_file.is_empty() {
        trusted.connector_with_no_client_auth()
    } else {
        let chain = certificates("ssl_cert_file", &rabbit.ssl_cert_file).await?;
        let key = read("ssl_key_file", &rabbit.ssl_key_file).await?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            format!("ssl_key_file {:?} holds no private key in PEM form: {error}", rabbit.ssl_key_file)
        })?;
        trusted.connector_with_single_cert(chain, key)
    };
    built.map_err(|error| format!("TLS cannot be set up from the ssl_* options: {error}"))
}

async fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(option, path).await?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{option} {path:?} holds no certificate in PEM form")),
        Err(error) => Err(format!("{option} {path:?} is damaged: {error}")),
    }
}

async fn read(option: &str, path: &str) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("{option} {path:?} cannot be read: {error}"))
}
