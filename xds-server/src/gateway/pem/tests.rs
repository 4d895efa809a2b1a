//! What is taken for a certificate with its key, and what is said of everything else.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair as Key, date_time_ymd};

use super::*;

fn self_signed(params: CertificateParams) -> (String, String) {
    let key = Key::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn pair() -> (String, String) {
    self_signed(CertificateParams::new(["api.internal".into()]).unwrap())
}

#[test]
fn only_the_certificates_and_the_key_are_kept() {
    let (chain, key) = pair();
    let (second, other_key) = pair();
    // A key in the file of the chain must not travel as part of it: nobody takes chains for secret.
    let mixed = format!("subject=api\n{chain}{other_key}\n{second}");
    let found = KeyPair::parse(&mixed, &format!("a comment\n{key}{chain}")).unwrap();
    assert_eq!(found.chain(), format!("{chain}{second}").replace("\r\n", "\n"));
    assert_eq!(found.key(), key);
    let authorities = CaBundle::parse(&mixed).unwrap();
    assert!(!authorities.certificates().contains("PRIVATE"));
}

#[test]
fn a_key_fits_its_own_certificate_only() {
    let ((chain, key), (_, other)) = (pair(), pair());
    assert!(KeyPair::parse(&chain, &key).is_ok());
    assert_eq!(KeyPair::parse(&chain, &other), Err(PairError::Unfit));
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = Key::generate_for(algorithm).unwrap();
        let chain = CertificateParams::default().self_signed(&key).unwrap().pem();
        assert!(KeyPair::parse(&chain, &key.serialize_pem()).is_ok());
    }
}

#[test]
fn what_can_not_be_used_is_told_without_its_text() {
    let (chain, key) = pair();
    let garbled = |text: &str| text.replacen("\nMI", "\nMX", 1);
    let rows = [
        (key.clone(), key.clone(), "there is no certificate in the file"),
        (String::new(), key.clone(), "there is no certificate in the file"),
        (garbled(&chain), key.clone(), "certificate 1 of the file can't be read"),
        (format!("{chain}{}", garbled(&chain)), key.clone(), "certificate 2 of the file"),
        (chain[..chain.len() / 2].to_owned(), key.clone(), "a section of the file has no end"),
        (chain.clone(), chain.clone(), "there is no private key in the file"),
        (chain.clone(), format!("{key}{key}"), "there are 2 private keys"),
        (chain.clone(), garbled(&key), "the private key can't be"),
        (chain.clone(), key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "the private key is encrypted"),
        (chain.clone(), "x".repeat(MAX_BYTES + 1), "the file has more than"),
    ];
    for (chain, key, expected) in rows {
        let error = KeyPair::parse(&chain, &key).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?}, found {error:?}");
        assert!(!error.contains("MI"), "{error}");
    }
}

#[test]
fn certificates_out_of_date_are_told() {
    let mut params = CertificateParams::new(["a".into()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let (chain, key) = self_signed(params);
    let pair = KeyPair::parse(&chain, &key).unwrap();
    let at = |seconds| pair.outdated(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(1_600_000_000), None); // September 2020
    let expired = at(1_700_000_000).unwrap();
    assert!(expired.contains("expired on Jan  1 00:00:00 2021"), "{expired}");
    assert!(at(1_500_000_000).unwrap().contains("is not valid before"));

    // Of authorities, one that is valid is enough.
    let (valid, _) = self_signed(CertificateParams::default());
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert!(CaBundle::parse(&chain).unwrap().outdated(now).is_some());
    assert_eq!(CaBundle::parse(&format!("{chain}{valid}")).unwrap().outdated(now), None);
}

#[test]
fn the_debug_form_shows_no_key() {
    let (chain, key) = pair();
    let shown = format!("{:?}", KeyPair::parse(&chain, &key).unwrap());
    assert!(!shown.contains("PRIVATE") && !shown.contains(key.lines().nth(1).unwrap()), "{shown}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_survived(text in "(-----(BEGIN|END) (PRIVATE KEY|CERTIFICATE)-----|\\PC|\n){0,40}") {
        let _ = (KeyPair::parse(&text, &text), CaBundle::parse(&text));
    }
}
