//! The certificate of the gRPC port, and the authorities of its clients: read from files, and followed while they are
//! replaced. A file that goes bad leaves what it held, with a warning, as those of the YAML do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::file::read_file;
use super::watch::Watch;
use crate::discovery::transport::Trust;
use crate::gateway::pem::{CaBundle, KeyPair, PairError};

/// What HTTP/2 is called in a handshake (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";

/// Where they are.
#[derive(Debug, Clone)]
pub struct PortFiles {
    /// The certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of clients; without it, clients are not asked for certificates.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC port can't speak TLS: {0}")]
pub struct PortTlsError(String);

/// The files as they were when they were last right.
pub struct PortTls {
    files: PortFiles,
    held: Held,
    trust: watch::Sender<Trust>,
    warnings: watch::Sender<Vec<String>>,
}

#[derive(Clone, PartialEq)]
struct Held {
    pair: KeyPair,
    authorities: Option<CaBundle>,
}

impl PortTls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub fn open(files: PortFiles) -> Result<Self, PortTlsError> {
        let held = Held {
            pair: files.pair().map_err(PortTlsError)?,
            authorities: files.authorities().transpose().map_err(PortTlsError)?,
        };
        let trust = held.trust(0).map_err(PortTlsError)?;
        let warnings = held.outdated(&files);
        let (trust, warnings) = (watch::Sender::new(trust), watch::Sender::new(warnings));
        Ok(Self { files, held, trust, warnings })
    }

    /// What the port shows and whom it believes, as it changes.
    pub fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// What people should look at.
    pub fn warnings(&self) -> watch::Receiver<Vec<String>> {
        self.warnings.subscribe()
    }

    /// Follows the files until it is dropped.
    pub async fn follow(mut self, mut watch: Watch) {
        tell(&[], &self.warnings.borrow());
        loop {
            watch.watch(&self.files.paths());
            watch.changed().await;
            let files = self.files.clone();
            // They may be on a slow disk.
            let read = tokio::task::spawn_blocking(move || (files.pair(), files.authorities()));
            let Ok((pair, authorities)) = read.await else { continue };
            self.take(pair, authorities.transpose());
        }
    }

    /// Takes what is right, and keeps what was right before in place of what is not.
    fn take(&mut self, pair: Result<KeyPair, String>, authorities: Result<Option<CaBundle>, String>) {
        let mut warnings = Vec::new();
        let kept = |reason: String| format!("{reason}; what was there before is kept until this is right");
        let held = Held {
            pair: pair.unwrap_or_else(|reason| {
                warnings.push(kept(reason));
                self.held.pair.clone()
            }),
            authorities: authorities.unwrap_or_else(|reason| {
                warnings.push(kept(reason));
                self.held.authorities.clone()
            }),
        };
        if held != self.held {
            let generation = self.trust.borrow().generation;
            let generation = generation + u64::from(held.authorities != self.held.authorities);
            match held.trust(generation) {
                Ok(trust) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the gRPC port's certificates are replaced");
                    self.held = held;
                    self.trust.send_replace(trust);
                }
                Err(reason) => warnings.push(kept(reason)),
            }
        }
        warnings.extend(self.held.outdated(&self.files));
        tell(&self.warnings.borrow(), &warnings);
        self.warnings.send_replace(warnings);
    }
}

/// Logs warnings that are new.
fn tell(before: &[String], now: &[String]) {
    for reason in now.iter().filter(|warning| !before.contains(warning)) {
        tracing::warn!(reason, "the gRPC port's certificates need attention");
    }
    if now.is_empty() && !before.is_empty() {
        tracing::info!("the gRPC port's certificates are right again");
    }
}

impl PortFiles {
    fn paths(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).cloned().collect()
    }

    fn pair(&self) -> Result<KeyPair, String> {
        let (certificate, key) = (text(&self.certificate)?, text(&self.key)?);
        KeyPair::parse(&certificate, &key).map_err(|error| match error {
            PairError::Chain(reason) => of(&self.certificate, &reason),
            PairError::Key(reason) => of(&self.key, &reason),
            PairError::Unfit => format!(
                "{} is not the key of the certificate in {}",
                self.key.display(),
                self.certificate.display()
            ),
        })
    }

    fn authorities(&self) -> Option<Result<CaBundle, String>> {
        let file = self.client_ca.as_ref()?;
        Some(text(file).and_then(|text| CaBundle::parse(&text).map_err(|reason| of(file, &reason))))
    }
}

