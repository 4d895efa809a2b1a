//! One virtual machine: its plugins, and its streams from the headers of a request to those of its response.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_abi::{self as abi, Action, Map, Module};
use tollgate_filter_core::auth::{Allowed, Authenticator, Decision, Pending};
use tollgate_filter_core::headers::{self, HeaderMap};
use tollgate_filter_core::parts::Route;
use tollgate_filter_core::problem::LocalResponse;
use tollgate_filter_core::rate_limit::{self, Limiter, Quota};
use tollgate_filter_core::tally::Decided;

use crate::counters::{self, Count, Counters};
use crate::host::{self, Signatures};
use crate::kind::Kind;
use crate::plugin::Plugin;
use crate::refill::{Queued, Refill};
use crate::revoked::{self, Answered, Revoked};
use crate::shared::EnvoySlots;
use crate::source::Source;

/// One virtual machine of a filter.
pub struct Vm<K> {
    /// By their contexts. Envoy may go back to an older one without a word, where a configuration is taken back.
    plugins: BTreeMap<u32, Rc<Plugin>>,
    /// Streams of which something is still to be known; most have nothing here.
    streams: BTreeMap<u32, Stream>,
    /// The stream that waits for each call.
    calls: BTreeMap<u32, u32>,
    /// Where a limit is shared.
    refill: Option<Refill>,
    /// When contexts that ended were last looked for.
    swept: Duration,
    /// Where a provider has a list of what is revoked.
    revoked: Option<Revoked>,
    /// Streams that wait until it is known what was revoked, and their plugins.
    held: Vec<(u32, Rc<Plugin>)>,
    counters: Counters,
    kind: PhantomData<K>,
}

enum Stream {
    /// Introspection was asked.
    Waiting(Box<Waiting>),
    /// It waits for tokens.
    Queued(Box<Queued>),
    /// Its response tells what is left.
    Counted(Quota),
}

/// What is needed once introspection answers.
struct Waiting {
    plugin: Rc<Plugin>,
    route: Rc<Route>,
    pending: Box<Pending>,
    headers: Vec<u8>,
}

