//! One PollHosts request over HTTPS, bounded in time and size.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, StatusCode, redirect};
use serde_json::json;
use url::Url;

use crate::names::NodeName;
use crate::text::display_safe_to;

use super::reply;
use super::settings::Settings;

/// Largest error body read, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;

/// Why a request gave no reply.
#[derive(Debug, Clone)]
pub(super) enum PollError {
    /// No whole reply in time: some host may hold it up.
    Late,
    /// The verifier could not be reached, broke off, or says it is busy: asking again may help.
    Transport(String),
    /// The same, and nothing that was asked beside it was answered either: the verifier may be down.
    Unreached(String),
    /// The verifier refused this batch: one host of it may be the cause.
    Refused(String),
    /// Nothing about the hosts: wrong certificate, wrong path, forbidden, garbage.
    Fault(String),
}

/// Talks to one verifier; keeps its connections.
pub(super) struct Poller {
    http: Client,
    url: Url,
    auth_blob: Option<reqwest::header::HeaderValue>,
    max_reply: usize,
}

impl Poller {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = settings.checked_url()?;
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(60))
            .user_agent(concat!("spice/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.ca_file {
            let pem = read_file("ca_file", path)?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| {
                format!("[openattestation] ca_file {} holds no readable PEM certificate", path.display())
            })?;
            if certificates.is_empty() {
                return Err(format!("[openattestation] ca_file {} holds no certificate", path.display()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let (Some(cert), Some(key)) = (&settings.client_cert, &settings.client_key) {
            let mut pem = read_file("client_cert", cert)?;
            pem.push(b'\n');
            pem.extend(read_file("client_key", key)?);
            let identity = Identity::from_pem(&pem).map_err(|_| {
                format!(
                    "[openattestation] client_cert {} and client_key {} are not a readable PEM certificate and key",
                    cert.display(),
                    key.display()
                )
            })?;
            builder = builder.identity(identity);
        }
        let auth_blob = match &settings.auth_blob {
            None => None,
            Some(secret) => {
                let mut value = reqwest::header::HeaderValue::from_str(secret.reveal())
                    .map_err(|_| "[openattestation] auth_blob has characters a header cannot carry".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let http = builder.build().map_err(|error| format!("[openattestation]: {}", chain(&error)))?;
        Ok(Self { http, url, auth_blob, max_reply: settings.max_reply_bytes })
    }

    /// Asks about `nodes`; the body of the reply comes back within `limit`, or an error.
    pub(super) async fn poll(&self, nodes: &[NodeName], limit: Duration) -> Result<Vec<u8>, PollError> {
        match tokio::time::timeout(limit, self.exchange(nodes)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PollError::Late),
        }
    }

    async fn exchange(&self, nodes: &[NodeName]) -> Result<Vec<u8>, PollError> {
        let body = json!({"count": nodes.len(), "hosts": nodes}).to_string();
        let mut request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(body);
        if let Some(blob) = &self.auth_blob {
            request = request.header("x-auth-blob", blob.clone());
        }
        let response = request.send().await.map_err(|error| transport(&error))?;
        let status = response.status();
        match status.as_u16() {
            200 | 201 | 202 | 204 => match read_bounded(response, self.max_reply).await? {
                (body, true) => Ok(body),
                (_, false) => {
                    let told = format!(
                        "the verifier's answer is longer than {} bytes (option max_reply_bytes)",
                        self.max_reply
                    );
                    Err(PollError::Fault(told))
                }
            },
            _ => {
                // An error page that breaks off is still an error.
                let body = read_bounded(response, MAX_ERROR_BODY).await.map(|(body, _)| body).unwrap_or_default();
                Err(refusal(status, &body))
            }
        }
    }
}

/// What an HTTP error means for the hosts asked about.
fn refusal(status: StatusCode, body: &[u8]) -> PollError {
    let detail = reply::error_text(body).map(|text| format!(", {text}")).unwrap_or_default();
    let told = format!("the verifier answered HTTP {}{detail}", status.as_u16());
    match status.as_u16() {
        // A proxy that waited for a verifier that waits for a host.
        504 => PollError::Late,
        429 | 502 | 503 => PollError::Transport(told),
        401 | 403 => PollError::Fault(format!("{told}: check client_cert, client_key and auth_blob")),
        404 | 405 => PollError::Fault(format!("{told}: check the base path in url")),
        300..=399 => PollError::Fault(format!("{told}: redirects are not followed, correct url")),
        _ => PollError::Refused(told),
    }
}

fn transport(error: &reqwest::Error) -> PollError {
    let told = chain(error);
    if told.contains("certificate") || told.contains("HandshakeFailure") {
        return PollError::Fault(format!(
            "the verifier's TLS is not acceptable: {told}; check ca_file, client_cert and the host name in url"
        ));
    }
    PollError::Transport(format!("the verifier cannot be reached: {told}"))
}

/// Up to `limit` bytes of the body, and whether that was all of it.
async fn read_bounded(mut response: reqwest::Response, limit: usize) -> Result<(Vec<u8>, bool), PollError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        if body.len() + chunk.len() > limit {
            return Ok((body, false));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, true))
}

/// An error and its causes, without the address (the log line has it) and safe to show.
fn chain(error: &reqwest::Error) -> String {
    let mut told = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        told = cause.to_string();
        next = cause.source();
    }
    if told.is_empty() {
        told = "the request failed".to_owned();
    }
    display_safe_to(&told, 140)
}

fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("[openattestation] {option} {} cannot be read: {error}", path.display()))
}
