//! A real MariaDB for the laboratory: one server per test process, started through `tools/mariadb` on first use, and a fresh database per
//! test. It runs under a supervisor whose standard input this process holds open: however this process ends, the server ends with it.
//! `SPICE_MARIADB_URL` names a server that is there already. Tests that kill it take one of their own, [`OwnMariaDb`].

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use sqlx::mysql::MySqlPool;

use crate::lab::root;

/// A database of its own.
pub struct Fresh {
    /// As `[database] connection` has it.
    pub connection: String,
    /// Beside SPICE's own connections.
    pub pool: MySqlPool,
    pub name: String,
}

impl Fresh {
    /// On the shared server. Its default character set is none that could hold all names.
    pub async fn new() -> Self {
        Self::at(&tokio::task::spawn_blocking(shared).await.expect("the shared MariaDB")).await
    }

    /// On the server with this URL.
    pub async fn at(server: &str) -> Self {
        let name = format!("spice_{}", uuid::Uuid::new_v4().simple());
        let plain = server.replacen("mysql+pymysql", "mysql", 1);
        let all = MySqlPool::connect(&format!("{plain}mysql")).await.expect("MariaDB answers");
        let create = format!("CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&all).await.expect("a database");
        all.close().await;
        let pool = MySqlPool::connect(&format!("{plain}{name}")).await.expect("the database");
        Self { connection: format!("{server}{name}"), pool, name }
    }

    /// The section of SPICE's configuration.
    pub fn configuration(&self) -> String {
        format!("[database]\nconnection = {}\n", self.connection)
    }

    /// The port in its connection.
    pub fn port(&self) -> u16 {
        let url = url::Url::parse(&self.connection).expect("a URL");
        url.port().expect("a port")
    }

    /// Ends every connection to the database but the one that asks, as a server does with idle ones; how many they were.
    pub async fn end_connections(&self) -> usize {
        let query =
            "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()";
        let ids: Vec<u64> = sqlx::query_scalar(query).bind(&self.name).fetch_all(&self.pool).await.expect("a list");
        for id in &ids {
            let _ = sqlx::query(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(&self.pool).await;
        }
        ids.len()
    }
}

fn shared() -> String {
    // The supervisor is kept, never waited for.
    static SHARED: OnceLock<(String, Option<std::process::Child>)> = OnceLock::new();
    let (url, _) = SHARED.get_or_init(|| {
        if let Ok(url) = std::env::var("SPICE_MARIADB_URL") {
            return (url, None);
        }
        let folder = tempfile::Builder::new().prefix("spice-mariadb-").tempdir().expect("a folder").keep();
        let (url, supervisor) = run_supervised(&folder, true);
        (url, Some(supervisor))
    });
    url.clone()
}

/// Starts `tools/mariadb run` and waits until it reports where it is.
fn run_supervised(folder: &Path, remove_afterwards: bool) -> (String, std::process::Child) {
    let remove = if remove_afterwards { "rm -rf \"$2\"" } else { ":" };
    let mut child = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("\"$1\" run \"$2\"; code=$?; {remove}; exit $code"))
        .arg("sh")
        .arg(root().join("tools/mariadb"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tools/mariadb runs");
    let mut lines = BufReader::new(child.stdout.as_mut().expect("stdout")).lines();
    let url = loop {
        let line = lines.next().expect("tools/mariadb could not start MariaDB; see above").expect("text");
        if let Some(url) = line.strip_prefix("SPICE_MARIADB_URL=") {
            break url.to_owned();
        }
    };
    (url, child)
}

/// A server that one test may kill and restart.
pub struct OwnMariaDb {
    folder: tempfile::TempDir,
    supervisor: std::process::Child,
    url: String,
}

impl OwnMariaDb {
    /// Starts one.
    pub async fn start() -> Self {
        tokio::task::spawn_blocking(|| {
            let folder = tempfile::Builder::new().prefix("spice-mariadb-").tempdir().expect("a folder");
            let (url, supervisor) = run_supervised(folder.path(), false);
            Self { folder, supervisor, url }
        })
        .await
        .expect("MariaDB starts")
    }

    /// A database on it.
    pub async fn fresh(&self) -> Fresh {
        Fresh::at(&self.url).await
    }

    /// `kill` (SIGKILL, as a power cut), `stop` or `restart` (on the same port).
    pub async fn order(&self, what: &str) {
        let mut command = tokio::process::Command::new(root().join("tools/mariadb"));
        let done = command.arg(what).arg(self.folder.path()).output().await.expect("tools/mariadb");
        assert!(done.status.success(), "tools/mariadb {what}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for OwnMariaDb {
    fn drop(&mut self) {
        // The supervisor stops the server when its standard input ends; the folder goes after that.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}
