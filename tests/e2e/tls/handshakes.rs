//! A load that makes a new TLS connection for each request, and an account of what it was shown.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::task::JoinHandle;
use tollgate_tests::{
    runtime::runtime,
    tls::Client,
    wait::{holds, wait_until},
};

/// What came of all handshakes.
#[derive(Debug, Default, Clone)]
pub struct Account {
    /// Requests answered with 200, by the certificate that was shown.
    pub shown: BTreeMap<Vec<u8>, u64>,
    /// Everything else, by what went wrong.
    pub failures: BTreeMap<String, u64>,
}

/// A load that is under way.
pub struct Handshakes {
    account: Arc<Mutex<Account>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Handshakes {
    /// That many at once, each as fast as answers come.
    pub fn start(client: &Client, path: &'static str, at_once: usize) -> Self {
        let (account, stop) = (Arc::<Mutex<Account>>::default(), Arc::<AtomicBool>::default());
        let worker = || {
            let (client, account, stop) = (client.clone(), account.clone(), stop.clone());
            runtime().spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = match client.connect().await {
                        Ok(mut connection) => {
                            let reply = connection.get(path, &[]).await;
                            reply.and_then(|reply| reply.expect_status(200)).map(|_| connection.certificate)
                        }
                        Err(failed) => Err(failed),
                    };
                    let mut account = account.lock().unwrap();
                    match answer {
                        Ok(certificate) => *account.shown.entry(certificate.to_vec()).or_default() += 1,
                        Err(why) => *account.failures.entry(format!("{why:#}")).or_default() += 1,
                    }
                }
            })
        };
        let workers = (0..at_once).map(|_| worker()).collect();
        Self { account, stop, workers }
    }

    /// Waits until the certificate was shown.
    pub fn wait_for(&self, certificate: &CertificateDer<'_>) {
        wait_until("the certificate to be shown", Duration::from_secs(60), || {
            holds(self.account.lock().unwrap().shown.contains_key(certificate.as_ref()))
        })
        .unwrap();
    }

    /// Lets what is under way end, and gives the account.
    pub fn stop(mut self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            runtime().block_on(worker).unwrap();
        }
        self.account.lock().unwrap().clone()
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
