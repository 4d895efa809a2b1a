//! One TCP connection in a test's hand.

use std::cell::RefCell;
use std::rc::Rc;

use crate::abi::Direction;
use crate::error::Error;
use crate::shared::Shared;
use crate::vm::Vm;
use crate::vm::connection::{ConnectionState, Peer};

/// A connection through a network filter. Dropping it closes it, as a client that goes away does.
pub struct Connection {
    shared: Rc<Shared>,
    vm: Rc<RefCell<Vm>>,
    context: u32,
}

impl Connection {
    pub(crate) fn open(
        shared: Rc<Shared>,
        vm: Rc<RefCell<Vm>>,
        state: ConnectionState,
    ) -> Result<Self, Error> {
        let context = shared.with(&vm, |vm| Ok(vm.open_connection(state)))?;
        Ok(Self { shared, vm, context })
    }

    /// The client sends bytes; `end` is its half of the connection closed (`proxy_on_downstream_data`).
    ///
    /// # Errors
    ///
    /// The module trapped, or the connection is closed.
    pub fn client_sends(&mut self, bytes: impl Into<Vec<u8>>, end: bool) -> Result<(), Error> {
        self.feed(Direction::Request, bytes.into(), end)
    }

    /// The upstream sends bytes (`proxy_on_upstream_data`); its end is told (`proxy_on_upstream_connection_close`).
    ///
    /// # Errors
    ///
    /// As [`Self::client_sends`].
    pub fn upstream_sends(&mut self, bytes: impl Into<Vec<u8>>, end: bool) -> Result<(), Error> {
        self.feed(Direction::Response, bytes.into(), end)
    }

    /// What went on to the upstream so far.
    pub fn to_upstream(&self) -> Vec<u8> {
        self.look(|connection| connection.downstream.forwarded.clone()).unwrap_or_default()
    }

    /// What went on to the client so far.
    pub fn to_client(&self) -> Vec<u8> {
        self.look(|connection| connection.upstream.forwarded.clone()).unwrap_or_default()
    }

    /// Who closed it, where it is closed.
    pub fn closed_by(&self) -> Option<Peer> {
        self.look(|connection| connection.closed).flatten()
    }

    /// An object that the filter left for Envoy with `set_envoy_filter_state`, such as `envoy.tcp_proxy.cluster`.
    pub fn filter_state(&self, name: &str) -> Option<Vec<u8>> {
        self.look(|connection| connection.filter_state.envoy.get(name).cloned()).flatten()
    }

    /// Number of its context in the module.
    pub fn context_id(&self) -> u32 {
        self.context
    }

    /// The client goes: `proxy_on_downstream_connection_close`, `proxy_on_done`, `proxy_on_log`, `proxy_on_delete`.
    ///
    /// # Errors
    ///
    /// The module trapped.
    pub fn close(&mut self) -> Result<(), Error> {
        let context = self.context;
        self.shared.with(&self.vm, |vm| {
            vm.close_connection(context, Peer::Remote);
            Ok(())
        })
    }

    fn feed(&mut self, direction: Direction, bytes: Vec<u8>, end: bool) -> Result<(), Error> {
        let context = self.context;
        if self.closed_by().is_some() {
            return Err(Error::Finished);
        }
        self.shared.with(&self.vm, |vm| {
            vm.feed_connection(context, direction, bytes, end).then_some(()).ok_or(Error::Finished)
        })
    }

    fn look<T>(&self, look: impl FnOnce(&ConnectionState) -> T) -> Option<T> {
        self.vm.try_borrow().ok()?.state().connections.get(&self.context).map(look)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A trap on the way is kept in `Plugin::traps`.
        let _ = self.close();
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            vm.state_mut().connections.remove(&self.context);
        }
    }
}
