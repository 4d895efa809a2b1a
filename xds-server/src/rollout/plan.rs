//! The order in which a group of proxies moves from one gateway to the next: make before break.
//!
//! ```text
//! settled ─ retarget ─► make: old listeners and routes; clusters and policies of both
//!                         │ every proxy has them
//!                         ▼
//!                       move: new listeners and routes; clusters and policies of both
//!                         │ every proxy has them
//!                         ▼
//!                       settled: the new gateway alone
//! ```
//!
//! Pure: when to go on is decided by `group`, which sees ACKs and deadlines.

use std::sync::Arc;

/// Gateways kept present beside the target at most. More are under way only where edits come faster than
/// deadlines; the oldest is then given up, as its deadline would.
const MAX_SERVED: usize = 8;

/// How far a group is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What the target refers to is being brought in; nothing refers to it yet.
    Make,
    /// Listeners and routes move to the target; what older ones refer to is still there.
    Move,
    /// The target alone.
    Settled,
}

impl Stage {
    /// For status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Move => "move",
            Self::Settled => "settled",
        }
    }
}

/// Where a group is, and where it goes.
#[derive(Debug)]
pub struct Plan<T> {
    /// Every gateway whose routes a proxy may still hold, oldest first; the last one is serving.
    served: Vec<Arc<T>>,
    target: Arc<T>,
    stage: Stage,
}

impl<T> Clone for Plan<T> {
    fn clone(&self) -> Self {
        Self { served: self.served.clone(), target: Arc::clone(&self.target), stage: self.stage }
    }
}

impl<T> Plan<T> {
    /// A group that has nothing to move away from.
    pub fn new(target: Arc<T>) -> Self {
        Self { served: vec![Arc::clone(&target)], target, stage: Stage::Settled }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Where it goes.
    pub fn target(&self) -> &Arc<T> {
        &self.target
    }

    /// What gives listeners and routes now.
    pub fn serving(&self) -> &Arc<T> {
        self.served.last().unwrap_or(&self.target)
    }

    /// What gives clusters and policies now; the target last, so that its version of each counts.
    pub fn present(&self) -> Vec<&T> {
        self.served
            .iter()
            .filter(|served| !Arc::ptr_eq(served, &self.target))
            .chain([&self.target])
            .map(AsRef::as_ref)
            .collect()
    }

    /// Goes somewhere else from here, whatever the stage. A target that never served is simply forgotten.
    pub fn retarget(&mut self, target: Arc<T>) {
        if !Arc::ptr_eq(&target, &self.target) {
            self.target = target;
            self.stage = Stage::Make;
        }
    }

    /// The next stage: everybody is at this one, or had time enough.
    pub fn advance(&mut self) {
        match self.stage {
            Stage::Make => {
                self.served.push(Arc::clone(&self.target));
                if self.served.len() > MAX_SERVED {
                    self.served.remove(0);
                }
                self.stage = Stage::Move;
            }
            Stage::Move => {
                self.served = vec![Arc::clone(&self.target)];
                self.stage = Stage::Settled;
            }
            Stage::Settled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_move_makes_before_it_breaks() {
        let (old, new) = (Arc::new("old"), Arc::new("new"));
        let mut plan = Plan::new(old);
        let look = |plan: &Plan<&'static str>| {
            (plan.stage(), **plan.serving(), plan.present().into_iter().copied().collect::<Vec<_>>())
        };
        assert_eq!(look(&plan), (Stage::Settled, "old", vec!["old"]));
        plan.retarget(new);
        assert_eq!(look(&plan), (Stage::Make, "old", vec!["old", "new"]));
        plan.advance();
        assert_eq!(look(&plan), (Stage::Move, "new", vec!["old", "new"]));
        plan.advance();
        assert_eq!(look(&plan), (Stage::Settled, "new", vec!["new"]));
    }

    #[test]
    fn a_target_that_never_served_leaves_no_trace() {
        let mut plan = Plan::new(Arc::new(1));
        plan.retarget(Arc::new(2));
        plan.retarget(Arc::new(3));
        assert_eq!((**plan.serving(), plan.present()), (1, vec![&1, &3]));
    }

    proptest! {
        /// Whatever routes a proxy may hold, what they refer to is there.
        #[test]
        fn what_may_still_be_served_is_present(steps in proptest::collection::vec(0..3u8, 0..60)) {
            let mut plan = Plan::new(Arc::new(0));
            let mut held = vec![0]; // gateways whose routes some proxy may hold
            for (step, number) in steps.into_iter().zip(1..) {
                match step {
                    0 => plan.retarget(Arc::new(number)),
                    _ => {
                        let settles = plan.stage() == Stage::Move;
                        plan.advance();
                        if settles {
                            held = vec![**plan.serving()];
                        }
                        held.push(**plan.serving());
                    }
                }
                let present: Vec<i32> = plan.present().into_iter().copied().collect();
                held.dedup();
                for gateway in held.iter().rev().take(MAX_SERVED - 1) {
                    prop_assert!(present.contains(gateway), "{gateway} is not in {present:?}");
                }
                prop_assert_eq!(present.last(), Some(&**plan.target()));
            }
        }
    }
}
