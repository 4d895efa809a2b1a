//! Reads the files that the YAML names: key sets, certificates with their keys, authorities.
//!
//! Files are replaced one by one, and by other programs than the YAML's editor. So one that goes bad holds up nothing:
//! what it held when it was last right goes on, and a warning says so. Only a file that was never right is an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::file::read_file;
use super::jwks::{self, all_jwks};
use crate::gateway::model::Certificate;
use crate::gateway::pem::{CaBundle, KeyPair, PairError};
use crate::gateway::position::join;
use crate::gateway::scalar::FilePath;
use crate::gateway::{Gateway, Problem, ReferencedFiles};

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// What stands in the files, or stood there when they were last right.
    pub files: ReferencedFiles,
    /// What people should look at, at the places that name the files.
    pub warnings: Vec<Problem>,
}

/// All files that the gateway names, as paths from `base_dir`.
pub fn paths(gateway: &Gateway, base_dir: &Path) -> Vec<PathBuf> {
    let key_sets = all_jwks(gateway).filter_map(|(_, jwks)| jwks.file.as_deref());
    let pairs = gateway.certificates.values().flat_map(|pair| [&pair.chain, &pair.key]);
    let bundles = gateway.trusted_cas.values().map(|ca| &ca.file);
    key_sets.chain(pairs.chain(bundles).map(FilePath::as_str)).map(|file| base_dir.join(file)).collect()
}

/// Reads the files that the gateway names. Blocks. `before` is what was read last, `now` what certificates are held
/// against.
///
/// # Errors
/// A problem for each file that can't be used and was not read before, at the place that names it.
pub fn read(
    gateway: &Gateway,
    base_dir: &Path,
    before: &ReferencedFiles,
    now: SystemTime,
) -> Result<Read, Vec<Problem>> {
    let mut files = ReferencedFiles::default();
    let mut findings = Findings::default();
    for (pointer, place) in all_jwks(gateway) {
        let Some(file) = &place.file else { continue };
        let set = text(base_dir, file).and_then(|text| jwks::parse(&text));
        let set = set.map(Arc::new).map_err(|message| Problem::value(format!("{pointer}/file"), message));
        files.jwks.extend(findings.keep(set, before.jwks.get(file)).map(|set| (file.clone(), set)));
    }
    for (name, certificate) in &gateway.certificates {
        let pointer = join("/certificates", name.as_str());
        let pair = key_pair(base_dir, &pointer, certificate);
        if let Some(pair) = findings.keep(pair, before.key_pairs.get(certificate)) {
            findings.outdated(format!("{pointer}/chain"), &certificate.chain, pair.outdated(now));
            files.key_pairs.insert(certificate.clone(), pair);
        }
    }
    for (name, ca) in &gateway.trusted_cas {
        let pointer = format!("{}/file", join("/trusted_cas", name.as_str()));
        let bundle = text(base_dir, ca.file.as_str())
            .and_then(|text| CaBundle::parse(&text).map_err(|reason| of(&ca.file, &reason)))
            .map(Arc::new)
            .map_err(|message| Problem::value(pointer.clone(), message));
        if let Some(bundle) = findings.keep(bundle, before.ca_bundles.get(ca)) {
            findings.outdated(pointer, &ca.file, bundle.outdated(now));
            files.ca_bundles.insert(ca.clone(), bundle);
        }
    }
    match findings.errors.is_empty() {
        true => Ok(Read { files, warnings: findings.warnings }),
        false => Err(findings.errors),
    }
}

#[derive(Default)]
struct Findings {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Findings {
    /// What was found; else what was there before, with a warning; else nothing, with an error.
    fn keep<T: Clone>(&mut self, found: Result<T, Problem>, before: Option<&T>) -> Option<T> {
        match (found, before) {
            (Ok(found), _) => Some(found),
            (Err(problem), Some(before)) => {
                let help = "what was there before keeps serving, until this is right";
                self.warnings.push(problem.help(help).warning());
                Some(before.clone())
            }
            (Err(problem), None) => {
                self.errors.push(problem);
                None
            }
        }
    }

    /// A certificate that is out of date is served, as every other server would: clients tell what they think of it,
    /// and refusing it would hold up everything else.
    fn outdated(&mut self, pointer: String, file: &FilePath, reason: Option<String>) {
        self.warnings.extend(reason.map(|reason| Problem::value(pointer, of(file, &reason)).warning()));
    }
}

fn key_pair(base_dir: &Path, pointer: &str, certificate: &Certificate) -> Result<Arc<KeyPair>, Problem> {
    let Certificate { chain, key } = certificate;
    let at = |field: &str, message: String| Problem::value(format!("{pointer}/{field}"), message);
    let chain_text = text(base_dir, chain.as_str()).map_err(|message| at("chain", message))?;
    let key_text = text(base_dir, key.as_str()).map_err(|message| at("key", message))?;
    let pair = KeyPair::parse(&chain_text, &key_text).map_err(|error| match error {
        PairError::Chain(reason) => at("chain", of(chain, &reason)),
        PairError::Key(reason) => at("key", of(key, &reason)),
        PairError::Unfit => {
            at("key", format!("{} is not the key of the certificate in {}", key.as_str(), chain.as_str()))
        }
    })?;
    Ok(Arc::new(pair))
}

fn text(base_dir: &Path, file: &str) -> Result<String, String> {
    read_file(&base_dir.join(file)).map(|file| file.text).map_err(|error| error.to_string())
}

fn of(file: &FilePath, reason: &str) -> String {
    format!("{}: {reason}", file.as_str())
}

#[cfg(test)]
mod tests;
