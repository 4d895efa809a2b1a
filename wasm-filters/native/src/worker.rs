//! One worker's virtual machine, as it were: the filter's state for the streams of one thread.
//!
//! It is locked, as the main thread brings it answers and ticks. While a stream of it waits, these go to the worker's
//! thread by the scheduler of that stream: what they are for may be streams, which nobody else may touch. While none
//! waits, nothing but counters and lists can be concerned, and the main thread does it.
//!
//! Envoy is told to answer or continue a request after the lock is released: it may call in again at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tollgate_filter::{Both, Kind, Vm};
use tollgate_filter_abi::{Action, Module, with_host};
use tollgate_filter_core::grpc;

use crate::extension::{self, Answer};
use crate::ffi::{self, Handle};
use crate::host::{Call, Event, Host, log_error};
use crate::roots::NEVER;
use crate::then::{Reply, Response, Then};

/// Of the number of a configuration, beside that of a worker in 32 bits.
pub const ROOT_BITS: u32 = 22;
/// Most configurations in the life of a process.
const MAX_ROOTS: u32 = (1 << ROOT_BITS) - 1;
/// Most workers.
const MAX_WORKERS: u32 = 1 << (u32::BITS - ROOT_BITS);

static WORKERS: OnceLock<Vec<Worker>> = OnceLock::new();
/// Numbers of configurations.
static ROOTS: AtomicU32 = AtomicU32::new(1);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A worker.
pub struct Worker {
    state: Mutex<State>,
    /// When the next tick is, in nanoseconds since [`START`].
    due: AtomicU64,
}

struct State {
    vm: Vm<Both>,
    host: Host,
}

// SAFETY: the filter's state is full of `Rc`, but none of them leaves it, and it is used under the lock only. Of Envoy's
// handles in `host`, those of streams are used on their thread only (see above), and schedulers may be used on any.
unsafe impl Send for State {}

/// Where something is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// On the worker's thread, in a hook of this stream's headers, or in none.
    Worker(Option<u32>),
    /// On another, most often the main thread.
    Other,
}

/// Nanoseconds since some time in the past.
pub fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(NEVER)
}

impl Worker {
    /// Makes them. On the main thread, once.
    pub fn make(count: u32) {
        LazyLock::force(&START);
        WORKERS.get_or_init(|| {
            let state = |worker| State { vm: Vm::default(), host: Host::new(worker) };
            let worker = |worker| Self { state: Mutex::new(state(worker)), due: AtomicU64::new(NEVER) };
            (0..count.min(MAX_WORKERS)).map(worker).collect()
        });
    }

