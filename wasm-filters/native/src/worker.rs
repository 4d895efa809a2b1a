//! One worker's virtual machine, as it were: the filter's state for the streams of one thread.
//!
//! It is locked, as the main thread brings it answers and ticks. While a stream of it waits, these go to the worker's
//! thread by the scheduler of that stream: what they are for may be streams, which nobody else may touch. While none
//! waits, nothing but counters and lists can be concerned, and the main thread does it.
//!
//! Envoy is told to answer or continue a request after the lock is released: it may call in again at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tollgate_filter::{Both, Vm};
use tollgate_filter_abi::{Action, Module, with_host};

use crate::extension::{self, Answer};
use crate::ffi::{self, Handle};
use crate::host::{Call, Event, Host};
use crate::then::{Reply, Then};

/// What numbers of streams have, and those of configurations have not.
const STREAM: u32 = 1 << 31;
/// Most configurations in the life of a process.
const MAX_ROOTS: u32 = (1 << 22) - 1;
/// Most workers.
const MAX_WORKERS: u32 = 1 << 10;
/// Of a worker that needs no tick.
const NEVER: u64 = u64::MAX;

static WORKERS: OnceLock<Vec<Worker>> = OnceLock::new();
/// Numbers of configurations.
static ROOTS: AtomicU32 = AtomicU32::new(1);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A worker.
pub struct Worker {
    state: Mutex<State>,
    /// When the next tick is, in nanoseconds since [`START`].
    due: AtomicU64,
    streams: AtomicU32,
}

struct State {
    vm: Vm<Both>,
    host: Host,
}

// SAFETY: the filter's state is full of `Rc`, but none of them leaves it, and it is used under the lock only. Of Envoy's
// handles in `host`, those of streams are used on their thread only (see above), and schedulers may be used on any.
unsafe impl Send for State {}

/// Whether a request goes on.
pub type RequestStatus = u32;

/// Nanoseconds since some time in the past.
pub fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(NEVER)
}

