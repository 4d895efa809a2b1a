//! What the host knows of one TCP connection, and the order of its callbacks, as Envoy's network filters have it.
//!
//! There is one context for both sides: what the client sends is the downstream half, what comes back the upstream one.

use std::collections::BTreeMap;

use super::Vm;
use super::stream::FilterState;
use crate::abi::Direction;
use crate::plugin::spec::FailurePolicy;

/// Who closed a connection (`proxy_peer_type_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Peer {
    /// Envoy can't tell: so it is when the upstream ends.
    Unknown = 0,
    /// Envoy itself, or a filter.
    Local = 1,
    /// The client.
    Remote = 2,
}

/// Bytes in one direction.
#[derive(Default)]
pub(crate) struct Flow {
    /// What the filter holds or is shown.
    pub buffer: Vec<u8>,
    /// What went on.
    pub forwarded: Vec<u8>,
    /// Whether the filter can look at the buffer now.
    pub visible: bool,
    pub ended: bool,
}

impl Flow {
    fn release(&mut self) {
        self.forwarded.append(&mut self.buffer);
        self.visible = false;
    }
}

#[derive(Default)]
pub(crate) struct ConnectionState {
    pub downstream: Flow,
    pub upstream: Flow,
    pub filter_state: FilterState,
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The filter asked for the end.
    pub close_wanted: bool,
    pub closed: Option<Peer>,
    pub upstream_closed: bool,
}

impl ConnectionState {
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.downstream,
            Direction::Response => &mut self.upstream,
        }
    }

    /// The filter lets go what it holds of the client's bytes. Envoy has no such call for the other direction.
    pub fn resume(&mut self) {
        self.downstream.release();
    }
}

impl Vm {
    /// Makes a context for a connection, and tells the module of it.
    pub fn open_connection(&mut self, connection: ConnectionState) -> u32 {
        let state = self.state_mut();
        let (context, root) = (state.new_context(), state.root);
        state.connections.insert(context, connection);
        if let Some(function) = self.exports.on_context_create.clone() {
            self.enter("proxy_on_context_create", context, &function, (context, root));
        }
        // Pausing here holds back the filters behind this one, which this host doesn't have.
        if let Some(function) = self.exports.on_new_connection.clone() {
            self.enter("proxy_on_new_connection", context, &function, context);
        }
        self.after_connection_callback(context);
        context
    }

    /// Bytes arrive from one side. `false` where the connection is closed.
    pub fn feed_connection(
        &mut self,
        context: u32,
        direction: Direction,
        mut bytes: Vec<u8>,
        end: bool,
    ) -> bool {
        let Some(connection) = self.state_mut().connections.get_mut(&context) else { return false };
        let flow = connection.flow(direction);
        if flow.ended {
            return false;
        }
        flow.buffer.append(&mut bytes);
        (flow.visible, flow.ended) = (true, end);
        let size = flow.buffer.len() as u32;
        let (name, function) = match direction {
            Direction::Request => ("proxy_on_downstream_data", self.exports.on_downstream_data.clone()),
            Direction::Response => ("proxy_on_upstream_data", self.exports.on_upstream_data.clone()),
        };
        let verdict = match function {
            Some(function) => self.enter(name, context, &function, (context, size, u32::from(end))),
            None => Some(0),
        };
        let open = self.state().spec.failure_policy == FailurePolicy::FailOpen;
        if let Some(connection) = self.state_mut().connections.get_mut(&context)
            && (verdict == Some(0) || verdict.is_none() && open)
        {
            connection.flow(direction).release();
        }
        self.after_connection_callback(context);
        if direction == Direction::Response && end {
            self.upstream_closed(context);
        }
        true
    }

    /// The client or Envoy closes the connection: the module is told, then its context goes as a stream's does.
    pub fn close_connection(&mut self, context: u32, peer: Peer) {
        let Some(connection) = self.state_mut().connections.get_mut(&context) else { return };
        if connection.closed.is_some() {
            return;
        }
        connection.closed = Some(peer);
        if let Some(function) = self.exports.on_downstream_connection_close.clone() {
            let arguments = (context, peer as u32);
            self.enter("proxy_on_downstream_connection_close", context, &function, arguments);
        }
        if let Some(function) = self.exports.on_done.clone() {
            self.enter("proxy_on_done", context, &function, context);
        }
        if let Some(function) = self.exports.on_log.clone() {
            self.enter("proxy_on_log", context, &function, context);
        }
        if let Some(function) = self.exports.on_delete.clone() {
            self.enter("proxy_on_delete", context, &function, context);
        }
    }

    fn upstream_closed(&mut self, context: u32) {
        let Some(connection) = self.state_mut().connections.get_mut(&context) else { return };
        if connection.closed.is_some() || std::mem::replace(&mut connection.upstream_closed, true) {
            return;
        }
        if let Some(function) = self.exports.on_upstream_connection_close.clone() {
            let arguments = (context, Peer::Unknown as u32);
            self.enter("proxy_on_upstream_connection_close", context, &function, arguments);
        }
    }

    /// Closes it where the filter asked for it, and where the VM is dead and the plugin fails closed.
    fn after_connection_callback(&mut self, context: u32) {
        let open = self.state().spec.failure_policy == FailurePolicy::FailOpen;
        let dead = self.failed_at().is_some() && !open;
        let wanted = |connection: &ConnectionState| connection.close_wanted;
        if dead || self.state().connections.get(&context).is_some_and(wanted) {
            self.close_connection(context, Peer::Local);
        }
    }
}
