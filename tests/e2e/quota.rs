//! Limits that several Envoys share.

use std::time::Duration;

mod native;

const DEADLINE: Duration = Duration::from_secs(60);
