//! What was revoked, as xds-server tells it: one call that is always under way, answered as soon as there is news.
//!
//! Not a plugin configuration, by which Envoy would be told, too: each change would send and parse the whole list anew, and
//! clone a VM on the main thread to try it. See ARCHITECTURE.md. Here a change costs what changed, and a request no host
//! call.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_abi::{self as abi, HttpCall, Map};
use tollgate_filter_config::{RevocationService, RevocationUpdate};
use tollgate_filter_core::revocations::{self, Revocations};

use crate::host;

/// Longest answer that is read: a whole list of long ids.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// An answer that brings nothing new sooner than this is a mistake, not to be asked for again at once.
const SOON: Duration = Duration::from_millis(500);
/// Who is asked. Not the cluster's name: HTTP/2 servers refuse an authority with a slash.
const AUTHORITY: &[u8] = b"xds-server";
/// How long requests are held until a new VM knows what was revoked.
const PATIENCE: Duration = Duration::from_secs(1);
/// Until the first call of a VM.
pub const AT_ONCE: Duration = Duration::from_millis(1);

/// The list of one VM, and the call that keeps it up to date.
pub struct Revoked {
    list: Rc<RefCell<Revocations>>,
    service: RevocationService,
    /// What the last answer said, for the next call.
    cursor: String,
    call: Option<Call>,
    /// Until when requests are held for the first answer. `None` once there is no use.
    patience: Option<Duration>,
}

struct Call {
    token: u32,
    /// The plugin's context that owns it. It dies with that.
    root: u32,
    began: Duration,
}

/// What came of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The next call is to be made at once, by this plugin.
    Next(u32),
    /// The next call is to be made when a tick comes.
    Later,
    /// It was no answer. The same, and what is known stays.
    Failed,
}

impl Revoked {
    /// Nothing is known yet.
    pub fn new(service: &RevocationService) -> Self {
        Self {
            list: Rc::default(),
            service: service.clone(),
            cursor: String::new(),
            call: None,
            patience: Some(host::now().saturating_add(PATIENCE)),
        }
    }

    /// A newer configuration: what is known stays.
    pub fn configure(&mut self, service: &RevocationService) {
        self.service.clone_from(service);
    }

    /// The list, for those who decide.
    pub fn list(&self) -> &Rc<RefCell<Revocations>> {
        &self.list
    }

    /// Whether requests should be held, as the first answer is about to come.
    pub fn holds(&mut self) -> bool {
        self.patience.take_if(|until| host::now() >= *until);
        self.patience.is_some()
    }

    /// Whether no call is under way.
    pub fn is_idle(&self) -> bool {
        self.call.is_none()
    }

    /// Makes a call of the plugin `root`, unless one is under way. Whether there is one then.
    pub fn ask(&mut self, root: u32) -> bool {
        if self.call.is_some() {
            return true;
        }
        if abi::set_effective_context(root).is_err() {
            return false;
        }
        let path = format!("{}?after={}", self.service.path, self.cursor);
        let headers: [(&[u8], &[u8]); 4] = [
            (b":method", b"GET"),
            (b":path", path.as_bytes()),
            (b":authority", AUTHORITY),
            (b"accept", b"application/json"),
        ];
        let sent = abi::send_http_call(&HttpCall {
            cluster: &self.service.cluster,
            headers: &headers,
            body: &[],
            timeout: Duration::from_millis(self.service.timeout_ms),
        });
        self.call = sent.ok().map(|token| Call { token, root, began: host::now() });
        self.call.is_some()
    }

    /// Whether that is the call's.
    pub fn is_call(&self, token: u32) -> bool {
        self.call.as_ref().is_some_and(|call| call.token == token)
    }

    /// Forgets the call, so that another is made.
    pub fn start_over(&mut self) {
        self.call = None;
    }

    /// Forgets a call whose plugin went.
    pub fn sweep(&mut self) {
        self.call.take_if(|call| !abi::CALLS_OUTLIVE_PLUGINS && !abi::exists(call.root));
    }

    /// Takes the call's answer.
    pub fn answer(&mut self, headers: usize, body_size: usize) -> Answered {
        let Some(call) = self.call.take() else { return Answered::Later };
        let now = host::now();
        let status = if headers == 0 {
            Vec::new()
        } else {
            abi::header(Map::CallResponse, b":status").unwrap_or_default()
        };
        match status.as_slice() {
            b"204" if now.saturating_sub(call.began) >= SOON => Answered::Next(call.root),
            b"204" => Answered::Later,
            b"200" => {
                let body = abi::http_call_body(body_size.min(MAX_ANSWER_BYTES)).unwrap_or_default();
                match revocations::parse(&body) {
                    Ok(update) => self.learn(update, call.root, now),
                    Err(error) => {
                        self.patience = None;
                        abi::log_error(&format!(
                            "tollgate: what xds-server says of revocations can't be read: {error}"
                        ));
                        Answered::Failed
                    }
                }
            }
            _ => {
                self.patience = None;
                Answered::Failed
            }
        }
    }

    fn learn(&mut self, update: RevocationUpdate, root: u32, now: Duration) -> Answered {
        let excess = self.list.borrow_mut().learn(&update, now.as_secs());
        if excess > 0 {
            abi::log_error(&format!(
                "tollgate: {excess} revocations too many: those that end first are forgotten"
            ));
        }
        if !update.revoked.is_empty() {
            self.patience = None;
        }
        let server = |cursor: &str| cursor.rsplit_once('-').map(|(server, _)| server.to_owned());
        let is_news = self.cursor != update.cursor;
        // Servers that take turns each tell all that they know, at once.
        let in_turn = !self.cursor.is_empty() && server(&self.cursor) != server(&update.cursor);
        self.cursor = update.cursor;
        if is_news && !in_turn { Answered::Next(root) } else { Answered::Later }
    }
}
