//! Makes a failing history smaller: leaves out steps as long as it goes on failing.

use crate::step::Step;

/// Histories tried in search of a smaller one.
pub const SHRINK_ATTEMPTS_MAX: usize = 400;

/// The steps that are left, none of which can be left out, unless the attempts are over.
pub struct Shrunk {
    pub steps: Vec<Step>,
    pub attempts: usize,
    /// Whether it is known that no single step can be left out.
    pub smallest: bool,
}

/// Leaves out halves, then quarters, and so on down to single steps, and begins again as long as that helps.
pub fn shrink(steps: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Shrunk {
    let mut steps = steps.to_vec();
    let mut attempts = 0;
    let mut size = steps.len().div_ceil(2).max(1);
    loop {
        let mut helped = false;
        let mut at = 0;
        while at < steps.len() {
            if attempts == SHRINK_ATTEMPTS_MAX {
                return Shrunk { steps, attempts, smallest: false };
            }
            attempts += 1;
            let end = (at + size).min(steps.len());
            let fewer: Vec<_> = steps[..at].iter().chain(&steps[end..]).cloned().collect();
            if fails(&fewer) {
                steps = fewer;
                helped = true;
            } else {
                at = end;
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !helped {
            return Shrunk { steps, attempts, smallest: true };
        }
    }
}
