//! The `gatepost-load` binary: hands over to the library.

fn main() -> std::process::ExitCode {
    gatepost_load::cli::main()
}
