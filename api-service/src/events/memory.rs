//! Events kept in this process, for tests to look at.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Event, Events};

/// Keeps the newest events.
#[derive(Debug, Default)]
pub struct MemoryEvents(Mutex<VecDeque<Event>>);

impl MemoryEvents {
    const CAPACITY: usize = 1024;

    /// The events so far, oldest first.
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[async_trait]
impl Events for MemoryEvents {
    async fn publish(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == Self::CAPACITY {
            events.pop_front();
        }
        events.push_back(event);
    }

    async fn flush(&self) {}
}
