//! Certificates for tests, and channels that show them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, SystemTime::now() + Duration::from_secs(3_600))
    }

    pub fn issue_until(&self, name: &str, until: SystemTime) -> Issued {
        let uri = name.contains("://");
        let mut params = CertificateParams::new(if uri { vec![] } else { vec![name.to_owned()] }).unwrap();
        if uri {
            params.subject_alt_names.push(SanType::URI(name.try_into().unwrap()));
        }
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { chain, key: key.serialize_pem() }
    }
}

impl Issued {
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }
}

/// What a client believes and shows.
pub struct Client<'a> {
    pub address: SocketAddr,
    pub authority: &'a Authority,
    pub shown: Option<&'a Issued>,
}

impl Client<'_> {
    /// A connection, and the certificate that the server has shown on it. In TLS 1.3 a client learns that its own was
    /// refused only when it reads.
    pub async fn connect(&self) -> Result<(Channel, CertificateDer<'static>), String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shown {
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![shown.certificate()], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let seen = Arc::new(Mutex::new(None));
        let see = seen.clone();
        let connect = move |_| {
            let (connector, see) = (connector.clone(), see.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("xds.internal").unwrap();
                let stream = connector.connect(name, stream).await?;
                let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                *see.lock().unwrap() = Some(certificate.into_owned());
                std::io::Result::Ok(TokioIo::new(stream))
            }
        };
        let endpoint = Endpoint::from_static("http://xds.internal");
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await;
        let channel = channel.map_err(|error| format!("{error:?}"))?;
        let certificate = seen.lock().unwrap().take().unwrap();
        Ok((channel, certificate))
    }
}
