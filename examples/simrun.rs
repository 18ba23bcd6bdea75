//! Scratch driver.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |i: usize, d: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(d);
    let mut options = raft_server::sim::Options {
        first_seed: get(1, 0),
        seeds: get(2, 100),
        steps: get(3, 10000),
        ..Default::default()
    };
    options.trace = args.get(4).is_some_and(|a| a == "trace");
    let start = std::time::Instant::now();
    let report = raft_server::sim::run(&options);
    let secs = start.elapsed().as_secs_f64();
    println!(
        "{} seeds {:?}\n{:.1}s {:.0} steps/s",
        report.seeds,
        report.stats,
        secs,
        report.stats.steps as f64 / secs
    );
    if let Some(f) = report.failure {
        for line in &f.transcript {
            println!("{line}");
        }
        println!("faults:");
        for x in &f.faults {
            println!("  {x}");
        }
        println!(
            "seed {} step {} {}: {}",
            f.seed, f.step, f.violation.property, f.violation.detail
        );
    }
}
