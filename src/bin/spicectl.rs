//! `spicectl`: the administrator's command line.

fn main() -> std::process::ExitCode {
    spice::cli::run(std::env::args_os())
}
