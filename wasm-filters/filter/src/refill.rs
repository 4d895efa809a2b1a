//! Tokens of shared limits: the calls to the quota service, and the requests that wait for one.
//!
//! A call is made from a tick and not from a request, so that what many requests need goes in one call, and so that no
//! call ends with a stream: a plugin's context owns it. A request that finds no token has the next tick come in a
//! millisecond. What is asked for, and who gets what, is `tollgate_filter_core::lease`'s.

use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_abi::{self as abi, GrpcCall};
use tollgate_filter_config::QuotaService;
use tollgate_filter_core::lease::{Leases, Refills, wire};
use tollgate_filter_core::parts::Route;
use tollgate_filter_core::rate_limit::Waiting;

use crate::host;
use crate::plugin::Plugin;

/// Keys remembered in each of two generations: about 9 MB in a VM at most, with what waits to be given back.
const KEYS: usize = 8_192;
/// Longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A request that waits for tokens.
pub struct Queued {
    /// The configuration it began with.
    pub plugin: Rc<Plugin>,
    /// Its route.
    pub route: Rc<Route>,
    /// Its limit and key.
    pub waiting: Waiting<'static>,
}

/// The leases of one VM, and by whom they are refilled.
pub struct Refill {
    /// The leases, their calls, and the streams that wait.
    pub refills: Refills<u32>,
    service: QuotaService,
    /// The same, as Envoy takes it.
    upstream: Vec<u8>,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    /// Calls made.
    pub made: u64,
    /// Calls that could not be made.
    pub failed: u64,
}

impl Refill {
    /// No leases yet. `seed` is for hash tables.
    pub fn new(service: QuotaService, seed: u64) -> Self {
        let upstream = wire::upstream(&service.cluster);
        Self { refills: Refills::new(Leases::new(KEYS, seed)), service, upstream }
    }

    /// A newer configuration: leases stay.
    pub fn configure(&mut self, service: &QuotaService) {
        if self.service != *service {
            self.upstream = wire::upstream(&service.cluster);
            self.service.clone_from(service);
        }
    }

    /// `stream` waits; its plugin is `root`.
    pub fn wait(&mut self, stream: u32) {
        self.refills.wait(stream);
    }

    /// Has a tick of `root` come soon, if something became due in a request of `stream`.
    pub fn wake(&mut self, root: u32, stream: u32) {
        if let Some(period) = self.refills.next_tick()
            && abi::set_effective_context(root).is_ok()
        {
            abi::set_tick_period(period);
            let _ = abi::set_effective_context(stream);
        }
    }

    /// Makes the calls that are due.
    pub fn tick(&mut self) -> Calls {
        let timeout = Duration::from_millis(self.service.timeout_ms);
        let (cluster, upstream, mut calls) = (&self.service.cluster, &self.upstream, Calls::default());
        self.refills.tick(nanos(), timeout, |message| {
            let call = GrpcCall {
                cluster,
                authority: wire::AUTHORITY,
                upstream,
                service: wire::SERVICE,
                method: wire::METHOD,
                message,
                timeout,
            };
            let sent = abi::send_grpc_call(&call).ok();
            calls.made += u64::from(sent.is_some());
            calls.failed += u64::from(sent.is_none());
            sent
        });
        calls
    }

    /// When to tick again; `None` where there is no hurry.
    pub fn next_tick(&mut self) -> Option<Duration> {
        self.refills.after_tick()
    }

    /// A call was answered with `size` bytes, or failed.
    pub fn response(&mut self, token: u32, size: Option<usize>) {
        let bytes = size.filter(|size| *size <= MAX_ANSWER_BYTES);
        let bytes =
            bytes.and_then(|size| if size == 0 { Some(Vec::new()) } else { abi::grpc_message(size).ok() });
        self.refills.response(token, bytes.as_deref(), nanos());
    }
}

fn nanos() -> u64 {
    u64::try_from(host::now().as_nanos()).unwrap_or(u64::MAX)
}
