//! `spiced exec-plugin`: the process that stands over one run of a program, so that nothing of it outlives the run.
//!
//! It gets a job over the socket that is its standard input, pins the program's bytes, starts itself once more to give up
//! all rights and become the program (`confine.rs`), and waits for its end, its time limit or the end of the service,
//! whichever is first. As a child subreaper it inherits every process the program leaves behind, daemonised or not, and
//! kills them all before it reports.
//!
//! What remains: a process that forks and dies faster than it can be found could escape the sweep for as long as the sweep
//! takes turns with it (it is given up after some seconds and reported); and if this launcher itself is killed, by root
//! or for lack of memory, its wards go to init. The service's own control group ends both when the service stops.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::io::FdFlags;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::confine;
use super::job::{End, Job, MAX_LINE, Report};
use super::program;

/// The subcommand's name.
pub const SUBCOMMAND: &str = "exec-plugin";
/// What the second stage is started with.
const INNER: &str = "inner";
/// How long left-over processes are hunted.
const SWEEP: Duration = Duration::from_secs(5);
/// Longest text the second stage may say about its failure.
const MAX_COMPLAINT: u64 = 4096;

/// Runs the subcommand with the process's own arguments; does not return.
pub fn launch_main() -> ! {
    let mut arguments = std::env::args().skip(2);
    match arguments.next().as_deref() {
        Some(INNER) => confine::become_program(arguments),
        None => {
            let code = match supervise() {
                Ok(()) => 0,
                Err(fault) => {
                    eprintln!("spiced exec-plugin: {fault}");
                    1
                }
            };
            std::process::exit(code)
        }
        Some(_) => {
            eprintln!("spiced exec-plugin is started by the service itself and takes no arguments");
            std::process::exit(2)
        }
    }
}

fn supervise() -> Result<(), String> {
    confine::close_all_but(&[0, 1, 2]);
    let control = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from)
        .map_err(|error| format!("no standard input: {error}"))?;
    let mut reader = BufReader::new(control.try_clone().map_err(|error| error.to_string())?);
    let mut line = String::new();
    reader.by_ref().take(MAX_LINE).read_line(&mut line).map_err(|error| {
        format!("no job on standard input ({error}); this command is started by the service itself")
    })?;
    let job: Job = serde_json::from_str(&line).map_err(|error| format!("the job cannot be read: {error}"))?;
    let report = match Ward::start(job, reader) {
        Ok(ward) => ward.watch(),
        Err(reason) => Report { end: End::Refused(reason), left_behind: 0, stragglers: false },
    };
    let mut answer = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    answer.push('\n');
    // The service may be gone; then nobody needs the report.
    let _ = (&control).write_all(answer.as_bytes());
    Ok(())
}

/// What can happen while the program runs.
enum Event {
    /// It ended, and this is what the second stage complained about, if it did.
    Ended(std::io::Result<ExitStatus>, String),
    /// The service closed the socket.
    Abandoned,
}

/// The program under way.
struct Ward {
    /// Stays the right process whatever ids are given out again.
    process: OwnedFd,
    until: Instant,
    events: Receiver<Event>,
}

impl Ward {
    fn start(job: Job, control: BufReader<UnixStream>) -> Result<Self, String> {
        let until = Instant::now() + Duration::from_millis(job.timeout_ms);
        let bytes = program::read_admitted(&job.program, &job.sha256)?;
        let program = program::sealed("spice-plugin", &bytes)?;
        let stdin = job.stdin.clone();
        let spec = serde_json::to_vec(&Job { stdin: None, ..job }).map_err(|error| error.to_string())?;
        let spec = program::sealed("spice-job", &spec)?;
        let (complaints, complain) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("cannot become a subreaper: {error}"))?;

        let handed_over = [inherit(&program)?, inherit(&spec)?, inherit(&complain)?];
        let mut child = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .arg(INNER)
            .args(handed_over)
            .env_clear()
            .current_dir("/")
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .spawn()
            .map_err(|error| format!("the launcher cannot start itself: {error}"))?;
        drop((program, spec, complain));

        let process = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())
            .map_err(|error| format!("the new process cannot be held: {error}"))?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
            // A program that does not read its input holds up only this thread, which ends with the process.
            std::thread::spawn(move || {
                let _ = pipe.write_all(text.as_bytes());
            });
        }
        Ok(Self { process, until, events: listen(child, complaints.into(), control) })
    }

    /// Waits, kills, sweeps.
    fn watch(self) -> Report {
        let end = match self.events.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
            Ok(Event::Ended(status, complaint)) => end_of(status, complaint),
            other => {
                let end = if matches!(other, Err(RecvTimeoutError::Timeout)) { End::TimedOut } else { End::Stopped };
                let _ = pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
                while !matches!(self.events.recv(), Ok(Event::Ended(..)) | Err(_)) {}
                end
            }
        };
        let (left_behind, stragglers) = sweep(Instant::now() + SWEEP);
        Report { end, left_behind, stragglers }
    }
}

/// Lets the next child inherit `file`; gives its number.
fn inherit(file: &impl AsFd) -> Result<String, String> {
    rustix::io::fcntl_setfd(file, FdFlags::empty()).map_err(|error| format!("cannot hand over a file: {error}"))?;
    Ok(file.as_fd().as_raw_fd().to_string())
}

/// One thread waits for the program, one for the service.
fn listen(mut child: Child, complaints: OwnedFd, mut control: BufReader<UnixStream>) -> Receiver<Event> {
    let (sender, events) = channel();
    let ended = sender.clone();
    std::thread::spawn(move || {
        // The pipe closes when the second stage becomes the program, or dies.
        let mut complaint = String::new();
        let _ = File::from(complaints).take(MAX_COMPLAINT).read_to_string(&mut complaint);
        let status = child.wait();
        let _ = ended.send(Event::Ended(status, complaint));
    });
    std::thread::spawn(move || {
        // Anything but more input means that the service is gone or wants an end.
        let mut rest = [0_u8; 64];
        while matches!(control.read(&mut rest), Ok(n) if n > 0) {}
        let _ = sender.send(Event::Abandoned);
    });
    events
}

fn end_of(status: std::io::Result<ExitStatus>, complaint: String) -> End {
    if !complaint.is_empty() {
        return End::Refused(complaint);
    }
    match status {
        Err(error) => End::Refused(format!("the program could not be waited for: {error}")),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Signalled(signal.unwrap_or_default()),
        },
    }
}

/// Kills and reaps every child until there is none: whatever the program's processes leave behind becomes a child of ours.
/// Gives how many there were, and whether some are left.
fn sweep(until: Instant) -> (u32, bool) {
    let mut reaped = 0_u32;
    loop {
        // Not reaped yet, so none of these ids can belong to another process.
        for pid in children() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        // Everything that was there is dying, so this waits for no living process. One that came since is found next time.
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return (reaped, false),
            Err(Errno::EINTR) => {}
            Err(_) => return (reaped, true),
            Ok(WaitStatus::StillAlive) => std::thread::yield_now(),
            Ok(_) => reaped = reaped.saturating_add(1),
        }
        if Instant::now() > until {
            return (reaped, true);
        }
    }
}

/// The ids of our children.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .map(Pid::from_raw)
        .collect()
}
