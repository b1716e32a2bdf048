//! Section `[openattestation]`: which verifier is asked, and how patiently.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use crate::adapter::secret::Secret;

/// Most hosts in one request.
pub const MAX_BATCH: usize = 200;

/// How the verifier is reached. A check cannot override any of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base address, for instance `https://oat.example.org:8443/OpenAttestationWebServices/V1.0` (OpenAttestation 1.0) or
    /// `https://oat.example.org:8181/AttestationService/resources` (2.x); `/PollHosts` is appended.
    pub url: String,
    /// Allows `http://` to a loopback address, for a laboratory: anyone who can listen there can answer for the verifier.
    pub insecure_loopback_http: bool,
    /// PEM file with the only authorities believed for the verifier; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate (chain) shown to the verifier; needs `client_key`.
    pub client_cert: Option<PathBuf>,
    /// PEM file with its private key.
    pub client_key: Option<PathBuf>,
    /// Sent in the header `x-auth-blob`, as TrustedFilter did.
    pub auth_blob: Option<Secret>,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// Shortest wait for one reply, where the time left allows it: no OpenAttestation answers in less than about a second, and
    /// 1.0 and 1.5.0 need ten for a host asked alone.
    pub min_request_time: Duration,
    /// Longest wait for one reply; OpenAttestation 1.x holds a reply 50 to 60 s for a silent host.
    pub request_timeout: Duration,
    /// Largest reply read, in bytes.
    pub max_reply_bytes: usize,
    /// Hosts per request, 1 to 200.
    pub batch: usize,
    /// Requests at a time for batches, and again as many for hosts asked alone; 1 to 64.
    pub concurrency: usize,
    /// How long a host that held up a batch is asked alone.
    pub culprit_memory: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            insecure_loopback_http: false,
            ca_file: None,
            client_cert: None,
            client_key: None,
            auth_blob: None,
            connect_timeout: Duration::from_secs(10),
            min_request_time: Duration::from_secs(2),
            request_timeout: Duration::from_secs(65),
            max_reply_bytes: 4 << 20,
            batch: 100,
            concurrency: 4,
            culprit_memory: Duration::from_secs(1800),
        }
    }
}

impl Settings {
    /// The address of PollHosts.
    ///
    /// # Errors
    /// A sentence naming all faults of these settings.
    pub(super) fn checked_url(&self) -> Result<Url, String> {
        let mut faults = Vec::new();
        let url = match Url::parse(&self.url) {
            Ok(url) => Some(url),
            Err(error) => {
                faults.push(format!("url is not valid ({error}): write https://HOST:PORT/BASE-PATH"));
                None
            }
        };
        if let Some(url) = &url {
            let loopback_allowed = self.insecure_loopback_http && is_loopback(url);
            match url.scheme() {
                "https" => {}
                "http" if loopback_allowed => {}
                _ => faults.push(
                    "url must begin with https:// (http:// only to a loopback address with insecure_loopback_http = true)".to_owned(),
                ),
            }
            if !url.username().is_empty() || url.password().is_some() {
                faults.push("url must not hold a user name or password: use client_cert or auth_blob".to_owned());
            }
            if url.query().is_some() || url.fragment().is_some() {
                faults.push("url must not hold a query or fragment".to_owned());
            }
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            faults.push("client_cert and client_key belong together: set both or none".to_owned());
        }
        let mut range = |name: &str, value: u128, low: u128, high: u128| {
            if value < low || value > high {
                faults.push(format!("{name} is {value}: use {low} to {high}"));
            }
        };
        range("batch", self.batch as u128, 1, MAX_BATCH as u128);
        range("concurrency", self.concurrency as u128, 1, 64);
        range("max_reply_bytes", self.max_reply_bytes as u128, 1 << 10, 64 << 20);
        range("connect_timeout (ms)", self.connect_timeout.as_millis(), 1, 600_000);
        range("min_request_time (ms)", self.min_request_time.as_millis(), 1, 60_000);
        range("request_timeout (ms)", self.request_timeout.as_millis(), 1, 1_200_000);
        match url {
            Some(mut url) if faults.is_empty() => {
                let path = format!("{}/PollHosts", url.path().trim_end_matches('/'));
                url.set_path(&path);
                Ok(url)
            }
            _ => Err(format!("[openattestation]: {}", faults.join("; "))),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with_url(url: &str) -> Settings {
        Settings { url: url.to_owned(), ..Settings::default() }
    }

    #[test]
    fn plain_http_is_refused_except_to_loopback_on_purpose() {
        assert_eq!(with_url("https://h:8443/base/").checked_url().unwrap().as_str(), "https://h:8443/base/PollHosts");
        assert!(with_url("http://127.0.0.1/base").checked_url().is_err());
        let lab = |url: &str| Settings { insecure_loopback_http: true, ..with_url(url) }.checked_url();
        assert!(
            lab("http://127.0.0.1/base").is_ok() && lab("http://[::1]/b").is_ok() && lab("http://localhost/b").is_ok()
        );
        assert!(lab("http://oat.example.org/base").is_err() && lab("http://127.0.0.1.example.org/b").is_err());
    }

    #[test]
    fn all_faults_are_told_together() {
        let settings = Settings { batch: 201, client_cert: Some("x".into()), ..with_url("ftp://u:p@h/") };
        let told = settings.checked_url().unwrap_err();
        for part in ["https://", "user name", "client_key", "batch is 201"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
