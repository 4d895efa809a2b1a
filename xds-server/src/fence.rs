//! A proxy that connects waits until this server is as far as any other of its kind: it may come from one that was faster.
//!
//! Only where the configuration is in etcd; files on several machines have no order. What a proxy may still be sent too
//! early is said in ARCHITECTURE.md.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::discovery::service::Fence;
use crate::follow::ConfigStatus;
use crate::rollout::Statuses;
use crate::rollout::plan::Stage;
use crate::source::etcd::Etcd;
use crate::status::lock;

/// How long a proxy waits for a change that is under way here, at most: others may be slow to accept it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits for etcd's transactions, and for the groups to have published what came of them.
pub fn fence(etcd: Etcd, config: Arc<Mutex<ConfigStatus>>, groups: Statuses) -> Fence {
    Arc::new(move || {
        let (etcd, config, groups) = (etcd.clone(), Arc::clone(&config), Arc::clone(&groups));
        Box::pin(async move {
            etcd.catch_up().await;
            let published = async {
                while !is_published(&lock(&config).version, &groups) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            drop(tokio::time::timeout(PATIENCE, published).await);
        })
    })
}

/// Whether every group is at this version with all its steps, or tries it with canaries.
fn is_published(version: &str, groups: &Statuses) -> bool {
    lock(groups).values().all(|group| {
        group.canary.is_some() || (group.version == version && group.stage == Stage::Settled.as_str())
    })
}
