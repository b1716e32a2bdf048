//! A session with the cloud.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::RETRY_AFTER;
use hyper::{Method, StatusCode};
use openstack_sdk::AsyncOpenStack;
use openstack_sdk::api::{QueryAsync, QueryParams, RestEndpoint, raw};
use openstack_sdk::config::{Auth, CloudConfig, ConfigFile};
use openstack_sdk::types::{ApiVersion, ServiceType};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::config::{CloudAccount, OpenStackSettings};
use crate::text::{display_safe, display_safe_to};

/// Nova answers some calls only after a minute, when a compute service it had to ask has just died.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long logging in may take.
const LOGIN_PATIENCE: Duration = Duration::from_secs(60);
/// Longest pause that an API may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a call that was refused for being one too many is made again.
const TRIES: u32 = 3;

/// Why an API did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// The account cannot be used as it is configured.
    #[error("{0}; see [openstack] in the configuration")]
    Account(String),
    /// No answer, or none that makes sense; whether something was done is not known.
    #[error("{0}")]
    Away(String),
    /// An answer that says no.
    #[error("{what}: {status} {message}")]
    Refused {
        /// Method and path.
        what: String,
        /// HTTP's word for it.
        status: u16,
        /// The API's own words, safe to show.
        message: String,
    },
    /// An answer of another form than its documentation says.
    #[error("{what}: the answer cannot be read: {why}")]
    Malformed {
        /// Method and path.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// One question to an API.
#[derive(Debug, Clone)]
pub struct Call {
    service: ServiceType,
    path: String,
    query: Vec<(&'static str, String)>,
    version: ApiVersion,
}

impl Call {
    /// A GET of `path` in Nova's API, under microversion 2.53: services and hypervisors have ids since then, and nothing of later ones is needed.
    #[must_use]
    pub fn nova(path: impl Into<String>) -> Self {
        let (path, version) = (path.into(), ApiVersion::new(2, 53));
        Self { service: ServiceType::Compute, path, query: Vec::new(), version }
    }

    /// With a parameter more in its query.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Method and path, for messages.
    #[must_use]
    pub fn what(&self) -> String {
        display_safe(&format!("GET {}/{}", self.service, self.path))
    }
}

impl RestEndpoint for Call {
    fn method(&self) -> Method {
        Method::GET
    }

    fn endpoint(&self) -> Cow<'static, str> {
        self.path.clone().into()
    }

    fn service_type(&self) -> ServiceType {
        self.service.clone()
    }

    fn parameters(&self) -> QueryParams<'_> {
        let mut parameters = QueryParams::default();
        parameters.extend(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        parameters
    }

    fn api_version(&self) -> Option<ApiVersion> {
        Some(self.version)
    }
}

/// One account's way to the APIs. It logs in when it is first needed, and again after a failure; calls go one after the other, so that SPICE
/// is never more than one request of load.
pub struct Session {
    config: CloudConfig,
    live: Mutex<Option<AsyncOpenStack>>,
}

impl Session {
    /// A session of the account in `settings`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`CloudError::Account`] where there is none, or clouds.yaml has no such entry or cannot be read.
    pub fn new(settings: &OpenStackSettings) -> Result<Self, CloudError> {
        let mut config = match &settings.account {
            None => return Err(CloudError::Account("no account is named: set cloud, or auth_url and password".into())),
            Some(CloudAccount::Cloud { name, file }) => from_clouds_yaml(name, file.as_ref())?,
            Some(CloudAccount::Password {
                auth_url,
                username,
                password,
                user_domain_name,
                project_name,
                project_domain_name,
            }) => {
                let auth = Auth {
                    auth_url: Some(auth_url.clone()),
                    username: Some(username.clone()),
                    password: Some(password.reveal().as_str().into()),
                    user_domain_name: Some(user_domain_name.clone()),
                    project_name: Some(project_name.clone()),
                    project_domain_name: Some(project_domain_name.clone()),
                    ..Auth::default()
                };
                let interface = Some(settings.interface.clone());
                CloudConfig { auth: Some(auth), auth_type: Some("password".into()), interface, ..Default::default() }
            }
        };
        config.region_name = settings.region_name.clone().or(config.region_name);
        config.cacert = settings.cafile.as_ref().map(|file| file.display().to_string()).or(config.cacert);
        // Keystone is where we are told it is. The SDK would look for the kind of endpoint that is wanted of the others, before it can know any.
        if let Some(keystone) = config.auth.as_ref().and_then(|auth| auth.auth_url.as_deref()).map(versioned) {
            let keystone = serde_json::from_value(keystone.into());
            let keystone = keystone.map_err(|error| CloudError::Account(told("auth_url", &error)))?;
            config.options.entry("identity_endpoint_override".to_owned()).or_insert(keystone);
        }
        Ok(Self { config, live: Mutex::default() })
    }

    /// Makes a call and reads its answer. What was refused for being one too many is made again, after the pause that the API asks for.
    ///
    /// # Errors
    /// [`CloudError`].
    pub async fn ask(&self, call: &Call) -> Result<Value, CloudError> {
        let mut live = self.live.lock().await;
        let mut tries = 0;
        loop {
            tries += 1;
            let (client, is_new) = match live.take() {
                Some(client) => (client, false),
                None => (self.log_in().await?, true),
            };
            // Where it fails the session is not kept: its token or its catalog may be why.
            let answer = raw(call.clone()).skip_error_check(true).query_async(&client).await;
            let answer = answer.map_err(|error| CloudError::Away(told(&call.what(), &error)))?;
            let status = answer.status();
            if status != StatusCode::UNAUTHORIZED {
                *live = Some(client);
            } else if !is_new {
                // The token is over, or was taken back. (Left to the SDK, one that is refused while it logs in hangs for ever.)
                continue;
            }
            if matches!(status.as_u16(), 429 | 503) && tries < TRIES {
                let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(asked.unwrap_or(1)).min(LONGEST_PAUSE)).await;
                continue;
            }
            if !status.is_success() {
                let message = message(answer.body());
                return Err(CloudError::Refused { what: call.what(), status: status.as_u16(), message });
            }
            if answer.body().is_empty() {
                return Ok(Value::Null);
            }
            let malformed =
                |error: serde_json::Error| CloudError::Malformed { what: call.what(), why: error.to_string() };
            return serde_json::from_slice(answer.body()).map_err(malformed);
        }
    }

    async fn log_in(&self) -> Result<AsyncOpenStack, CloudError> {
        // Its cache would put tokens on the disk.
        let builder = AsyncOpenStack::builder(&self.config);
        let builder = builder.disable_auth_cache(true).max_auth_retries(0).http_timeout(PATIENCE);
        let connect = async {
            let client = builder.connect().await.map_err(|error| CloudError::Away(told("logging in", &error)))?;
            let found = client.discover_service_endpoint(&ServiceType::Compute).await;
            found.map_err(|error| CloudError::Away(told("looking for the compute API", &error)))?;
            Ok(client)
        };
        let late = |_| CloudError::Away(format!("logging in took longer than {} s", LOGIN_PATIENCE.as_secs()));
        tokio::time::timeout(LOGIN_PATIENCE, connect).await.map_err(late)?
    }
}

