//! wasmtime, as a peer of wasm-hostmap's benchmarks. Prints JSON.

mod reset;
mod scan;

use std::env;
use std::process::ExitCode;
use wasmtime::{Result, bail};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<String> {
    match args {
        [command, rest @ ..] if command == "reset" => reset::run(rest),
        [command, rest @ ..] if command == "scan" => scan::run(rest),
        _ => bail!("usage: {}\n       {}", reset::USAGE, scan::USAGE),
    }
}
