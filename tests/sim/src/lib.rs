//! Seeded runs of a whole fleet over the real cores: the server's `Control`, each host's `Machine`
//! and guard decision, on a network that loses, doubles, delays and reorders, with clocks that jump,
//! suspends, and crashes of everything at any step.
//!
//! First safety: after each step the [`oracle`] checks what never bends (DESIGN §2). Then the world
//! heals, and every run must come to its end. `Scenario::of(seed)` and [`run`] replay a run exactly.

mod carry_out;
mod faults;
pub mod fleet;
mod host;
mod life;
mod network;
mod operator;
mod oracle;
mod random;
pub mod scenario;
mod server;
mod store;
mod window;
mod world;

pub use scenario::Scenario;
pub use world::{Report, World};

/// Runs a scenario to its end.
///
/// # Errors
/// What bent, at which time of the run, and how to replay it.
pub fn run(scenario: Scenario) -> Result<Report, String> {
    let seed = scenario.seed;
    World::new(scenario).run().map_err(|what| {
        format!("seed {seed}: {what}\nreplay: RINGWARD_SEED={seed} cargo test -p ringward-sim --test fleet replay -- --nocapture")
    })
}