impl Held {
    fn trust(&self, generation: u64) -> Result<Trust, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.authorities {
            None => builder.with_no_client_auth(),
            Some(bundle) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(bundle.certificates().as_bytes()) {
                    let certificate = certificate.map_err(|_| "an authority can't be read".to_owned())?;
                    roots.add(certificate).map_err(|error| format!("an authority can't be used: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.pair.chain().as_bytes()).collect();
        let chain = chain.map_err(|_| "the certificate can't be read".to_owned())?;
        let key = PrivateKeyDer::from_pem_slice(self.pair.key().as_bytes());
        let key = key.map_err(|_| "the private key can't be read".to_owned())?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Who comes back is verified anew, by the authorities of then. Connections last, so that costs nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Trust { config: Arc::new(config), asks_clients: self.authorities.is_some(), generation })
    }

    fn outdated(&self, files: &PortFiles) -> Vec<String> {
        let now = SystemTime::now();
        let pair = self.pair.outdated(now).map(|reason| of(&files.certificate, &reason));
        let authorities = self.authorities.as_ref().and_then(|bundle| bundle.outdated(now));
        let authorities = authorities.zip(files.client_ca.as_ref()).map(|(reason, file)| of(file, &reason));
        pair.into_iter().chain(authorities).collect()
    }
}

fn text(file: &Path) -> Result<String, String> {
    read_file(file).map(|file| file.text).map_err(|error| error.to_string())
}

fn of(file: &Path, reason: &str) -> String {
    format!("{}: {reason}", file.display())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair as Key};

    use super::*;

    fn issue(folder: &Path, name: &str) {
        let key = Key::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("port.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("port.key"), key.serialize_pem()).unwrap();
    }

    fn files(folder: &Path) -> PortFiles {
        PortFiles {
            certificate: folder.join("port.pem"),
            key: folder.join("port.key"),
            client_ca: Some(folder.join("ca.pem")),
        }
    }

    fn open(folder: &Path) -> PortTls {
        issue(folder, "ca");
        std::fs::rename(folder.join("port.pem"), folder.join("ca.pem")).unwrap();
        issue(folder, "first");
        PortTls::open(files(folder)).unwrap()
    }

    fn reread(port: &mut PortTls) {
        let (pair, authorities) = (port.files.pair(), port.files.authorities());
        port.take(pair, authorities.transpose());
    }

    #[test]
    fn a_pair_that_does_not_fit_opens_nothing_and_shows_no_key() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path());
        std::fs::write(folder.path().join("port.key"), Key::generate().unwrap().serialize_pem()).unwrap();
        let error = PortTls::open(files(folder.path())).err().unwrap().to_string();
        assert!(
            error.contains("port.key is not the key of the certificate in") && !error.contains("BEGIN"),
            "{error}"
        );
        std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
        issue(folder.path(), "second");
        assert!(PortTls::open(files(folder.path())).err().unwrap().to_string().contains("ca.pem"));
    }

    #[test]
    fn half_a_pair_keeps_the_old_one_and_is_told_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut port = open(folder.path());
        let before = port.trust.borrow().config.clone();
        let key = std::fs::read(folder.path().join("port.key")).unwrap();
        issue(folder.path(), "second");
        let second = std::fs::read(folder.path().join("port.key")).unwrap();
        std::fs::write(folder.path().join("port.key"), key).unwrap();
        reread(&mut port);
        assert!(Arc::ptr_eq(&port.trust.borrow().config, &before));
        assert!(
            port.warnings.borrow()[0].contains("port.key is not the key"),
            "{:?}",
            port.warnings.borrow()
        );

        std::fs::write(folder.path().join("port.key"), second).unwrap();
        reread(&mut port);
        assert!(!Arc::ptr_eq(&port.trust.borrow().config, &before) && port.warnings.borrow().is_empty());
        assert_eq!(port.trust.borrow().generation, 0, "the same clients are believed");
    }

    #[test]
    fn other_authorities_are_another_generation_also_while_the_pair_is_bad() {
        let folder = tempfile::tempdir().unwrap();
        let mut port = open(folder.path());
        std::fs::copy(folder.path().join("port.pem"), folder.path().join("ca.pem")).unwrap();
        std::fs::write(folder.path().join("port.pem"), "no").unwrap();
        reread(&mut port);
        assert_eq!(port.trust.borrow().generation, 1);
        assert_eq!(port.warnings.borrow().len(), 1);
        reread(&mut port);
        assert_eq!(port.trust.borrow().generation, 1, "nothing has changed");
    }
}
