//! The setting `[database] connection`, as operators write it for other services, and what it means here.

use std::path::PathBuf;

use url::Url;

use super::{Kind, StoreError};

/// A database and how to reach it. It may hold a password, and shows nothing.
#[derive(Clone)]
pub struct Connection {
    /// What kind of database.
    pub kind: Kind,
    /// As the library wants it.
    pub(super) url: String,
    /// The file, of SQLite.
    pub path: Option<PathBuf>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("kind", &self.kind).field("path", &self.path).finish_non_exhaustive()
    }
}

fn refuse<T>(what: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Connection(what.into()))
}

impl Connection {
    /// Reads the setting for `role`, for whose name `{role}` stands in it.
    ///
    /// # Errors
    /// [`StoreError::Connection`], which never holds a password.
    pub fn parse(setting: &str, role: &str) -> Result<Self, StoreError> {
        let setting = setting.replace("{role}", role);
        let scheme = setting.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => sqlite(&setting),
            "mysql" | "mariadb" | "mysql+pymysql" | "mariadb+pymysql" | "mysql+mysqldb" => mysql(&setting),
            // The statements are the same text for every database, and PostgreSQL numbers the places of arguments ($1) where the others
            // have question marks.
            "postgresql" | "postgres" | "postgresql+psycopg2" => {
                refuse("PostgreSQL is not supported; use mysql:// (MariaDB) or sqlite:///path/to/file.sqlite")
            }
            _ => {
                refuse(format!("{scheme:?} is not supported; use sqlite:///path/to/file.sqlite or mysql:// (MariaDB)"))
            }
        }
    }

    /// Where the database is, for people: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        match (&self.path, Url::parse(&self.url)) {
            (Some(path), _) => path.display().to_string(),
            (None, Ok(url)) => {
                let port = url.port().unwrap_or(3306);
                format!("{} on {}:{port}", url.path().trim_start_matches('/'), url.host_str().unwrap_or("localhost"))
            }
            (None, Err(_)) => "a MariaDB".to_owned(),
        }
    }

    /// The command that backs up a MariaDB, with its own tool; it asks for the password.
    #[must_use]
    pub fn dump_command(&self) -> String {
        let Ok(url) = Url::parse(&self.url) else { return String::new() };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let socket = url.query_pairs().find(|(name, _)| name == "socket").map(|(_, value)| value.into_owned());
        let place = match socket {
            Some(socket) => format!("--socket={}", quoted(&socket)),
            None => format!(
                "--host={} --port={}",
                quoted(url.host_str().unwrap_or("localhost")),
                url.port().unwrap_or(3306)
            ),
        };
        format!(
            "mariadb-dump --single-transaction --skip-lock-tables --hex-blob --default-character-set=utf8mb4 {place} --user={} --password {}",
            quoted(&decoded(url.username())),
            quoted(&decoded(url.path().trim_start_matches('/'))),
        )
    }
}

fn sqlite(setting: &str) -> Result<Connection, StoreError> {
    let Some(path) = setting.strip_prefix("sqlite://") else {
        return refuse("write sqlite:// and the path of the file: sqlite:///path/to/file.sqlite");
    };
    let path = path.split('?').next().unwrap_or(path);
    if path.is_empty() || path == "/" {
        return refuse("the path of the file is missing: sqlite:///path/to/file.sqlite");
    }
    Ok(Connection { kind: Kind::Sqlite, url: format!("sqlite://{path}"), path: Some(PathBuf::from(path)) })
}

