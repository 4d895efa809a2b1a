//! JSON Web Key Sets from files that the YAML names (`jwks: {file: …}`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::file::read_file;
use crate::gateway::model::{AuthProvider, Jwks};
use crate::gateway::position::join;
use crate::gateway::{Gateway, Problem};

/// Key sets by the text of their `file` field.
pub type KeyFiles = BTreeMap<String, Arc<Value>>;

/// Where every `jwks` of the gateway stands, and what it says.
pub fn all_jwks(gateway: &Gateway) -> impl Iterator<Item = (String, &Jwks)> {
    gateway.policies.auth.iter().flat_map(|(name, policy)| {
        policy.any_of.iter().enumerate().filter_map(move |(index, provider)| match provider {
            AuthProvider::Jwt(jwt) => Some((
                format!("{}/any_of/{index}/jwt/jwks", join("/policies/auth", name.as_str())),
                &jwt.jwks,
            )),
            AuthProvider::ApiKey(_) => None,
        })
    })
}

/// The files that the gateway names, as paths from `base_dir`.
pub fn paths(gateway: &Gateway, base_dir: &Path) -> Vec<PathBuf> {
    all_jwks(gateway).filter_map(|(_, jwks)| jwks.file.as_ref()).map(|file| base_dir.join(file)).collect()
}

/// Reads the files that the gateway names. Blocks.
///
/// # Errors
/// A problem for each file that can't be read or is no key set, at the place that names it.
pub fn read(gateway: &Gateway, base_dir: &Path) -> Result<KeyFiles, Vec<Problem>> {
    let (mut files, mut problems) = (KeyFiles::new(), Vec::new());
    for (pointer, jwks) in all_jwks(gateway) {
        let Some(file) = &jwks.file else { continue };
        match read_file(&base_dir.join(file))
            .map_err(|error| error.to_string())
            .and_then(|file| parse(&file.text))
        {
            Ok(set) => {
                files.insert(file.clone(), Arc::new(set));
            }
            Err(message) => problems.push(Problem::value(format!("{pointer}/file"), message)),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

/// A JSON Web Key Set, or what is wrong with the text. Never shows the text: it may hold secrets.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let set: Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON at line {} column {}", error.line(), error.column()))?;
    match set.get("keys") {
        Some(Value::Array(_)) => Ok(set),
        _ => Err("not a JSON Web Key Set: there is no list `keys` (RFC 7517 section 5)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{SourceFile, load};

    fn gateway(file: &str) -> Gateway {
        let text = format!(
            "version: v1\npolicies: {{auth: {{a: {{any_of: [{{jwt: {{issuer: i, jwks: {{file: {file}}}}}}}]}}}}}}\n"
        );
        load(vec![SourceFile { path: "gateway.yaml".into(), text }]).unwrap().gateway
    }

    #[test]
    fn key_sets_are_read_from_beside_the_yaml() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys.json"), r#"{"keys": []}"#).unwrap();
        let files = read(&gateway("keys.json"), folder.path()).unwrap();
        assert_eq!(*files["keys.json"], serde_json::json!({"keys": []}));
    }

    #[test]
    fn what_is_no_key_set_is_a_problem_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        for (text, expected) in [("{", "not JSON at line 1"), ("[]", "not a JSON Web Key Set")] {
            std::fs::write(&path, text).unwrap();
            let problems = read(&gateway("keys.json"), folder.path()).unwrap_err();
            assert_eq!(problems[0].pointer, "/policies/auth/a/any_of/0/jwt/jwks/file");
            assert!(problems[0].message.starts_with(expected), "{}", problems[0].message);
        }
        let problems = read(&gateway("missing.json"), folder.path()).unwrap_err();
        assert!(problems[0].message.contains("No such file"), "{}", problems[0].message);
    }
}
