//! The one async runtime of the process, for the HTTP client, the load and the upstreams. Tests and the
//! launcher themselves are plain blocking code.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Started at first use; lives as long as the process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    #[expect(clippy::expect_used, reason = "without threads there is no harness, and nobody to tell")]
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("starting the async runtime")
    })
}
