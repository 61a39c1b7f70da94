//! One history from its beginning to its end, and the report of one that fails.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    quiet::quietly,
    shrink::shrink,
    step::{Plan, Step},
    world::{Checked, World},
};

/// Words by which failures are told apart.
const KIND_WORDS: usize = 3;

/// What is wrong, and at which step; the number of steps stands for the check at the end.
#[derive(Debug)]
pub struct Failure {
    pub step: usize,
    pub why: String,
}

impl Failure {
    /// Its first words: two failures that have them in common are taken for the same one.
    pub fn kind(&self) -> String {
        self.why.split_whitespace().take(KIND_WORDS).collect::<Vec<_>>().join(" ")
    }
}

/// Takes the steps of a plan in a world of their own; answers which rare things have really happened.
pub fn run(plan: &Plan) -> Result<BTreeSet<&'static str>, Failure> {
    let end = plan.steps.len();
    let mut world = caught(|| World::new(plan)).map_err(|why| Failure { step: 0, why })?;
    for (step, what) in plan.steps.iter().enumerate() {
        caught(|| world.take(what)).map_err(|why| Failure { step, why })?;
    }
    caught(|| world.check()).map_err(|why| Failure { step: end, why })?;
    caught(|| world.stop_following()).map_err(|why| Failure { step: end, why })?;
    Ok(world.did)
}

/// A panic is a failure like any other.
fn caught<T>(work: impl FnOnce() -> Checked<T>) -> Checked<T> {
    let done = quietly(|| catch_unwind(AssertUnwindSafe(work)));
    done.unwrap_or_else(|panic| Err(format!("it panicked: {}", message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Runs a plan; if it fails, what to tell about it: the seed, the steps, and the fewest steps that fail too.
pub fn report(plan: &Plan) -> Option<String> {
    let failure = run(plan).err()?;
    let Plan { seed, kind, .. } = plan;
    let with = |steps: &[Step]| Plan { steps: steps.to_vec(), ..plan.clone() };
    let shrunk = shrink(&plan.steps[..plan.steps.len().min(failure.step + 1)], |steps| {
        run(&with(steps)).is_err_and(|other| other.kind() == failure.kind())
    });
    let smallest = with(&shrunk.steps);
    let again = match run(&smallest) {
        Err(Failure { step, why }) => format!("at step {step}: {why}"),
        Ok(_) => "it does not fail every time".into(),
    };
    let left = if shrunk.smallest { "none of which can be left out" } else { "and the attempts are over" };
    Some(format!(
        "seed {seed} on {kind:?} fails at step {}: {}\n\
         again: TASKLOG_SEED={seed} cargo test --test simulation\n{}\n\
         {} steps are left after {} attempts, {left}; {again}\n{}",
        failure.step,
        failure.why,
        plan.lines(),
        shrunk.steps.len(),
        shrunk.attempts,
        smallest.lines(),
    ))
}