/// `mysql+pymysql://user:password@host:port/name?option=value`, with the options that PyMySQL takes and we can honour.
fn mysql(setting: &str) -> Result<Connection, StoreError> {
    let rest = setting.split_once("://").map(|(_, rest)| rest);
    let url = rest.and_then(|rest| Url::parse(&format!("mysql://{rest}")).ok());
    let Some(mut url) = url.filter(Url::has_host) else {
        return refuse(
            "write mysql://USER:PASSWORD@HOST/DATABASE; characters such as / # ? @ % in user and password are written percent-encoded",
        );
    };
    if url.path().trim_start_matches('/').is_empty() {
        return refuse("the name of the database is missing: mysql://USER:PASSWORD@HOST/DATABASE");
    }
    let given: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let (mut kept, mut mode, mut checks_host) = (Vec::new(), None, true);
    for (name, value) in given {
        match name.replace('_', "-").as_str() {
            "ssl-ca" | "sslca" => kept.push(("ssl-ca", value)),
            "ssl-cert" | "sslcert" => kept.push(("ssl-cert", value)),
            "ssl-key" | "sslkey" => kept.push(("ssl-key", value)),
            "ssl-mode" | "sslmode" => mode = Some(value),
            "ssl-check-hostname" | "ssl-verify-identity" => checks_host = value != "false",
            "unix-socket" | "socket" => kept.push(("socket", value)),
            // What is stored is UTF-8 whatever is written here, and so is the connection.
            "charset" if value.eq_ignore_ascii_case("utf8") || value.eq_ignore_ascii_case("utf8mb4") => {}
            "charset" => return refuse("charset can only be utf8mb4"),
            _ => {
                let name = crate::text::display_safe(&name);
                return refuse(format!(
                    "there is no option {name}; there are charset, ssl_ca, ssl_cert, ssl_key, ssl_check_hostname, ssl_mode, unix_socket"
                ));
            }
        }
    }
    // Who names an authority wants the server's certificate verified.
    let has_authority = kept.iter().any(|(name, _)| *name == "ssl-ca");
    let mode = mode.or_else(|| {
        has_authority.then(|| if checks_host { "VERIFY_IDENTITY".to_owned() } else { "VERIFY_CA".to_owned() })
    });
    kept.extend(mode.map(|mode| ("ssl-mode", mode)));
    url.set_query(None);
    for (name, value) in kept {
        url.query_pairs_mut().append_pair(name, &value);
    }
    Ok(Connection { kind: Kind::MySql, url: url.into(), path: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn url(setting: &str) -> String {
        Connection::parse(setting, "nodes").unwrap().url
    }

    fn refusal(setting: &str) -> String {
        Connection::parse(setting, "nodes").unwrap_err().to_string()
    }

    #[test]
    fn what_operators_copy_from_other_services_is_understood() {
        assert_eq!(url("mysql+pymysql://u:p@db/spice?charset=utf8"), "mysql://u:p@db/spice");
        assert_eq!(url("mysql://u@db:3307/spice-{role}"), "mysql://u@db:3307/spice-nodes");
        assert_eq!(
            url("mysql+pymysql://u:p@db/spice?ssl_ca=/etc/ca.pem"),
            "mysql://u:p@db/spice?ssl-ca=%2Fetc%2Fca.pem&ssl-mode=VERIFY_IDENTITY"
        );
        assert!(url("mysql://u:p@db/spice?ssl_ca=/ca&ssl_check_hostname=false").ends_with("ssl-mode=VERIFY_CA"));
        assert_eq!(url("mysql://u:p@localhost/s?unix_socket=/run/m"), "mysql://u:p@localhost/s?socket=%2Frun%2Fm");
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_showing_the_password() {
        for (setting, says) in [
            ("mysql://u:hunter2@db", "name of the database"),
            ("mysql://u:hunter2@db/spice?plugin=1", "no option plugin"),
            ("mysql://u:hunter2@db/spice?charset=latin1", "utf8mb4"),
            ("mysql://u:hunter2/@db/spice", "percent-encoded"),
            ("mysql://", "USER:PASSWORD@HOST"),
            ("postgresql://u:hunter2@db/spice", "PostgreSQL is not supported"),
            ("oracle://u:hunter2@db", "use sqlite:///"),
            ("sqlite://", "path of the file"),
            ("sqlite:x", "sqlite:///"),
        ] {
            let text = refusal(setting);
            assert!(text.contains(says) && !text.contains("hunter2"), "{setting}: {text}");
        }
        let shown = Connection::parse("mysql://u:hunter2@db/spice", "nodes").unwrap();
        assert_eq!(shown.shown(), "spice on db:3306");
        assert!(!format!("{shown:?} {}", shown.dump_command()).contains("hunter2"));
    }
}