    fn all() -> &'static [Self] {
        WORKERS.get().map_or(&[], Vec::as_slice)
    }

    /// The worker of this number.
    pub fn get(worker: u32) -> Option<&'static Self> {
        Self::all().get(worker as usize)
    }

    /// Takes a configuration; its number, unless it is refused. On the main thread.
    pub fn configure(json: &[u8]) -> Option<u32> {
        // Tried apart, so that a bad one costs no worker what it knows.
        match catch_unwind(|| Both::load(json, 0).err()) {
            Ok(None) => {}
            Ok(Some(error)) => {
                log_error(&format!("tollgate gateway: bad configuration: {error}"));
                return None;
            }
            Err(_) => return None,
        }
        let root = ROOTS.fetch_add(1, Ordering::Relaxed);
        if root > MAX_ROOTS || Self::all().is_empty() {
            log_error("tollgate gateway: too many configurations, or no workers: restart Envoy");
            return None;
        }
        let json: Arc<[u8]> = json.into();
        let taken = Self::all().iter().all(|worker| {
            let taken = worker.run(On::Other, |worker, state, then| {
                worker.enter(state, then, |vm, host| {
                    host.roots.add(root, Arc::clone(&json));
                    host.configure(root, &json);
                    with_host(host, || vm.configure(root, json.len()))
                })
            });
            taken.unwrap_or(false)
        });
        if !taken {
            Self::forget(root);
        }
        taken.then_some(root)
    }

    /// A configuration ended. On any thread.
    pub fn forget(root: u32) {
        for worker in Self::all() {
            worker.run(On::Other, |worker, state, then| {
                let is_last = state.host.roots.is_last(root);
                if is_last {
                    // What was counted since the last tick. No stream is there to be touched: they hold configurations.
                    state.host.inbox.push_back(Event::Tick(root));
                    worker.deliver(state, then);
                }
                state.host.roots.remove(root);
                if is_last {
                    // What it knows would be old when the next one comes.
                    state.vm = Vm::default();
                    state.host.forget_calls();
                }
                worker.note_due(&state.host);
            });
        }
    }

    /// A number for a stream; it is no configuration's.
    pub fn new_stream(&self) -> u32 {
        self.lock().host.streams.number()
    }

    /// A request's headers are here: whether it goes on. On the worker's thread.
    pub fn request_headers(&self, stream: u32, root: u32, envoy: Handle) -> u32 {
        let action = self.run(On::Worker(Some(stream)), |worker, state, then| {
            let action = worker.enter(state, then, |vm, host| {
                host.streams.add(stream, root, envoy);
                host.enter(stream);
                with_host(host, || vm.request_headers(Some(root), stream))
            });
            let action = action.unwrap_or_else(|| {
                then.replies.push((stream, Reply::Respond(Response::unavailable())));
                Action::Pause
            });
            if action == Action::Pause && !then.ends(stream) {
                state.host.streams.wait(stream);
            }
            action
        });
        match action {
            Action::Continue => ffi::CONTINUE,
            Action::Pause => ffi::STOP_ALL_ITERATION_AND_WATERMARK,
        }
    }

    /// A response's headers are here. On the worker's thread.
    pub fn response_headers(&self, stream: u32) {
        self.run(On::Worker(None), |worker, state, then| {
            worker.enter(state, then, |vm, host| {
                if host.streams.handle(stream).is_some() {
                    host.enter(stream);
                    with_host(host, || vm.response_headers(stream));
                }
            });
        });
    }

    /// A call of a stream ended. On the worker's thread.
    pub fn stream_answered(&self, stream: u32, id: u64, answer: Option<Answer>) {
        self.run(On::Worker(None), |worker, state, then| {
            if let Some(token) = state.host.streams.take_call(stream, id) {
                state.host.inbox.push_back(Event::Answer(token, answer));
            }
            worker.deliver(state, then);
        });
    }

    /// There is something in the inbox. On the worker's thread.
    pub fn scheduled(&self) {
        self.run(On::Worker(None), Self::deliver);
    }

    /// A stream ended. On the worker's thread.
    pub fn destroy(&self, stream: u32) {
        self.run(On::Worker(None), |worker, state, then| {
            state.host.streams.remove(stream);
            // Its scheduler may have been to bring what is there.
            if !state.host.inbox.is_empty() && !state.host.streams.schedule() {
                worker.deliver(state, then);
            }
        });
    }

    /// A call of no stream ended. On the main thread.
    pub fn answer(worker: u32, token: u32, answer: Option<Answer>) {
        if let Some(worker) = Self::get(worker) {
            worker.bring([Event::Answer(token, answer)]);
        }
    }

    /// Ticks those that are due; how long until the next is. On the main thread.
    pub fn tick_all() -> Option<Duration> {
        for worker in Self::all() {
            if worker.due.load(Ordering::Acquire) <= now() {
                let due = worker.lock().host.roots.take_due(now());
                worker.bring(due.into_iter().map(Event::Tick));
            }
        }
        let next = Self::all().iter().map(|worker| worker.due.load(Ordering::Acquire)).min()?;
        (next != NEVER).then(|| Duration::from_nanos(next.saturating_sub(now())))
    }

    /// Has events come to the filter, wherever they may. On the main thread.
    fn bring(&self, events: impl IntoIterator<Item = Event>) {
        self.run(On::Other, |worker, state, then| {
            state.host.inbox.extend(events);
            if !state.host.streams.schedule() {
                worker.deliver(state, then);
            }
            worker.note_due(&state.host);
        });
    }

    /// Does something under the lock, and after that what was put off.
    fn run<T>(&self, on: On, what: impl FnOnce(&Self, &mut State, &mut Then) -> T) -> T {
        let mut then = Then::default();
        let result = what(self, &mut self.lock(), &mut then);
        self.after(then, on);
        result
    }

    /// Hands the inbox to the filter.
    fn deliver(&self, state: &mut State, then: &mut Then) {
        while let Some(event) = state.host.inbox.pop_front() {
            self.enter(state, then, |vm, host| match event {
                Event::Reply(stream, reply) => host.then.replies.push((stream, reply)),
                Event::Tick(root) => {
                    if host.roots.contains(root) {
                        host.enter(root);
                        with_host(host, || vm.tick(root));
                    }
                }
                Event::Answer(token, answer) => match host.take_call(token) {
                    Some(Call::Http) => {
                        let (headers, body) = answer
                            .as_ref()
                            .map_or((0, 0), |answer| (answer.headers.len(), answer.body.len()));
                        host.answer = answer;
                        with_host(host, || vm.http_call_response(token, headers, body));
                    }
                    Some(Call::Grpc) => {
                        host.answer = answer.as_ref().and_then(message);
                        let size = host.answer.as_ref().map(|answer| answer.body.len());
                        with_host(host, || vm.grpc_response(token, size));
                    }
                    None => {}
                },
            });
            state.host.answer = None;
        }
    }

    /// Runs the filter, and notes what is to be done once the lock is released. `None` where it panicked: what it knew is
    /// forgotten, and who waits is answered 503.
    fn enter<T>(
        &self,
        state: &mut State,
        then: &mut Then,
        run: impl FnOnce(&mut Vm<Both>, &mut Host) -> T,
    ) -> Option<T> {
        let State { vm, host } = state;
        let result = catch_unwind(AssertUnwindSafe(|| run(vm, host))).ok();
        if result.is_none() {
            log_error("tollgate gateway: the filter failed, and starts over");
            host.then = Then::default();
            host.forget_calls();
            let waiting: Vec<u32> = host.streams.waiting().filter(|stream| !then.ends(*stream)).collect();
            then.replies.extend(waiting.into_iter().map(|it| (it, Reply::Respond(Response::unavailable()))));
            *vm = rebuild(host);
        }
        then.take(&mut host.then);
        self.note_due(host);
        result
    }

    fn note_due(&self, host: &Host) {
        self.due.store(host.roots.due(), Ordering::Release);
    }

    /// Does what was put off. Without the lock.
    fn after(&self, then: Then, on: On) {
        match on {
            On::Worker(current) => {
                for (stream, reply) in then.replies {
                    self.reply(stream, reply, current == Some(stream));
                }
            }
            On::Other if then.replies.is_empty() => {}
            On::Other => {
                let mut state = self.lock();
                let replies = then.replies.into_iter().map(|(stream, reply)| Event::Reply(stream, reply));
                state.host.inbox.extend(replies);
                state.host.streams.schedule();
            }
        }
        if then.wakes || !then.queued.is_empty() {
            extension::wake(then.queued);
        }
    }

    /// Answers a request that waits, or the one whose headers are being handled; another is not there any more, or was
    /// answered. On the worker's thread.
    fn reply(&self, stream: u32, reply: Reply, is_current: bool) {
        let envoy = {
            let streams = &mut self.lock().host.streams;
            if streams.stop_waiting(stream) || is_current { streams.handle(stream) } else { None }
        };
        match (envoy, reply) {
            // SAFETY: the stream is there, on this thread.
            (Some(envoy), Reply::Continue) => unsafe {
                ffi::envoy_dynamic_module_callback_http_filter_continue_decoding(envoy);
            },
            (Some(envoy), Reply::Respond(response)) => response.send(envoy),
            (None, _) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the filter is caught under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A filter with all configurations. One on which it fails again is left out: its requests are answered 503.
fn rebuild(host: &mut Host) -> Vm<Both> {
    loop {
        let mut vm = Vm::default();
        let failed = host.roots.all().into_iter().find(|(root, json)| {
            host.configure(*root, json);
            let taken =
                catch_unwind(AssertUnwindSafe(|| with_host(host, || vm.configure(*root, json.len()))));
            taken.is_err()
        });
        match failed {
            Some((root, _)) => host.roots.remove(root),
            None => return vm,
        }
    }
}

/// The message of a gRPC call's answer.
fn message(answer: &Answer) -> Option<Answer> {
    let header =
        |name: &[u8]| answer.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_slice());
    let body = grpc::message(header(b":status")?, header(b"grpc-status"), &answer.body)?.to_vec();
    Some(Answer { headers: Vec::new(), body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Said};

    const NOTHING: &[u8] =
        br#"{"auth":{"trust_identity_headers":false,"claim_headers":[],"policies":{}},"rate_limit":{"policies":{}}}"#;

    /// The worker of this test, whose streams are numbers that only it uses.
    fn worker(number: u32) -> &'static Worker {
        Worker::make(1 << 10);
        Worker::get(number).unwrap()
    }

    fn add(worker: &Worker, root: u32, envoy: usize) -> u32 {
        let stream = worker.new_stream();
        worker.run(On::Worker(None), |_, state, _| {
            state.host.streams.add(stream, root, fake::handle(envoy));
            state.host.streams.wait(stream);
        });
        stream
    }

    #[test]
    fn a_failure_answers_those_that_wait_once_and_the_filter_starts_over() {
        let worker = worker(1);
        let root = Worker::configure(NOTHING).unwrap();
        let (first, second) = (add(worker, root, 11), add(worker, root, 12));
        worker.run(On::Worker(None), |worker, state, then| {
            then.replies.push((first, Reply::Continue));
            assert!(worker.enter(state, then, |_, _| -> () { panic!("as told to by a test") }).is_none());
        });
        assert_eq!(fake::said_of(11), [Said::Continue]);
        assert_eq!(fake::said_of(12), [Said::Respond(503)]);
        // Neither waits any more: nothing is said of them again.
        worker.run(On::Worker(None), |_, _, then| {
            then.replies.extend([first, second].map(|stream| (stream, Reply::Continue)));
        });
        assert_eq!(fake::said_of(11).len() + fake::said_of(12).len(), 2);
        // It has its configuration again: a request without a route goes on.
        assert_eq!(worker.request_headers(worker.new_stream(), root, fake::handle(13)), ffi::CONTINUE);
        Worker::forget(root);
    }

    #[test]
    fn what_another_thread_would_answer_waits_for_the_worker() {
        let worker = worker(2);
        let stream = add(worker, 1, 21);
        worker.run(On::Other, |_, _, then| then.replies.push((stream, Reply::Continue)));
        assert_eq!(fake::said_of(21), [Said::Schedule]);
        worker.scheduled();
        assert_eq!(fake::said_of(21), [Said::Schedule, Said::Continue]);
    }

    #[test]
    fn what_was_to_come_by_a_stream_that_ends_comes_by_another_or_at_once() {
        let worker = worker(3);
        let (first, second) = (add(worker, 1, 31), add(worker, 1, 32));
        worker.run(On::Other, |_, _, then| then.replies.push((second, Reply::Continue)));
        assert_eq!(fake::said_of(31), [Said::Schedule]);
        worker.destroy(first);
        assert_eq!(fake::said_of(32), [Said::Schedule]);
        worker.destroy(second);
        assert!(worker.lock().host.inbox.is_empty());
        assert_eq!(fake::said_of(32), [Said::Schedule], "it is gone");
    }

    #[test]
    fn a_bad_configuration_is_refused() {
        Worker::make(1 << 10);
        assert!(Worker::configure(b"{}").is_none());
        assert!(Worker::configure(b"\xff").is_none());
    }
}