/// Keystone's address with the version of its API, in the form to which paths are added.
fn versioned(auth_url: &str) -> String {
    let base = auth_url.trim_end_matches('/');
    if base.ends_with("/v3") { format!("{base}/") } else { format!("{base}/v3/") }
}

fn from_clouds_yaml(name: &str, file: Option<&PathBuf>) -> Result<CloudConfig, CloudError> {
    let cannot = |error: &dyn std::fmt::Display| CloudError::Account(told("clouds.yaml", error));
    let clouds = match file {
        Some(file) => ConfigFile::builder()
            .add_source(file)
            .map_err(|error| cannot(&error))?
            .build()
            .map_err(|error| cannot(&error))?,
        None => ConfigFile::new().map_err(|error| cannot(&error))?,
    };
    let found = clouds.get_cloud_config(name).map_err(|error| cannot(&error))?;
    found.ok_or_else(|| CloudError::Account(format!("clouds.yaml has no cloud {}", display_safe(name))))
}

/// An error with its causes, on one line. Those of the SDK hold no secrets; what a server said may hold anything.
fn told(what: &str, error: &dyn std::fmt::Display) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{what}: {}", display_safe_to(&text, 255))
}

/// What an API says for a refusal: `{"badRequest": {"code": 400, "message": ...}}`, `{"errors": [{"detail": ...}]}`, or anything.
fn message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let inner = json.as_object().and_then(|object| object.values().next());
    let text = inner.and_then(|inner| inner["message"].as_str().or_else(|| inner[0]["detail"].as_str()));
    let text = text.map_or_else(|| String::from_utf8_lossy(body), Cow::from);
    display_safe_to(text.trim(), 255)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_says_for_a_refusal_is_found_and_safe_to_show() {
        let nova = br#"{"badRequest": {"code": 400, "message": "No updates were requested.\nPlease specify."}}"#;
        assert_eq!(message(nova), display_safe("No updates were requested.\nPlease specify."));
        let placement = br#"{"errors": [{"status": 409, "detail": "generation conflict"}]}"#;
        assert_eq!(message(placement), "generation conflict");
        assert_eq!(message(b"<html>502</html>"), "<html>502</html>");
        assert!(message(&[0xff; 1000]).chars().count() <= 255);
    }

    #[test]
    fn keystone_is_found_with_and_without_its_version() {
        for url in ["http://c:5000", "http://c:5000/", "http://c:5000/v3", "http://c:5000/v3/"] {
            assert_eq!(versioned(url), "http://c:5000/v3/");
        }
        assert_eq!(versioned("https://c/identity"), "https://c/identity/v3/");
    }

    #[test]
    fn a_cloud_that_clouds_yaml_does_not_have_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clouds.yaml");
        std::fs::write(&file, "clouds:\n  one:\n    auth:\n      auth_url: http://127.0.0.1:1/v3\n").unwrap();
        let settings = |name: &str| OpenStackSettings {
            account: Some(CloudAccount::Cloud { name: name.into(), file: Some(file.clone()) }),
            region_name: None,
            interface: "internal".into(),
            cafile: None,
        };
        assert!(Session::new(&settings("one")).is_ok());
        let Err(error) = Session::new(&settings("two")) else { panic!("it was found") };
        assert!(error.to_string().contains("no cloud two"), "{error}");
    }
}
