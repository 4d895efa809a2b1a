//! What the process has once, on Envoy's main thread: a timer, metrics, and calls to other services.
//!
//! Workers hand over what they want in a queue and have the main thread woken; what comes of it is handed back to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_filter_abi::{Result, Status};

use crate::ffi::{self, Buffer, Handle, Header};
use crate::worker::Worker;

/// A label of every metric, and its value: filters in Wasm, before or after in the same process, count apart. Envoy would
/// show two series by one name.
const FILTERS: (&str, &str) = ("filters", "native");
/// Most series; a worker has fewer of its own accord, and workers have the same.
const MAX_SERIES: usize = 10_000;

/// The extension, as Envoy calls it.
struct Extension {
    envoy: Handle,
    scheduler: Handle,
    timer: Handle,
    /// Metrics by their names.
    counters: BTreeMap<&'static str, usize>,
}

// SAFETY: of Envoy's handles, `scheduler` may be used on any thread until it is deleted, under the lock; the others are
// used on the main thread only.
unsafe impl Send for Extension {}

static EXTENSION: Mutex<Option<Extension>> = Mutex::new(None);
/// Whether calls can be made.
static INITIALIZED: AtomicBool = AtomicBool::new(false);
static QUEUE: Mutex<Vec<Queued>> = Mutex::new(Vec::new());
/// All that was ever counted; a counter is an index.
static SERIES: Mutex<Vec<Series>> = Mutex::new(Vec::new());
/// Calls under way, by Envoy's number: whose, and by which number there.
static CALLS: Mutex<BTreeMap<u64, (u32, u32)>> = Mutex::new(BTreeMap::new());

/// A metric, and the values of its labels.
#[derive(PartialEq)]
struct Series {
    metric: String,
    values: Vec<String>,
}

/// What waits for the main thread.
pub enum Queued {
    /// A call to make.
    Call {
        /// Whose.
        worker: u32,
        /// Its number there.
        token: u32,
        request: Request,
    },
    /// A counter, and how much to add to it.
    Count(u32, u64),
}

/// A request to another service.
pub struct Request {
    pub cluster: String,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub timeout: Duration,
}

