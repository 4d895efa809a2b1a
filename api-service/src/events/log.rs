//! Events as log lines, which is what a service without a broker can still be audited by.

use async_trait::async_trait;

use super::{Event, Events};

/// Writes each event to the log at level info.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogEvents;

#[async_trait]
impl Events for LogEvents {
    async fn publish(&self, event: Event) {
        let (account, subject) = (event.account(), event.subject());
        tracing::info!(event = event.name(), %account, subject, "event");
    }

    async fn flush(&self) {}
}
