//! The second stage of the launcher: gives up every right and becomes the program.
//!
//! In this order: no inherited descriptors, a session of its own, limits, the other user without groups and capabilities,
//! proof that there is no way back and no secret in reach, then `fexecve` of the sealed bytes. The environment holds PATH,
//! LANG and what the manifest fixes. SIGPIPE stays ignored, as the Rust runtime leaves it: a program that writes to a
//! closed pipe gets an error instead.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid};
use rustix::io::FdFlags;
use rustix::thread::CapabilitySet;

use super::job::{Confinement, Job};
use super::program;

/// Where a program finds others; the distribution's directories, nothing an ordinary user can write to.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program; `arguments` are the numbers of three inherited descriptors. A failure goes to the third.
pub(super) fn become_program(mut arguments: impl Iterator<Item = String>) -> ! {
    let mut open = |write: bool| {
        let number: RawFd = arguments.next()?.parse().ok()?;
        File::options().read(!write).write(write).open(format!("/proc/self/fd/{number}")).ok()
    };
    let (Some(program), Some(spec), Some(mut complain)) = (open(false), open(false), open(true)) else {
        eprintln!("spiced exec-plugin inner is started by the launcher only");
        std::process::exit(2)
    };
    let fault = match confine_and_execute(&program, spec, &complain) {
        Ok(never) => match never {},
        Err(fault) => fault,
    };
    let _ = complain.write_all(fault.as_bytes());
    std::process::exit(126)
}

fn confine_and_execute(program: &File, spec: File, complain: &File) -> Result<std::convert::Infallible, String> {
    let job: Job =
        serde_json::from_reader(spec).map_err(|error| format!("the launcher's job cannot be read: {error}"))?;
    close_all_but(&[0, 1, 2, program.as_raw_fd(), complain.as_raw_fd()]);
    let argv = c_strings(job.argv.iter().cloned())?;
    let environment = c_strings(
        [PATH.to_owned(), "LANG=C".to_owned()]
            .into_iter()
            .chain(job.environment.iter().map(|(name, value)| format!("{name}={value}"))),
    )?;
    keep_open_for_interpreter(program)?;

    nix::unistd::setsid().map_err(|error| format!("no new session: {error}"))?;
    umask(Mode::from_bits_truncate(0o077));
    nix::unistd::chdir("/").map_err(|error| format!("cannot go to /: {error}"))?;
    let confinement = &job.confinement;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_CPU, confinement.cpu_s)?;
    limit(Resource::RLIMIT_NOFILE, confinement.files)?;
    limit(Resource::RLIMIT_FSIZE, confinement.file_bytes)?;
    limit(Resource::RLIMIT_NPROC, confinement.processes)?;
    become_user(confinement)?;
    // Last, because our own image may already be larger; the program's is counted afresh.
    limit(Resource::RLIMIT_AS, confinement.memory_bytes)?;
    match nix::unistd::fexecve(program, &argv, &environment) {
        Ok(never) => match never {},
        Err(error) => Err(format!("the program cannot be executed: {error}; is its interpreter or loader installed?")),
    }
}

/// A script's interpreter opens /dev/fd/N, so that descriptor must survive; an ELF program needs none.
fn keep_open_for_interpreter(program: &File) -> Result<(), String> {
    use std::os::unix::fs::FileExt;
    let mut start = [0_u8; 2];
    let length = program.read_at(&mut start, 0).map_err(|error| format!("the program cannot be read: {error}"))?;
    if start.get(..length).is_some_and(program::is_script) {
        rustix::io::fcntl_setfd(program, FdFlags::empty())
            .map_err(|error| format!("the program cannot be kept open: {error}"))?;
    }
    Ok(())
}

fn c_strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts.map(|text| CString::new(text).map_err(|_| "an argument has a NUL character".to_owned())).collect()
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    let told = |error: nix::Error| format!("the limit {resource:?} cannot be set: {error}");
    let (_, hard) = getrlimit(resource).map_err(told)?;
    let value = rlim_t::min(value, hard);
    setrlimit(resource, value, value).map_err(told)
}

fn become_user(confinement: &Confinement) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(confinement.uid), Gid::from_raw(confinement.gid));
    if uid.is_root() || uid == Uid::current() {
        return Err("the plugins' user must be neither root nor the service's own: set [command] user".to_owned());
    }
    let told = |error: nix::Error| {
        format!(
            "the service cannot change to the plugins' user (uid {uid}): {error}; run it as root, or give it \
             CAP_SETUID, CAP_SETGID and CAP_KILL (AmbientCapabilities= in its systemd unit)"
        )
    };
    nix::unistd::setgroups(&[]).map_err(told)?;
    nix::unistd::setresgid(gid, gid, gid).map_err(told)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(told)?;
    let kernel = |error: rustix::io::Errno| format!("capabilities cannot be given up: {error}");
    rustix::thread::clear_ambient_capability_set().map_err(kernel)?;
    let none = CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(kernel)?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| format!("no_new_privs cannot be set: {error}"))?;
    if nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err("the plugins' user could become root again; the program was not started".to_owned());
    }
    for path in &confinement.secret_files {
        if File::open(path).is_ok() {
            return Err(format!(
                "the plugins' user can read {}, which holds secrets: take that right away (chmod go-rwx), then plugins run again",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Closes every descriptor but those in `keep`.
pub(super) fn close_all_but(keep: &[RawFd]) {
    let Ok(list) = std::fs::read_dir("/proc/self/fd") else { return };
    // Collected first: the listing has a descriptor of its own, closed again by then.
    let open: BTreeSet<RawFd> = list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open {
        if !keep.contains(&fd) {
            let _ = nix::unistd::close(fd);
        }
    }
}
