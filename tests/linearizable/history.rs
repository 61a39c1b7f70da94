//! What was called and what was returned, in one file that all processes append to, and the search for its order.
//!
//! A process writes a line before a call and another one after its return. Where the return of one call stands before
//! another call, it was before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use super::spec::{Object, Op, Ret};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Line {
    Call {
        /// One that has no other call under way.
        caller: u32,
        object: String,
        op: Op,
    },
    Return {
        caller: u32,
        ret: Ret,
    },
}

/// The lines of a file. A process that was killed leaves whole lines: each is one write.
pub fn entries(text: &str) -> Vec<Line> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The objects whose history nothing explains, each with its history.
pub fn check(lines: &[Line]) -> Vec<String> {
    let mut testers: BTreeMap<&str, LinearizabilityTester<u32, Object>> = BTreeMap::new();
    let mut histories: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    let mut under_way: BTreeMap<u32, &str> = BTreeMap::new();
    for line in lines {
        match line {
            Line::Call { caller, object, op } => {
                let tester = testers.entry(object).or_insert_with(|| LinearizabilityTester::new(Object::named(object)));
                tester.on_invoke(*caller, op.clone()).unwrap();
                under_way.insert(*caller, object);
                histories.entry(object).or_default().push(line);
            }
            Line::Return { caller, ret } => {
                let object = under_way.remove(caller).unwrap();
                testers.get_mut(object).unwrap().on_return(*caller, ret.clone()).unwrap();
                histories.get_mut(object).unwrap().push(line);
            }
        }
    }
    let wrong = testers.iter().filter(|(_, tester)| !tester.is_consistent());
    wrong.map(|(object, _)| format!("{object}: {:#?}", histories[object])).collect()
}
