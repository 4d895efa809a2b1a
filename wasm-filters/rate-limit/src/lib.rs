//! The rate-limit filter as Envoy loads it.
//!
//! Host calls only: every decision is `tollgate-filter-core`'s. `plugin` is what one configuration makes,
//! `request` what happens to one request, `shared` the memory that all workers count in.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

mod plugin;
mod request;
mod shared;

use plugin::Plugin;
use request::Request;

/// What the SDK's macro exports; in a module of its own, as it is public and has no docs.
mod start {
    use proxy_wasm::types::LogLevel;

    proxy_wasm::main! {{
        // Installs the panic hook; what the filter logs itself is rare enough for any level.
        proxy_wasm::set_log_level(LogLevel::Warn);
        proxy_wasm::set_root_context(|_| Box::new(super::Root::default()));
    }}
}

/// One plugin configuration in one VM. Requests hold its [`Plugin`] on their own, so that one which is under
/// way keeps the configuration it began with.
#[derive(Default)]
struct Root {
    plugin: Option<std::rc::Rc<Plugin>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        match Plugin::load(size) {
            Ok(plugin) => {
                self.plugin = Some(std::rc::Rc::new(plugin));
                true
            }
            Err(error) => {
                let message = format!("tollgate rate limit: bad configuration: {error}");
                let _ = hostcalls::log(LogLevel::Error, &message);
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request::new(self.plugin.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
