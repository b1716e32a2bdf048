//! `spiced`: the service.

fn main() {
    if std::env::args_os().nth(1).is_some_and(|word| word == spice::adapter::command::SUBCOMMAND) {
        spice::adapter::command::launch_main();
    }
}
