//! The limits for wasm-hostmap's benchmarks: the same work in bare system calls, without
//! JavaScript. Prints JSON.

mod cache;
mod hand_off;
mod plan;
mod read;
mod slide;
mod sum;
mod system;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<String, String> {
    let [command, rest @ ..] = args else {
        return Err(usage());
    };
    match (command.as_str(), rest) {
        ("bare" | "advised", _) => Ok(ns_per_round(&hand_off::run(args)?)),
        ("slide", rest) => Ok(ns_per_round(&slide::run(rest)?)),
        ("slide-threads", rest) => {
            Ok(format!("{{\"perSecond\":{:.1}}}", slide::run_threads(rest)?))
        }
        ("sum", rest) => {
            let (ns, sum) = sum::run(rest)?;
            // As text: JSON's numbers don't hold 64 bits.
            Ok(format!("{{\"ns\":{ns},\"sum\":\"{sum}\"}}"))
        }
        ("read", rest) => {
            let (ns, sum) = read::run(rest)?;
            let list: Vec<String> = ns.iter().map(u128::to_string).collect();
            Ok(format!("{{\"ns\":[{}],\"sum\":\"{sum}\"}}", list.join(",")))
        }
        ("drop", [path]) => Ok(format!("{{\"residentBytes\":{}}}", cache::drop_file(path)?)),
        ("resident", [path]) => {
            Ok(format!("{{\"residentBytes\":{}}}", cache::resident_bytes(path)?))
        }
        _ => Err(usage()),
    }
}

fn ns_per_round(samples: &[f64]) -> String {
    let list: Vec<String> = samples.iter().map(|ns| format!("{ns:.1}")).collect();
    format!("{{\"nsPerRound\":[{}]}}", list.join(","))
}

fn usage() -> String {
    format!(
        "usage: {}",
        [hand_off::USAGE, slide::USAGE, sum::USAGE, read::USAGE, cache::USAGE].join("\n       ")
    )
}
