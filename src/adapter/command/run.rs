//! The service's side of one run: starts the launcher, reads what the program writes, within limits.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::sync::Notify;

use super::job::{Job, MAX_LINE, Report};
use super::launch::SUBCOMMAND;

/// How much longer than the program's time limit the launcher may take to clean up and report.
const GRACE: Duration = Duration::from_secs(10);

/// What a run left.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) report: Report,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// It wrote more than it may, and was killed for it.
    pub(super) flooded: bool,
}

/// Runs `job`. Dropping the future ends the program: the launcher sees its socket close.
///
/// # Errors
/// A sentence, when the launcher could not be started or broke off.
pub(super) async fn run(launcher: &Path, job: &Job, output_limit: usize) -> Result<Ran, String> {
    let line = {
        let mut line = serde_json::to_string(job).map_err(|error| error.to_string())?;
        line.push('\n');
        line
    };
    if line.len() as u64 > MAX_LINE {
        return Err("the batch is too large for the launcher".to_owned());
    }
    let told = |error: std::io::Error| format!("the launcher {} cannot be started: {error}", launcher.display());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(told)?;
    ours.set_nonblocking(true).map_err(told)?;
    let (control_in, control_out) = UnixStream::from_std(ours).map_err(told)?.into_split();
    // Not killed on drop: it must outlive its wards to kill them.
    let mut child = Command::new(launcher)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("the launcher has no output".to_owned());
    };

    let flood = Notify::new();
    let reading = async {
        let (report, stdout, stderr) = tokio::join!(
            read_report(control_in),
            read_limited(stdout, output_limit, &flood),
            read_limited(stderr, output_limit, &flood)
        );
        (report, stdout, stderr)
    };
    let whole = async {
        tokio::select! {
            read = reading => read,
            never = talk(control_out, line.as_bytes(), &flood) => match never {},
        }
    };
    let limit = Duration::from_millis(job.timeout_ms) + GRACE;
    let Ok((report, (stdout, flooded_out), (stderr, flooded_err))) = tokio::time::timeout(limit, whole).await else {
        let _ = child.start_kill();
        return Err(
            "the launcher did not end in time and was killed; look for left-over processes of the plugins' user"
                .to_owned(),
        );
    };
    let _ = child.wait().await;
    let report = report.map_err(|fault| {
        let complaint = crate::text::display_safe_to(String::from_utf8_lossy(&stderr).trim(), 120);
        format!("the launcher gave no report ({fault}) {complaint}")
    })?;
    Ok(Ran { report, stdout, stderr, flooded: flooded_out || flooded_err })
}

/// Hands over the job, then keeps the socket open until the program floods; closing it is the order to kill.
async fn talk(mut control: OwnedWriteHalf, line: &[u8], flood: &Notify) -> std::convert::Infallible {
    // A launcher that does not read gives no report, which is noticed there.
    let _ = control.write_all(line).await;
    flood.notified().await;
    drop(control);
    std::future::pending().await
}

async fn read_report(control: OwnedReadHalf) -> Result<Report, String> {
    let mut line = String::new();
    BufReader::new(control.take(MAX_LINE)).read_line(&mut line).await.map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| error.to_string())
}

/// Keeps up to `limit` bytes; tells when there are more, and throws those away.
async fn read_limited(mut from: impl AsyncRead + Unpin, limit: usize, flood: &Notify) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    let mut flooded = false;
    let mut chunk = [0_u8; 8192];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let room = limit.saturating_sub(kept.len());
        let read = chunk.get(..length).unwrap_or_default();
        kept.extend_from_slice(read.get(..room.min(length)).unwrap_or_default());
        if length > room && !flooded {
            flooded = true;
            flood.notify_one();
        }
    }
    (kept, flooded)
}
