//! What PEM files (RFC 7468) must hold to be a certificate with its key, or authorities: asked here, so that no Envoy
//! has to refuse it. Of a file only certificates, or the key, are kept, whatever else stands in it.
//!
//! Not here: reading files, and who verifies whom. No error shows a file's text, and no debug form a key.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::time::ASN1Time;

/// Bytes of a file at most: several times the largest bundle of public authorities.
const MAX_BYTES: usize = 1024 * 1024;

/// A certificate, those that lead from it to its authority, and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    chain: String,
    key: String,
    validity: Validity,
}

/// Authorities that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    certificates: String,
    validity: Validity,
}

/// Why two files are no certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The file of the chain is wrong.
    #[error("{0}")]
    Chain(String),
    /// The file of the key is wrong.
    #[error("{0}")]
    Key(String),
    /// Each is right by itself: one of the two is not replaced yet.
    #[error("the key is not that of the certificate")]
    Unfit,
}

impl KeyPair {
    /// Takes the texts of two PEM files.
    ///
    /// # Errors
    /// What would keep an Envoy from showing the certificate. One that is out of date is shown.
    pub fn parse(chain: &str, key: &str) -> Result<Self, PairError> {
        let chain = Certificates::parse(chain).map_err(PairError::Chain)?;
        let (key, signing) = private_key(key).map_err(PairError::Key)?;
        if signing.public_key().is_none_or(|public| *public != *chain.public_key) {
            return Err(PairError::Unfit);
        }
        let validity = chain.validity.first().copied().unwrap_or_default();
        Ok(Self { chain: chain.text, key, validity })
    }

    /// The certificates, as PEM.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The private key, as PEM: a secret.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Why clients refuse the certificate at that time, if they do.
    pub fn outdated(&self, now: SystemTime) -> Option<String> {
        self.validity.outdated(now)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl CaBundle {
    /// Takes the text of a PEM file.
    ///
    /// # Errors
    /// What would keep an Envoy from verifying by it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Certificates { text, validity, .. } = Certificates::parse(text)?;
        // One authority that is out of date does no harm beside others that are not.
        let validity = validity.into_iter().max_by_key(|validity| validity.not_after).unwrap_or_default();
        Ok(Self { certificates: text, validity })
    }

    /// The certificates, as PEM.
    pub fn certificates(&self) -> &str {
        &self.certificates
    }

    /// Why nothing verifies at that time, if so.
    pub fn outdated(&self, now: SystemTime) -> Option<String> {
        self.validity.outdated(now)
    }
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    fn outdated(self, now: SystemTime) -> Option<String> {
        let now =
            now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())?;
        let (what, time) = match () {
            () if now > self.not_after => ("expired on", self.not_after),
            () if now < self.not_before => ("is not valid before", self.not_before),
            () => return None,
        };
        let time = ASN1Time::from_timestamp(time).map(|time| time.to_string()).unwrap_or_default();
        Some(format!("the certificate {what} {time}"))
    }
}

/// The certificates of a file.
struct Certificates {
    /// Theirs alone.
    text: String,
    /// `SubjectPublicKeyInfo` of the first, in DER.
    public_key: Vec<u8>,
    validity: Vec<Validity>,
}

impl Certificates {
    fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self { text: String::new(), public_key: Vec::new(), validity: Vec::new() };
        for section in sections(text, |label| label == "CERTIFICATE")? {
            let number = all.validity.len() + 1;
            let broken = || format!("certificate {number} of the file can't be read");
            let (_, pem) = parse_x509_pem(section.as_bytes()).map_err(|_| broken())?;
            let certificate: X509Certificate<'_> = pem.parse_x509().map_err(|_| broken())?;
            if number == 1 {
                all.public_key = certificate.public_key().raw.to_vec();
            }
            let validity = certificate.validity();
            all.validity.push(Validity {
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            });
            all.text.push_str(section);
            all.text.push('\n');
        }
        match all.validity.is_empty() {
            true => {
                Err("there is no certificate in the file: `-----BEGIN CERTIFICATE-----` is needed".into())
            }
            false => Ok(all),
        }
    }
}

/// The private key of a file: its text, and what can be done with it.
fn private_key(text: &str) -> Result<(String, std::sync::Arc<dyn SigningKey>), String> {
    let keys = sections(text, |label| label.ends_with("PRIVATE KEY"))?;
    let [section] = keys.as_slice() else {
        return Err(match keys.len() {
            0 => "there is no private key in the file: `-----BEGIN PRIVATE KEY-----` is needed".into(),
            number => format!("there are {number} private keys in the file, where one is needed"),
        });
    };
    if section.starts_with("-----BEGIN ENCRYPTED") || section.contains("\nProc-Type: 4,ENCRYPTED") {
        return Err("the private key is encrypted: Envoys get it as it is".into());
    }
    let key = PrivateKeyDer::from_pem_slice(section.as_bytes())
        .map_err(|_| "the private key can't be read".to_owned())?;
    let signing = any_supported_type(&key).map_err(|_| {
        "the private key can't be used: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519 is needed"
            .to_owned()
    })?;
    Ok((format!("{section}\n"), signing))
}

/// The sections of a PEM file whose label is wanted, from their first dash to their last.
fn sections(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<&str>, String> {
    const BEGIN: &str = "-----BEGIN ";
    if text.len() > MAX_BYTES {
        return Err(format!("the file has more than {MAX_BYTES} bytes"));
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        rest = &rest[start..];
        let unended = || "a section of the file has no end".to_owned();
        let label = rest[BEGIN.len()..].split("-----").next().ok_or_else(unended)?;
        let end = format!("-----END {label}-----");
        let length = rest.find(&end).ok_or_else(unended)? + end.len();
        if wanted(label) {
            found.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
