//! The filters' modules on their way to Envoys, as the settings have it: the wiring of `source::module`, `http::wasm` and
//! `translate`.

use std::future::pending;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::sync::watch;

use crate::gateway::scalar::Address;
use crate::serve::StartError;
use crate::settings::Serve;
use crate::settings::wasm::WasmDelivery;
use crate::source::module::{ModuleError, ModuleStore};
use crate::source::watch::{Settle, Watch};
use crate::translate::{MODULES, Modules};

/// Time between two looks at the files at most: a module may also have to be loaded anew because time went by.
const POLL: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Modules that were read, if it is this server that serves them.
pub struct Delivery {
    settings: Serve,
    store: Option<ModuleStore>,
}

/// Modules that Envoys are told of.
pub struct Told {
    origin: Option<(Address, ModuleStore, Watch)>,
    sender: watch::Sender<Modules>,
}

impl Delivery {
    /// Reads the modules, if they are served from here. Blocks.
    ///
    /// # Errors
    /// When one can't be served, or when no Envoy could fetch it.
    pub fn open(settings: &Serve) -> Result<Self, StartError> {
        let store = match settings.wasm.wasm_delivery {
            WasmDelivery::File => {
                for module in MODULES {
                    // Not fatal: the Envoys may have it where this machine has not.
                    if !settings.wasm.wasm_dir.join(format!("{module}.wasm")).is_file() {
                        let folder = settings.wasm.wasm_dir.display();
                        tracing::warn!(%folder, module, "no such filter here; build it with `make wasm`");
                    }
                }
                None
            }
            WasmDelivery::Http => {
                settings.wasm.origin(settings.http_address).map_err(StartError::Usage)?;
                let store = ModuleStore::open(&settings.wasm.wasm_dir, &MODULES);
                Some(store.map_err(|error: ModuleError| StartError::Module(error))?)
            }
        };
        Ok(Self { settings: settings.clone(), store })
    }

    /// What the HTTP port serves.
    pub fn store(&self) -> Option<ModuleStore> {
        self.store.clone()
    }

    /// Tells of the modules, which the socket at `http` serves.
    ///
    /// # Errors
    /// When the system gives no watcher.
    pub fn tell(self, http: SocketAddr) -> anyhow::Result<Told> {
        let Self { settings, store } = self;
        let Some(store) = store else {
            let folder =
                std::path::absolute(&settings.wasm.wasm_dir).context("can't find the working directory")?;
            let modules = Modules::Folder(folder.to_string_lossy().into_owned());
            return Ok(Told { origin: None, sender: watch::Sender::new(modules) });
        };
        let origin = settings.wasm.origin(http).map_err(anyhow::Error::msg)?;
        let settle = Settle { poll: settings.poll_interval.min(POLL), ..Settle::of(&settings) };
        let watch = Watch::new(settle).context("can't watch files")?;
        let modules = Modules::Http { origin: origin.clone(), current: store.current() };
        Ok(Told { origin: Some((origin, store, watch)), sender: watch::Sender::new(modules) })
    }
}

impl Told {
    /// What Envoys are to load, as it changes.
    pub fn subscribe(&self) -> watch::Receiver<Modules> {
        self.sender.subscribe()
    }

    /// Follows the files until it is dropped.
    pub async fn run(self) {
        let Self { origin, sender } = self;
        let Some((origin, store, watch)) = origin else { return pending().await };
        let tell = |current| {
            let modules = Modules::Http { origin: origin.clone(), current };
            sender.send_if_modified(|told| {
                let differs = *told != modules;
                *told = modules;
                differs
            });
        };
        store.follow(watch, tell).await;
    }
}
