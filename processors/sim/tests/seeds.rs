//! Seeds run clean, see enough, and run the same way twice.

use omium_sim::{run_seed, run_seeds};

/// The simulation asks for memory all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many seeds to run; the whole of CI asks for ten thousand.
#[expect(clippy::disallowed_methods, reason = "how many is for the one who runs the tests to say")]
fn seeds() -> u64 {
    std::env::var("OMIUM_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

#[test]
fn the_same_seed_runs_the_same_way_twice() {
    for seed in 0..seeds().min(25) {
        assert_eq!(run_seed(seed), run_seed(seed), "seed {seed}");
    }
}

#[test]
fn what_must_hold_holds_and_everything_happens() {
    let count = seeds();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let report = run_seeds(0, count, threads);
    #[expect(clippy::print_stdout, reason = "a simulation shows what it has done")]
    {
        println!("{report}");
    }
    assert!(report.failed.is_empty(), "{report}");
    assert_eq!(report.thin, [0_u64; 0], "seeds that saw too little");
    if count >= 10_000 {
        assert_eq!(report.rare(100), Vec::<String>::new(), "what a simulation does not do it cannot test");
    }
}

#[test]
fn a_run_says_what_happened() {
    let text = run_seed(3).to_string();
    for word in
        ["seed 3, trace", "acknowledged", "faults", "CompleteStep", "StepScheduled", "everything holds"]
    {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}
