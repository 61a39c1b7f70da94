use tokio::{runtime::Handle, sync::oneshot};

use super::{Answer, Waiting};

/// Answers the callers of a batch. Waking a task from another thread costs a lock and often a system call, so the callers
/// of one runtime are woken from within it, by one task for all of them.
pub(super) fn answer_all(decided: Vec<(Waiting, Answer)>) {
    let mut groups: Vec<(Handle, Answers)> = Vec::new();
    for (Waiting { answer: caller, runtime, place, busy, .. }, answer) in decided {
        // Before its caller can know, so that a lone one finds the way free when it comes back.
        drop((place, busy));
        let Some(runtime) = runtime else {
            // A caller that went away does not want to know.
            let _ = caller.send(answer);
            continue;
        };
        match groups.iter_mut().find(|(known, _)| known.id() == runtime.id()) {
            Some((_, answers)) => answers.0.push((caller, answer)),
            None => groups.push((runtime, Answers(vec![(caller, answer)]))),
        }
    }
    for (runtime, answers) in groups {
        if answers.0.len() > 1 {
            runtime.spawn(async move { drop(answers) });
        }
    }
}

/// Answers that reach their callers when this is dropped, wherever that is: also in a runtime that is shutting down.
struct Answers(Vec<(oneshot::Sender<Answer>, Answer)>);

impl Drop for Answers {
    fn drop(&mut self) {
        for (caller, answer) in self.0.drain(..) {
            let _ = caller.send(answer);
        }
    }
}
