//! What is read of files that are right, wrong, half replaced, or gone.

use rcgen::{CertificateParams, KeyPair as Key, date_time_ymd};

use super::*;
use crate::gateway::{SourceFile, load};

const YAML: &str = "
version: v1
policies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {file: keys.json}}}]}}}
certificates: {public: {chain: public.pem, key: public.key}}
trusted_cas: {clients: {file: ca.pem}}
";

/// A folder with the files that [`YAML`] names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let (chain, key) = pair();
        folder.write("keys.json", r#"{"keys": []}"#);
        folder.write("public.pem", &chain);
        folder.write("public.key", &key);
        folder.write("ca.pem", &chain);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, before: &ReferencedFiles) -> Result<Read, Vec<Problem>> {
        let file = SourceFile { path: "gateway.yaml".into(), text: YAML.into() };
        read(&load(vec![file]).unwrap().gateway, self.0.path(), before, SystemTime::now())
    }
}

fn pair() -> (String, String) {
    let key = Key::generate().unwrap();
    (CertificateParams::default().self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn all_files_are_read_from_beside_the_yaml() {
    let read = Folder::new().read(&ReferencedFiles::default()).unwrap();
    assert_eq!(*read.files.jwks["keys.json"], serde_json::json!({"keys": []}));
    assert_eq!((read.files.key_pairs.len(), read.files.ca_bundles.len()), (1, 1));
    assert_eq!(read.warnings, []);
}

#[test]
fn a_file_that_was_never_right_is_an_error_where_it_is_named() {
    let (chain, _) = pair();
    let rows = [
        ("keys.json", "{", "/policies/auth/a/any_of/0/jwt/jwks/file", "not JSON at line 1"),
        ("keys.json", "[]", "/policies/auth/a/any_of/0/jwt/jwks/file", "not a JSON Web Key Set"),
        ("public.pem", "", "/certificates/public/chain", "public.pem: there is no certificate"),
        ("public.pem", chain.as_str(), "/certificates/public/key", "public.key is not the key of"),
        ("public.key", "", "/certificates/public/key", "public.key: there is no private key"),
        ("ca.pem", "x", "/trusted_cas/clients/file", "ca.pem: there is no certificate"),
    ];
    for (file, text, pointer, expected) in rows {
        let folder = Folder::new();
        folder.write(file, text);
        let problems = folder.read(&ReferencedFiles::default()).unwrap_err();
        assert_eq!((problems.len(), problems[0].pointer.as_str()), (1, pointer), "{problems:?}");
        assert!(problems[0].message.starts_with(expected), "{problems:?}");
        std::fs::remove_file(folder.0.path().join(file)).unwrap();
        let problems = folder.read(&ReferencedFiles::default()).unwrap_err();
        assert!(problems[0].message.contains("No such file"), "{problems:?}");
    }
}

#[test]
fn a_file_that_went_bad_leaves_what_it_held_and_holds_up_nothing_else() {
    let folder = Folder::new();
    let before = folder.read(&ReferencedFiles::default()).unwrap().files;
    let (other, _) = pair();
    folder.write("keys.json", "{");
    folder.write("public.key", "");
    folder.write("ca.pem", &other);
    let read = folder.read(&before).unwrap();
    assert_eq!((&read.files.jwks, &read.files.key_pairs), (&before.jwks, &before.key_pairs));
    assert_ne!(read.files.ca_bundles, before.ca_bundles);
    let places: Vec<_> = read.warnings.iter().map(|warning| warning.pointer.as_str()).collect();
    assert_eq!(places, ["/policies/auth/a/any_of/0/jwt/jwks/file", "/certificates/public/key"]);
    assert!(read.warnings.iter().all(|warning| warning.warning && warning.help.is_some()));
}

#[test]
fn a_half_replaced_pair_is_taken_once_it_fits() {
    let folder = Folder::new();
    let old = folder.read(&ReferencedFiles::default()).unwrap().files;
    let (chain, key) = pair();
    folder.write("public.pem", &chain);
    let half = folder.read(&old).unwrap();
    assert_eq!(half.files, old);
    assert_eq!(half.warnings[0].message, "public.key is not the key of the certificate in public.pem");
    folder.write("public.key", &key);
    let whole = folder.read(&half.files).unwrap();
    assert_ne!(whole.files, old);
    assert_eq!(whole.warnings, []);
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let folder = Folder::new();
    let key = Key::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(2021, 1, 1);
    folder.write("public.pem", &params.self_signed(&key).unwrap().pem());
    folder.write("public.key", &key.serialize_pem());
    let read = folder.read(&ReferencedFiles::default()).unwrap();
    assert_eq!(read.files.key_pairs.len(), 1);
    assert_eq!(read.warnings[0].pointer, "/certificates/public/chain");
    assert!(read.warnings[0].message.starts_with("public.pem: the certificate expired on"));
}
