//! Runs seeds of the simulation: `omium-sim [FIRST] [COUNT]`, or one seed with all that happened: `omium-sim SEED 1`.

use std::process::ExitCode;

/// A quarter of a run's time went to the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
#[expect(
    clippy::disallowed_methods,
    reason = "it measures how fast the simulation is; the simulation does not"
)]
fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let (first, count) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(1_000));
    if count == 1 {
        let run = omium_sim::run_seed(first);
        print!("{run}");
        return if run.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let begun = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let report = omium_sim::run_seeds(first, count, threads);
    print!("{report}");
    let rate = count as f64 / begun.elapsed().as_secs_f64() / threads as f64;
    println!("{rate:.0} seeds a second and core");
    report.rare(count / 100).iter().for_each(|line| println!("{line}"));
    if report.failed.is_empty() && report.thin.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