impl<K> Default for Vm<K> {
    fn default() -> Self {
        Self {
            plugins: BTreeMap::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            refill: None,
            swept: Duration::ZERO,
            revoked: None,
            held: Vec::new(),
            counters: Counters::default(),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> Module for Vm<K> {
    fn configure(&mut self, root: u32, size: usize) -> bool {
        match Plugin::load::<K>(root, size) {
            Ok(mut plugin) => {
                let service = plugin.parts.auth.as_ref().and_then(Authenticator::revocation_service);
                if let Some(service) = service {
                    match &mut self.revoked {
                        Some(revoked) => revoked.configure(service),
                        None => self.revoked = Some(Revoked::new(service)),
                    }
                }
                if let (Some(revoked), Some(auth)) = (&self.revoked, &mut plugin.parts.auth) {
                    auth.refuse_revoked(revoked.list());
                }
                self.counters.define(&plugin.parts);
                if let Some(service) = plugin.parts.limiter.as_ref().and_then(Limiter::quota_service) {
                    match &mut self.refill {
                        Some(refill) => refill.configure(service),
                        None => self.refill = Some(Refill::new(service.clone(), plugin.seed)),
                    }
                }
                self.plugins.insert(root, Rc::new(plugin));
                if !abi::CALLS_OUTLIVE_PLUGINS {
                    // Whose call it was may go soon, and the call with it.
                    self.revoked.iter_mut().for_each(Revoked::start_over);
                }
                let asks = self.revoked.as_ref().is_some_and(Revoked::is_idle);
                abi::set_tick_period(if asks { revoked::AT_ONCE } else { counters::PERIOD });
                true
            }
            Err(error) => {
                abi::log_error(&format!("tollgate {}: bad configuration: {error}", K::NAME));
                false
            }
        }
    }

    fn tick(&mut self, root: u32) {
        abi::set_tick_period(counters::PERIOD);
        if let Some(refill) = &mut self.refill {
            let calls = refill.tick();
            self.counters.add_many(Count::QuotaCalls, calls.made);
            self.counters.add_many(Count::QuotaFailures, calls.failed);
            self.settle();
        }
        if let Some(revoked) = &self.revoked {
            self.counters.add_many(Count::Revoked, revoked.list().borrow().take_refused());
        }
        self.counters.flush();
        self.sweep(root);
        if !self.held.is_empty() && self.revoked.as_mut().is_some_and(|revoked| !revoked.holds()) {
            self.release();
            let _ = abi::set_effective_context(root);
        }
        self.ask_what_is_revoked(root);
    }

    fn grpc_response(&mut self, token: u32, size: Option<usize>) {
        if let Some(refill) = &mut self.refill {
            refill.response(token, size);
            if size.is_none() {
                self.counters.add(Count::QuotaFailures);
            }
            self.settle();
        }
    }

    fn request_headers(&mut self, root: Option<u32>, stream: u32) -> Action {
        match root.and_then(|root| self.plugins.get(&root)).cloned() {
            Some(plugin) => self.start(&plugin, stream).unwrap_or_else(|| answer(&unreadable())),
            // No configuration was ever accepted.
            None => answer(&unreadable()),
        }
    }

    fn response_headers(&mut self, stream: u32) {
        if let Some(Stream::Counted(quota)) = self.streams.remove(&stream) {
            host::tell(&quota);
        }
    }

    fn http_call_response(&mut self, token: u32, headers: usize, body_size: usize) {
        if let Some(revoked) = self.revoked.as_mut().filter(|revoked| revoked.is_call(token)) {
            match revoked.answer(headers, body_size) {
                Answered::Next(root) => self.ask_what_is_revoked(root),
                Answered::Later => {}
                Answered::Failed => self.counters.add(Count::RevocationFailures),
            }
            self.release();
            return;
        }
        let Some(stream) = self.calls.remove(&token) else { return };
        let Some(Stream::Waiting(waiting)) = self.streams.remove(&stream) else { return };
        if !abi::exists(stream) {
            return;
        }
        if self.resume(&waiting, stream, headers, body_size) == Action::Continue {
            let _ = abi::continue_request();
        }
    }
}

impl<K: Kind> Vm<K> {
    /// `None` where the host does not say what is needed: then nobody passes.
    fn start(&mut self, plugin: &Rc<Plugin>, stream: u32) -> Option<Action> {
        let Some(name) = host::route_name().ok()? else { return Some(Action::Continue) };
        let route = plugin.parts.route(&name)?;
        let Some(auth) = &plugin.parts.auth else {
            return Some(self.limit(plugin, &route, stream, &Source::AsItIs(&route), None).action());
        };
        if self.must_wait(auth, &route) {
            self.held.push((stream, Rc::clone(plugin)));
            return Some(Action::Pause);
        }
        let pairs = abi::header_pairs(Map::Request).ok()?;
        let headers = headers::decode(&pairs)?;
        let now = route.auth.as_ref().map(|_| host::now());
        let at = now.unwrap_or_default();
        let decision = auth.decide(route.guard(), &headers, at, &Signatures);
        Some(self.known(plugin, &route, stream, (&pairs, &headers), decision, now))
    }

    /// Whether it is about to be known what was revoked, in a VM that is new.
    fn must_wait(&mut self, auth: &Authenticator, route: &Route) -> bool {
        let asks = auth.revocation_service().is_some() && route.auth.is_some();
        asks && self.revoked.as_mut().is_some_and(Revoked::holds)
    }

    /// Lets those go on that were held.
    fn release(&mut self) {
        for (stream, plugin) in std::mem::take(&mut self.held) {
            if abi::exists(stream)
                && self.start(&plugin, stream).unwrap_or_else(|| answer(&unreadable())) == Action::Continue
            {
                let _ = abi::continue_request();
            }
        }
    }

    /// Forgets what ended without a word: streams that were reset, with the calls that ended with them, and plugins that
    /// no listener has any more.
    fn sweep(&mut self, root: u32) {
        let now = host::now();
        if now.saturating_sub(self.swept) < counters::PERIOD {
            return;
        }
        self.swept = now;
        self.streams.retain(|stream, _| abi::exists(*stream));
        self.calls.retain(|_, stream| self.streams.contains_key(stream));
        self.plugins.retain(|root, _| abi::exists(*root));
        self.revoked.iter_mut().for_each(Revoked::sweep);
        let _ = abi::set_effective_context(root);
    }

    /// Makes the call that tells, on behalf of this plugin, unless it is under way.
    fn ask_what_is_revoked(&mut self, root: u32) {
        // Where calls outlive plugins, the one that made the last may be gone.
        let root = if abi::exists(root) {
            Some(root)
        } else {
            self.plugins.keys().copied().find(|root| abi::exists(*root))
        };
        let Some(root) = root else { return };
        let asks = self.plugins.get(&root).and_then(|plugin| plugin.parts.auth.as_ref());
        let asks = asks.is_some_and(|auth| auth.revocation_service().is_some());
        if let Some(revoked) = self.revoked.as_mut().filter(|_| asks)
            && !revoked.ask(root)
        {
            self.counters.add(Count::RevocationFailures);
        }
    }

    fn resume(&mut self, waiting: &Waiting, stream: u32, headers: usize, body_size: usize) -> Action {
        let Waiting { plugin, route, pending, headers: pairs, .. } = waiting;
        let reply = host::answer(headers, body_size);
        let (Some(auth), Some(headers)) = (&plugin.parts.auth, headers::decode(pairs)) else {
            return answer(&unreadable());
        };
        let now = host::now();
        let decision = auth.resume(pending, &headers, reply.as_ref(), now);
        self.known(plugin, route, stream, (pairs, &headers), decision, Some(now))
    }

    /// Asks what a decision waits for, until there is one.
    fn known<'h>(
        &mut self,
        plugin: &Rc<Plugin>,
        route: &Rc<Route>,
        stream: u32,
        (pairs, headers): (&[u8], &HeaderMap<'h>),
        mut decision: Decision<'h>,
        now: Option<Duration>,
    ) -> Action {
        while let Decision::Introspect(pending) = decision {
            match (host::ask(&pending), &plugin.parts.auth) {
                (Ok(call), _) => {
                    self.counters.add(Count::Introspections);
                    let (plugin, route, headers) = (Rc::clone(plugin), Rc::clone(route), pairs.to_vec());
                    let waiting = Waiting { plugin, route, pending, headers };
                    self.calls.insert(call, stream);
                    self.streams.insert(stream, Stream::Waiting(Box::new(waiting)));
                    return Action::Pause;
                }
                // No such cluster, or the call could not be made.
                (Err(_), Some(auth)) => {
                    decision = auth.resume(&pending, headers, None, now.unwrap_or_default());
                }
                (Err(_), None) => return answer(&unreadable()),
            }
        }
        self.decided(plugin, route, stream, headers, decision, now)
    }

    fn decided<'h>(
        &mut self,
        plugin: &Rc<Plugin>,
        route: &Rc<Route>,
        stream: u32,
        headers: &HeaderMap<'h>,
        decision: Decision<'h>,
        now: Option<Duration>,
    ) -> Action {
        match decision {
            Decision::Allow(allowed) => {
                self.count_allowed(route, &allowed);
                let limited =
                    self.limit(plugin, route, stream, &Source::Decided(route, headers, &allowed), now);
                // A request that waits has its headers changed before: nothing of it is known later.
                if limited != Limited::Answered {
                    host::apply(&allowed, headers);
                }
                limited.action()
            }
            Decision::Deny(response) => {
                let unavailable = response.status == 503;
                let decided = if unavailable { Decided::AuthUnavailable } else { Decided::AuthDenied };
                self.counters.decided(route, decided);
                answer(&response)
            }
            // It was asked before.
            Decision::Introspect(_) => answer(&unreadable()),
        }
    }

    fn count_allowed(&mut self, route: &Rc<Route>, allowed: &Allowed<'_>) {
        if allowed.cached {
            self.counters.add(Count::AuthCacheHits);
        }
        if allowed.failed_open {
            self.counters.add(Count::AuthFailedOpen);
        }
        if allowed.identity.is_some() {
            self.counters.decided(route, Decided::AuthAllowed);
        }
    }

    fn limit(
        &mut self,
        plugin: &Rc<Plugin>,
        route: &Rc<Route>,
        stream: u32,
        source: &Source<'_, '_>,
        now: Option<Duration>,
    ) -> Limited {
        let (Some(limiter), Some(policy)) = (&plugin.parts.limiter, &route.rate_limit) else {
            return Limited::Continue;
        };
        let now = now.unwrap_or_else(host::now);
        let leases = self.refill.as_mut().map(|refill| &mut refill.refills.leases);
        let decision = limiter.decide(policy, source, &EnvoySlots, plugin.seed, now, leases);
        let limited = self.limited(plugin, route, stream, decision);
        if let Some(refill) = &mut self.refill {
            refill.wake(plugin.root, stream);
        }
        limited
    }

    /// Tries again for the streams that wait, once a call has ended.
    fn settle(&mut self) {
        let Some(refill) = &mut self.refill else { return };
        for stream in refill.refills.ready() {
            // It may be gone, and its number may be another's.
            if !matches!(self.streams.get(&stream), Some(Stream::Queued(_))) {
                continue;
            }
            let Some(Stream::Queued(queued)) = self.streams.remove(&stream) else { continue };
            let Queued { plugin, route, waiting } = *queued;
            // What nobody waits for takes no tokens.
            if !abi::exists(stream) {
                continue;
            }
            let (Some(limiter), Some(refill)) = (&plugin.parts.limiter, &mut self.refill) else { continue };
            let leases = &mut refill.refills.leases;
            let now = host::now();
            let decision = limiter.decide_again(waiting, &EnvoySlots, plugin.seed, now, leases);
            if self.limited(&plugin, &route, stream, decision) == Limited::Continue {
                let _ = abi::continue_request();
            }
        }
        // For one plugin that is there, which ticks for all; the others tick in their own time.
        let _ = self.plugins.keys().find(|root| abi::exists(**root));
        if let Some(refill) = &mut self.refill {
            abi::set_tick_period(refill.next_tick().unwrap_or(counters::PERIOD));
        }
    }

    fn limited(
        &mut self,
        plugin: &Rc<Plugin>,
        route: &Rc<Route>,
        stream: u32,
        decision: rate_limit::Decision,
    ) -> Limited {
        match decision {
            rate_limit::Decision::Allow(allowed) => {
                self.counters.decided(route, Decided::Allowed);
                if allowed.evicted {
                    self.counters.add(Count::Evicted);
                }
                if allowed.shadowed {
                    self.counters.decided(route, Decided::Shadowed);
                }
                if let Some(quota) = allowed.quota {
                    self.streams.insert(stream, Stream::Counted(quota));
                }
                Limited::Continue
            }
            rate_limit::Decision::Limit(response) => {
                self.counters.decided(route, Decided::Limited);
                answer(&response);
                Limited::Answered
            }
            rate_limit::Decision::Unavailable(response) => {
                self.counters.decided(route, Decided::Unavailable);
                answer(&response);
                Limited::Answered
            }
            rate_limit::Decision::Wait(waiting) => {
                self.counters.add(Count::Waited);
                let queued = Queued { plugin: Rc::clone(plugin), route: Rc::clone(route), waiting };
                self.streams.insert(stream, Stream::Queued(Box::new(queued)));
                if let Some(refill) = &mut self.refill {
                    refill.wait(stream);
                }
                Limited::Waits
            }
        }
    }
}

/// What a limit makes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limited {
    Continue,
    Waits,
    Answered,
}

impl Limited {
    fn action(self) -> Action {
        if self == Self::Continue { Action::Continue } else { Action::Pause }
    }
}

fn answer(response: &LocalResponse) -> Action {
    host::respond(response);
    Action::Pause
}

/// What is said where the route's policies or the filter's configuration cannot be read: nobody passes.
fn unreadable() -> LocalResponse {
    LocalResponse::unavailable(
        "unknown_policy",
        "the route's policies cannot be read",
        Duration::from_secs(1),
    )
}
