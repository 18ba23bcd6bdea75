//! The core's own assertions are findings too.
//!
//! Where panics unwind (`cargo test`), a run that panics is caught and reported like any other
//! failure, and all that is left to do here is to keep its many repetitions quiet. A release build
//! aborts on the first panic, because a server without one of its threads is worse than none. So
//! there the hook that runs just before the end replays the seed on another thread, which tells its
//! last steps and then ends the process.

use std::cell::{Cell, RefCell};
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use super::plan::Plan;
use super::report::Trace;
use super::run::{Options, TRANSCRIPT_STEPS};
use super::world::World;

thread_local! {
    /// What runs on this thread, if anything does.
    static RUNNING: RefCell<Option<(Options, u64)>> = const { RefCell::new(None) };
    /// Its last step.
    static STEP: Cell<u64> = const { Cell::new(0) };
}

/// This thread runs a seed from now on.
pub(super) fn begin(options: &Options, seed: u64) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match RUNNING.with_borrow_mut(Option::take) {
            Some((options, seed)) => report(&options, seed, info),
            None => before(info),
        }));
    });
    RUNNING.with_borrow_mut(|running| *running = Some((options.clone(), seed)));
}

/// The run has come this far.
pub(super) fn at_step(step: u64) {
    STEP.set(step);
}

/// The run is over.
pub(super) fn end() {
    RUNNING.with_borrow_mut(|running| *running = None);
}

fn report(options: &Options, seed: u64, info: &PanicHookInfo) {
    if cfg!(panic = "unwind") {
        return; // `run_plan` catches it
    }
    let from = STEP.get().saturating_sub(TRANSCRIPT_STEPS);
    let (options, plan) = (options.clone(), Plan::draw(seed, options.servers, options.faults));
    let command = options.command(seed);
    let replay = std::thread::spawn(move || {
        let mut world = World::new(plan, Trace::aloud(from));
        // It panics again where it did before, and that ends the process.
        let _ = world.run_to_end(&options);
    });
    eprintln!("seed {seed} breaks an assertion of the server: {info}\nreplay: {command}\n");
    let _ = replay.join();
}