/// What another service answered.
pub struct Answer {
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Sends it by one of Envoy's functions, for what that takes; the number that Envoy gives it.
    ///
    /// # Safety
    /// `of` must be what `send` takes, be there, and be used on this thread.
    pub unsafe fn send(&self, send: ffi::HttpCallout, of: Handle) -> Result<u64> {
        let headers: Vec<Header> = self.headers.iter().map(Header::of).collect();
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let (cluster, body) = (Buffer::of(self.cluster.as_bytes()), Buffer::of(&self.body));
        let mut id = 0;
        // SAFETY: the caller's part is above; Envoy reads the buffers and writes `id`.
        match unsafe { send(of, &raw mut id, cluster, headers.as_ptr(), headers.len(), body, timeout) } {
            0 => Ok(id),
            status => Err(Status::Failed(status)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn labels_of(labels: &[&str], last: &str) -> Vec<Buffer> {
    labels.iter().copied().chain([last]).map(|label| Buffer::of(label.as_bytes())).collect()
}

/// Envoy makes the extension, with what it needs. On the main thread.
pub fn start(envoy: Handle) {
    let mut counters = BTreeMap::new();
    for (name, labels) in tollgate_filter::metrics() {
        let labels: Vec<Buffer> = labels_of(labels, FILTERS.0);
        let (name_buffer, mut id) = (Buffer::of(name.as_bytes()), 0);
        // SAFETY: `envoy` is the extension that is being made. Envoy reads the buffers and writes `id`.
        let status = unsafe {
            ffi::envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(
                envoy,
                name_buffer,
                labels.as_ptr(),
                labels.len(),
                &raw mut id,
            )
        };
        if status == 0 {
            counters.insert(name, id);
        }
    }
    // SAFETY: the same.
    let (scheduler, timer) = unsafe {
        ffi::envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(envoy);
        (
            ffi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(envoy),
            ffi::envoy_dynamic_module_callback_bootstrap_extension_timer_new(envoy),
        )
    };
    *lock(&EXTENSION) = Some(Extension { envoy, scheduler, timer, counters });
}

/// Whether Envoy has the extension.
pub fn is_there() -> bool {
    lock(&EXTENSION).is_some()
}

/// The server is ready for calls. On the main thread.
pub fn initialized() {
    INITIALIZED.store(true, Ordering::Release);
    work();
}

/// The extension ends. On the main thread.
pub fn stop() {
    INITIALIZED.store(false, Ordering::Release);
    let Some(extension) = lock(&EXTENSION).take() else { return };
    // SAFETY: both were made by `start`, and nobody else has them.
    unsafe {
        ffi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(extension.scheduler);
        ffi::envoy_dynamic_module_callback_bootstrap_extension_timer_delete(extension.timer);
    }
}

/// Hands these over to the main thread, and has it do what is due. On any thread.
pub fn wake(queued: Vec<Queued>) {
    lock(&QUEUE).extend(queued);
    if let Some(extension) = &*lock(&EXTENSION) {
        // SAFETY: it is there for as long as the lock is held.
        unsafe {
            ffi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(
                extension.scheduler,
                0,
            );
        }
    }
}

/// The counter with these labels. On any thread, and seldom: a worker remembers it.
pub fn counter(metric: &str, labels: &[(&str, &str)]) -> Result<u32> {
    let values = labels.iter().map(|(_, value)| (*value).to_owned()).collect();
    let wanted = Series { metric: metric.to_owned(), values };
    let mut series = lock(&SERIES);
    let index = series.iter().position(|known| *known == wanted).unwrap_or(series.len());
    if index >= MAX_SERIES {
        return Err(Status::Failed(0));
    }
    if index == series.len() {
        series.push(wanted);
    }
    u32::try_from(index).map_err(|_| Status::Failed(0))
}

/// Ticks the workers that are due, does what is in the queue, and comes back when the next worker is due. On the main
/// thread.
pub fn work() {
    if !INITIALIZED.load(Ordering::Acquire) {
        return;
    }
    let next = Worker::tick_all();
    let queued = std::mem::take(&mut *lock(&QUEUE));
    for queued in queued {
        match queued {
            Queued::Count(counter, count) => self::count(counter, count),
            Queued::Call { worker, token, request } => {
                if send(worker, token, &request).is_err() {
                    Worker::answer(worker, token, None);
                }
            }
        }
    }
    if let (Some(extension), Some(next)) = (&*lock(&EXTENSION), next) {
        let delay = u64::try_from(next.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
        // SAFETY: it is there for as long as the lock is held, and this is the main thread.
        unsafe {
            ffi::envoy_dynamic_module_callback_bootstrap_extension_timer_enable(extension.timer, delay)
        };
    }
}

fn send(worker: u32, token: u32, request: &Request) -> Result {
    let envoy = lock(&EXTENSION).as_ref().map(|extension| extension.envoy).ok_or(Status::Failed(0))?;
    // SAFETY: the extension ends on this thread only.
    let id =
        unsafe { request.send(ffi::envoy_dynamic_module_callback_bootstrap_extension_http_callout, envoy) }?;
    lock(&CALLS).insert(id, (worker, token));
    Ok(())
}

/// A call ended. On the main thread.
pub fn answered(id: u64, answer: Option<Answer>) {
    let call = lock(&CALLS).remove(&id);
    if let Some((worker, token)) = call {
        Worker::answer(worker, token, answer);
    }
}

fn count(counter: u32, count: u64) {
    let all = lock(&SERIES);
    let Some(series) = all.get(counter as usize) else { return };
    let values: Vec<&str> = series.values.iter().map(String::as_str).collect();
    let values = labels_of(&values, FILTERS.1);
    let extension = lock(&EXTENSION);
    let Some(extension) = &*extension else { return };
    if let Some(id) = extension.counters.get(series.metric.as_str()) {
        // SAFETY: the extension is there, and this is its thread. Envoy reads the values, as many as the metric has.
        unsafe {
            ffi::envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(
                extension.envoy,
                *id,
                values.as_ptr(),
                values.len(),
                count,
            );
        }
    }
}
