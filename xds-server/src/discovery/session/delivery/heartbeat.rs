//! Heartbeats of one type on one stream (xDS protocol, "TTL"): a client that holds resources with a time to live is told,
//! well before it ends, to keep them.
//!
//! A heartbeat is a response like any other to its nonce, and no push: nothing is counted, and its ACK is nobody's answer.
//! Over delta it has no content; a client that refuses it has lost the resource, because it or we were late, and is sent it
//! in full. Over state of the world it has all content: Envoy 1.40 accepts one without, and then neither counts the time
//! anew nor misses a resource that it has lost. Listeners and clusters come whole there, since silence removes them.
//!
//! Not for virtual hosts: Envoy takes a resource without content for an answer there.

use std::sync::Arc;
use std::time::Instant;

use super::Delivery;
use crate::discovery::session::response::{Payload, Response};
use crate::snapshot::{Resource, TypeUrl};

/// Heartbeats in a time to live: two may come late.
const PER_TTL: u32 = 3;

impl Delivery {
    /// When the next heartbeat is due, seen at `now`; `None` while there is nothing to say, or a response is unanswered.
    pub fn heartbeat_due(&mut self, now: Instant) -> Option<Instant> {
        let Some(shortest) = self.expiring().filter_map(|resource| resource.ttl()).min() else {
            self.last_heartbeat = None;
            return None;
        };
        let last = *self.last_heartbeat.get_or_insert(now);
        self.outstanding.is_none().then(|| last.checked_add(shortest / PER_TTL)).flatten()
    }

    /// The heartbeat. `None` before the client has anything.
    pub fn heartbeat(&mut self, now: Instant) -> Option<Response> {
        self.last_heartbeat = Some(now);
        let (base, whole) = (self.base.as_ref()?, self.wanted.is_wildcard());
        let payload = match (self.sends_full_state(), whole) {
            (true, true) => Payload::All(base.clone()),
            (true, false) => Payload::Listed(base.select_all(self.wanted.names()).found.clone()),
            (false, _) => Payload::Listed(self.expiring().cloned().collect()),
        };
        self.nonce += 1;
        let response = Response {
            type_url: self.type_url.clone(),
            version: base.version().clone(),
            nonce: self.nonce.to_string().into(),
            payload,
            removed: Vec::new(),
            told: Vec::new(),
            heartbeat: true,
            flavour: self.flavour,
            whole,
        };
        self.outstanding = Some(response.clone());
        Some(response)
    }

    /// Takes the answer to a heartbeat.
    pub(super) fn answer_heartbeat(&mut self, response: &Response, refused: bool) {
        if refused {
            response.payload.iter().for_each(|resource| self.owe(resource.name()));
        }
        self.settle();
    }

    /// What the client holds, as far as it was brought there, and would lose.
    fn expiring(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let all = match &self.base {
            Some(base) if self.type_url != TypeUrl::VIRTUAL_HOST && !self.all_owed => base.expiring(),
            _ => &[],
        };
        all.iter().filter(|resource| {
            let name = resource.name();
            self.wanted.wants(name) && !self.owed.contains(name) && !self.rejected.contains(name)
        })
    }
}