impl Worker {
    /// Makes them. On the main thread, once.
    pub fn make(count: u32) {
        let count = count.min(MAX_WORKERS);
        LazyLock::force(&START);
        WORKERS.get_or_init(|| {
            let state = |worker| State { vm: Vm::default(), host: Host::new(worker) };
            let worker = |worker| Self {
                state: Mutex::new(state(worker)),
                due: AtomicU64::new(NEVER),
                streams: AtomicU32::new(0),
            };
            (0..count).map(worker).collect()
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
        let root = ROOTS.fetch_add(1, Ordering::Relaxed);
        if root > MAX_ROOTS {
            crate::host::log_error("tollgate gateway: too many configurations; restart Envoy");
            return None;
        }
        // The first says what is wrong with it, and the others would say the same.
        let taken = Self::all().iter().all(|worker| {
            let mut then = Then::default();
            let taken = worker.enter(&mut worker.lock(), &mut then, |vm, host| {
                host.add_root(root, json);
                with_host(host, || vm.configure(root, json.len()))
            });
            worker.after(then);
            taken.unwrap_or(false)
        });
        if !taken {
            Self::forget(root);
        }
        taken.then_some(root)
    }

    /// A number for a stream; it is no configuration's.
    pub fn new_stream(&self) -> u32 {
        self.streams.fetch_add(1, Ordering::Relaxed) | STREAM
    }

    /// A configuration ended. On any thread.
    pub fn forget(root: u32) {
        for worker in Self::all() {
            worker.lock().host.remove_root(root);
        }
    }

    /// A request's headers are here. On the worker's thread.
    pub fn request_headers(&self, stream: u32, root: u32, envoy: Handle) -> RequestStatus {
        let mut then = Then::default();
        let mut state = self.lock();
        self.deliver(&mut state, &mut then);
        let action = self.enter(&mut state, &mut then, |vm, host| {
            host.add_stream(stream, root, envoy);
            with_host(host, || vm.request_headers(Some(root), stream))
        });
        let action = action.unwrap_or_else(|| {
            then.respond_unavailable(stream);
            Action::Pause
        });
        if action == Action::Pause && !then.ends(stream) {
            state.host.wait(stream);
        }
        drop(state);
        self.after(then);
        match action {
            Action::Continue => ffi::CONTINUE,
            Action::Pause => ffi::STOP_ALL_ITERATION_AND_WATERMARK,
        }
    }

    /// A response's headers are here. On the worker's thread.
    pub fn response_headers(&self, stream: u32) {
        let mut then = Then::default();
        let mut state = self.lock();
        self.enter(&mut state, &mut then, |vm, host| {
            if host.is_stream(stream) {
                host.enter(stream);
                with_host(host, || vm.response_headers(stream));
            }
        });
        drop(state);
        self.after(then);
    }

    /// A call of a stream ended. On the worker's thread.
    pub fn stream_answered(&self, stream: u32, id: u64, answer: Option<Answer>) {
        let mut then = Then::default();
        let mut state = self.lock();
        if let Some(token) = state.host.stream_call(stream, id) {
            state.host.inbox.push_back(Event::Answer(token, answer));
        }
        self.deliver(&mut state, &mut then);
        drop(state);
        self.after(then);
    }

    /// There is something in the inbox. On the worker's thread.
    pub fn scheduled(&self) {
        let mut then = Then::default();
        let mut state = self.lock();
        self.deliver(&mut state, &mut then);
        drop(state);
        self.after(then);
    }

    /// A stream ended. On the worker's thread.
    pub fn destroy(&self, stream: u32) {
        let mut then = Then::default();
        let mut state = self.lock();
        state.host.remove_stream(stream);
        // What was to come by its scheduler comes now.
        self.deliver(&mut state, &mut then);
        drop(state);
        self.after(then);
    }

    /// A call of no stream ended. On the main thread.
    pub fn answer(worker: u32, token: u32, answer: Option<Answer>) {
        let Some(worker) = Self::get(worker) else { return };
        worker.bring([Event::Answer(token, answer)]);
    }

    /// Ticks those that are due; how long until the next is. On the main thread.
    pub fn tick_all() -> Option<Duration> {
        for worker in Self::all() {
            if worker.due.load(Ordering::Acquire) <= now() {
                let due = worker.lock().host.take_due(now());
                worker.bring(due.into_iter().map(Event::Tick));
            }
        }
        let next = Self::all().iter().map(|worker| worker.due.load(Ordering::Acquire)).min()?;
        (next != NEVER).then(|| Duration::from_nanos(next.saturating_sub(now())))
    }

    /// Has events come to the filter, wherever they may. On the main thread.
    fn bring(&self, events: impl IntoIterator<Item = Event>) {
        let mut then = Then::default();
        let mut state = self.lock();
        state.host.inbox.extend(events);
        if !state.host.schedule() {
            self.deliver(&mut state, &mut then);
        }
        self.note_due(&state.host);
        drop(state);
        self.after(then);
    }

    /// Hands the inbox to the filter.
    fn deliver(&self, state: &mut State, then: &mut Then) {
        while let Some(event) = state.host.inbox.pop_front() {
            self.enter(state, then, |vm, host| match event {
                Event::Tick(root) => {
                    if host.is_root(root) {
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
                        host.answer = answer.and_then(grpc_message);
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
            crate::host::log_error("tollgate gateway: the filter failed, and starts over");
            host.start_over(then);
            *vm = rebuild(host);
        }
        then.take(&mut host.then);
        self.note_due(host);
        result
    }

    fn note_due(&self, host: &Host) {
        self.due.store(host.due().unwrap_or(NEVER), Ordering::Release);
    }

    /// Does what was put off. Without the lock.
    fn after(&self, then: Then) {
        for (stream, reply) in then.replies {
            // The one before may have ended it.
            let Some(envoy) = self.lock().host.settle(stream) else { continue };
            match reply {
                Reply::Continue => {
                    // SAFETY: the stream is there, on this thread.
                    unsafe { ffi::envoy_dynamic_module_callback_http_filter_continue_decoding(envoy) };
                }
                Reply::Respond(response) => response.send(envoy),
            }
        }
        if then.wakes {
            extension::wake();
        }
        extension::queue(then.queued);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the filter is caught under the lock.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A filter with all configurations. One on which it fails again is left out: its requests are answered 503.
fn rebuild(host: &mut Host) -> Vm<Both> {
    loop {
        let mut vm = Vm::default();
        let failed = host.roots().into_iter().find(|(root, json)| {
            host.configure(*root, json);
            let taken =
                catch_unwind(AssertUnwindSafe(|| with_host(host, || vm.configure(*root, json.len()))));
            taken.is_err()
        });
        match failed {
            Some((root, _)) => host.remove_root(root),
            None => return vm,
        }
    }
}

/// The one message of a unary call (gRPC over HTTP/2: a byte that is 0 where it is not compressed, four of its length).
fn grpc_message(answer: Answer) -> Option<Answer> {
    let header =
        |name: &[u8]| answer.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_slice());
    let is_fine = header(b":status") == Some(b"200") && matches!(header(b"grpc-status"), None | Some(b"0"));
    let (frame, message) = answer.body.split_first_chunk::<5>().filter(|_| is_fine)?;
    let [0, length @ ..] = *frame else { return None };
    let message = message.get(..u32::from_be_bytes(length) as usize)?.to_vec();
    Some(Answer { headers: Vec::new(), body: message })
}
