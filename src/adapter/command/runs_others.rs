//! Programs that run other programs: with a value from a check among their arguments they would run what the value says.

use std::path::Path;

/// Base names, without version suffixes (`python3.11` is `python`).
///
/// Shells, interpreters, programs that start what their arguments name, programs with an escape to a shell, and the
/// dynamic loader. The list cannot be complete, and a copy under another name is not found; it stops mistakes, while root,
/// who alone can write manifests, decides.
#[rustfmt::skip]
const LIST: &[&str] = &[
    // shells
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "pwsh", "rbash", "rc", "sh",
    "tcsh", "toybox", "yash", "zsh",
    // interpreters
    "awk", "bpftrace", "deno", "emacs", "erl", "escript", "expect", "gawk", "gdb", "ghci", "guile", "irb", "java",
    "jjs", "jrunscript", "jshell", "julia", "lua", "luajit", "mawk", "nawk", "node", "nodejs", "octave",
    "original-awk", "perl", "php", "pypy", "python", "r", "rscript", "ruby", "sbcl", "scala", "swipl", "tclsh",
    "wish",
    // they start what their arguments name
    "aa-exec", "at", "batch", "bwrap", "capsh", "catchsegv", "chroot", "chrt", "chpst", "cpulimit", "crontab",
    "ctr", "dbus-launch", "dbus-run-session", "docker", "dumb-init", "eatmydata", "env", "entr", "fakeroot",
    "faketime", "fd", "fdfind", "find", "firejail", "flatpak", "flock", "git", "hg", "ionice", "ip", "kubectl",
    "logrotate", "ltrace", "lxc-attach", "lxc-execute", "machinectl", "make", "nc", "ncat",
    "netcat", "newgrp", "nice", "nohup", "nmap", "nsenter", "numactl", "parallel", "perf", "pexec", "pkexec",
    "podman", "prlimit", "proot", "rsync", "run-parts", "runc", "runcon", "runuser", "rush", "s-nail", "screen",
    "script", "setarch", "setpriv", "setsid", "setuidgid", "sg", "snap", "socat", "softlimit", "spiced",
    "start-stop-daemon", "stdbuf", "strace", "su", "sudo", "sudoedit", "doas", "svn", "systemd-inhibit",
    "systemd-nspawn", "systemd-run", "systemctl", "tar", "taskset", "tcpdump", "time", "timeout", "tini", "tmux",
    "unbuffer", "unshare", "unzip", "valgrind", "watch", "watchdog", "xargs", "xvfb-run", "zip",
    // over the network
    "check_by_ssh", "check_nrpe", "dbclient", "dropbear", "mosh", "rlogin", "rsh", "scp", "sftp", "sshpass", "ssh",
    "telnet",
    // with an escape to a shell
    "dc", "ed", "ex", "ftp", "gnuplot", "less", "lftp", "mail", "mailx", "man", "more", "mutt", "mysql", "nano",
    "nvim", "pager", "pg", "pico", "psql", "rvim", "sed", "sqlite", "vi", "view", "vim", "vimdiff", "w3m", "wget",
    // monitoring programs that run another one
    "negate", "urlize",
    // the loader runs any ELF file
    "ld", "ld-linux", "ld-linux-x", "ld.so", "ld-musl",
];

/// Whether the program at `resolved` (links followed) runs other programs.
pub(super) fn is_listed(resolved: &Path) -> bool {
    let Some(name) = resolved.file_name().and_then(|name| name.to_str()) else {
        // A name that is no text cannot be judged.
        return true;
    };
    let name = name.to_ascii_lowercase();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    name.starts_with("ld-linux") || name.starts_with("ld-musl") || LIST.contains(&name.as_str()) || LIST.contains(&stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_interpreters_and_starters_are_known_with_and_without_version() {
        for name in [
            "dash",
            "python3.11",
            "perl5.36.0",
            "busybox",
            "env",
            "sudo",
            "ssh",
            "xargs",
            "find",
            "nice",
            "check_by_ssh",
            "ld-linux-x86-64.so.2",
            "sqlite3",
        ] {
            assert!(is_listed(&Path::new("/usr/bin").join(name)), "{name}");
        }
        for name in ["check_dummy", "check_procs", "check_tcp", "id", "cat"] {
            assert!(!is_listed(&Path::new("/usr/bin").join(name)), "{name}");
        }
    }
}
