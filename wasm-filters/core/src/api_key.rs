//! API keys: looked up by their SHA-256, in the configured list first, then in what introspection answered.
//!
//! The key itself is never kept, compared or sent. Keys are random (not passwords), so an unsalted hash is
//! enough, and looking up a hash tells nothing through timing that helps to guess a key. The call to the
//! introspection service is the caller's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tollgate_filter_config::{ApiKeyProvider, Introspection, RevokedKind};

use crate::ConfigError;
use crate::auth::{ClaimNames, Identity};
use crate::cache::Cache;
use crate::headers;
use crate::jwt::Claims;
use crate::revocations::Revocable;

/// Longest key that is looked at.
pub const MAX_KEY_BYTES: usize = 1024;
/// Most that introspection may say of a key's claims, in bytes of JSON: a worker remembers many keys.
const MAX_CLAIMS_BYTES: usize = 4 * 1024;

/// SHA-256 of a key.
pub type KeyHash = [u8; 32];

/// The keys of one provider: those configured, and those remembered.
#[derive(Debug)]
pub struct KeyRing {
    configured: BTreeMap<KeyHash, Rc<Identity>>,
    introspection: Option<Introspection>,
    /// Claims to keep of each key.
    keep: ClaimNames,
    /// Where it is said which keys are revoked.
    revocations: Option<String>,
    remembered: RefCell<Cache<Remembered>>,
}

/// What introspection said of a key, and until when that counts.
#[derive(Debug, Clone)]
struct Remembered {
    until: Duration,
    identity: Option<Rc<Identity>>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The key is good; whose it is, and whether that was remembered from introspection.
    Known(Rc<Identity>, bool),
    /// The key is not good; whether that was remembered.
    Unknown(bool),
    /// Only introspection can tell.
    Ask,
}

impl KeyRing {
    /// Compiles the configuration found at `path`. Of each key, the claims `keep` are kept.
    pub fn new(
        config: &ApiKeyProvider,
        keep: &ClaimNames,
        seed: u64,
        path: &str,
    ) -> Result<Self, ConfigError> {
        let mut configured = BTreeMap::new();
        for (index, key) in config.keys.iter().enumerate() {
            let at = |field: &str| format!("{path}.keys[{index}].{field}");
            let hash = parse_hex(&key.sha256)
                .ok_or_else(|| ConfigError::new(at("sha256"), "is not 64 lower-case hexadecimal digits"))?;
            for (field, value) in [("consumer", &key.consumer), ("id", &key.id)] {
                if value.is_empty() || !headers::is_safe_value(value) {
                    return Err(ConfigError::new(at(field), "is empty or cannot be a header value"));
                }
            }
            let claims = keep.keep(&Claims::from(key.claims.clone()));
            let identity = Identity::of_api_key(&key.consumer, &key.id, claims);
            let identity = Rc::new(revocable(identity, config.revocations.as_deref(), &key.id));
            if configured.insert(hash, identity).is_some() {
                return Err(ConfigError::new(at("sha256"), "is the same as that of another key"));
            }
        }
        let introspection = config.introspection.clone();
        if let Some(introspection) = &introspection {
            check_introspection(introspection, &format!("{path}.introspection"))?;
        }
        // Two generations together make the configured size.
        let generation =
            introspection.as_ref().map_or(0, |introspection| introspection.cache_size.div_ceil(2));
        let remembered = RefCell::new(Cache::new(generation, seed));
        let revocations = config.revocations.clone();
        Ok(Self { configured, introspection, keep: keep.clone(), revocations, remembered })
    }

    /// What is known of the key with this hash.
    pub fn look_up(&self, hash: &KeyHash, now: Duration) -> Lookup {
        if let Some(identity) = self.configured.get(hash) {
            return Lookup::Known(Rc::clone(identity), false);
        }
        if self.introspection.is_none() {
            return Lookup::Unknown(false);
        }
        match self.remembered.borrow_mut().get(0, hash) {
            Some(Remembered { until, identity }) if now < until => match identity {
                Some(identity) => Lookup::Known(identity, true),
                None => Lookup::Unknown(true),
            },
            _ => Lookup::Ask,
        }
    }

    /// Where to ask about keys that are not configured.
    pub fn introspection(&self) -> Option<&Introspection> {
        self.introspection.as_ref()
    }

    /// Remembers what introspection answered, for as long as the configuration allows.
    pub fn remember(&self, hash: &KeyHash, answer: &Answer, now: Duration) -> Option<Rc<Identity>> {
        let introspection = self.introspection.as_ref()?;
        let (identity, ttl_ms) = match answer {
            Answer::Active { consumer, key_id, claims } => {
                let identity = Identity::of_api_key(consumer, key_id, self.keep.keep(claims));
                let identity = revocable(identity, self.revocations.as_deref(), key_id);
                (Some(Rc::new(identity)), introspection.positive_ttl_ms)
            }
            Answer::Inactive => (None, introspection.negative_ttl_ms),
        };
        let until = now.saturating_add(Duration::from_millis(ttl_ms));
        self.remembered.borrow_mut().insert(0, hash, Remembered { until, identity: identity.clone() });
        identity
    }
}

/// The identity, unless the key with this id is revoked.
fn revocable(identity: Identity, list: Option<&str>, id: &str) -> Identity {
    let revocable = list.map(|list| Revocable::new(list, [(RevokedKind::ApiKey, id)]));
    identity.with_revocable(revocable.unwrap_or_default())
}

/// Hash of a presented key.
pub fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

/// Body of the introspection call.
pub fn request_body(hash: &KeyHash) -> String {
    format!(r#"{{"key_sha256":"{}"}}"#, hex(hash))
}

/// What the introspection service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The key is good.
    Active {
        /// Who it belongs to.
        consumer: String,
        /// Its public id.
        key_id: String,
        /// What else is said of it; none where nothing is.
        claims: Claims,
    },
    /// The key is unknown, expired or revoked.
    Inactive,
}

impl Answer {
    /// Reads a response. `None` where it is no answer: another status than 200, another form, claims that are no object
    /// or too many, or an identity that cannot be told to the upstream.
    pub fn parse(status: &[u8], body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            active: bool,
            consumer: Option<String>,
            key_id: Option<String>,
            claims: Option<Map<String, Value>>,
        }
        if status != b"200" {
            return None;
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        if !body.active {
            return Some(Self::Inactive);
        }
        let (consumer, key_id) = (body.consumer?, body.key_id?);
        let claims = body.claims.unwrap_or_default();
        if !claims.is_empty() && serde_json::to_vec(&claims).ok()?.len() > MAX_CLAIMS_BYTES {
            return None;
        }
        let claims = Claims::from(claims);
        let usable = |value: &str| !value.is_empty() && headers::is_safe_value(value);
        (usable(&consumer) && usable(&key_id)).then_some(Self::Active { consumer, key_id, claims })
    }
}

fn check_introspection(introspection: &Introspection, path: &str) -> Result<(), ConfigError> {
    let refuse = |field: &str, reason: &str| Err(ConfigError::new(format!("{path}.{field}"), reason));
    if introspection.cluster.is_empty() {
        return refuse("cluster", "is empty");
    }
    if introspection.authority.is_empty() || !headers::is_safe_value(&introspection.authority) {
        return refuse("authority", "is empty or cannot be a header value");
    }
    if !introspection.path.starts_with('/') || !headers::is_safe_value(&introspection.path) {
        return refuse("path", "is not a path that starts with /");
    }
    if introspection.timeout_ms == 0 {
        return refuse("timeout_ms", "is 0, so every answer would come too late");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut out, byte| {
        for digit in [byte >> 4, byte & 0xf] {
            out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        out
    })
}

fn parse_hex(text: &str) -> Option<KeyHash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn provider(introspection: bool) -> ApiKeyProvider {
        let ask = json!({
            "cluster": "c", "authority": "a", "path": "/p", "timeout_ms": 5, "positive_ttl_ms": 100,
            "negative_ttl_ms": 10, "cache_size": 4,
        });
        serde_json::from_value(json!({
            "header": "x-api-key",
            "keys": [{ "sha256": hex(&hash(b"good")), "consumer": "alice", "id": "k1" }],
            "introspection": introspection.then_some(ask),
            "forward": false,
        }))
        .unwrap()
    }

    fn compile(config: &ApiKeyProvider) -> Result<KeyRing, ConfigError> {
        KeyRing::new(config, &ClaimNames::new(["plan"]), 1, "p")
    }

    fn ring(introspection: bool) -> KeyRing {
        compile(&provider(introspection)).unwrap()
    }

    #[test]
    fn hex_is_that_of_sha256() {
        assert_eq!(hex(&hash(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(parse_hex(&hex(&hash(b"abc"))), Some(hash(b"abc")));
        assert_eq!(parse_hex(&"A".repeat(64)), None);
        assert_eq!(parse_hex(&"é".repeat(32)), None);
    }

    #[test]
    fn configured_keys_need_no_question() {
        assert!(matches!(ring(true).look_up(&hash(b"good"), Duration::ZERO), Lookup::Known(_, false)));
        assert_eq!(ring(true).look_up(&hash(b"bad"), Duration::ZERO), Lookup::Ask);
        assert_eq!(ring(false).look_up(&hash(b"bad"), Duration::ZERO), Lookup::Unknown(false));
    }

    #[test]
    fn answers_are_remembered_for_their_time() {
        let (ring, at) = (ring(true), Duration::from_millis);
        let active =
            Answer::Active { consumer: "bob".into(), key_id: "k2".into(), claims: Claims::default() };
        ring.remember(&hash(b"a"), &active, at(1000));
        ring.remember(&hash(b"b"), &Answer::Inactive, at(1000));
        assert!(matches!(ring.look_up(&hash(b"a"), at(1099)), Lookup::Known(_, true)));
        assert_eq!(ring.look_up(&hash(b"a"), at(1100)), Lookup::Ask);
        assert_eq!(ring.look_up(&hash(b"b"), at(1009)), Lookup::Unknown(true));
        assert_eq!(ring.look_up(&hash(b"b"), at(1010)), Lookup::Ask);
    }

    #[test]
    fn only_a_whole_answer_counts() {
        let active = br#"{"active":true,"consumer":"bob","key_id":"k2","later":1}"#;
        assert!(matches!(Answer::parse(b"200", active), Some(Answer::Active { .. })));
        assert_eq!(Answer::parse(b"200", br#"{"active":false}"#), Some(Answer::Inactive));
        for (status, body) in [
            ("503", r#"{"active":true,"consumer":"bob","key_id":"k2"}"#),
            ("", r#"{"active":true,"consumer":"bob","key_id":"k2"}"#),
            ("200", r#"{"active":true}"#),
            ("200", r#"{"active":true,"consumer":"","key_id":"k2"}"#),
            ("200", r#"{"active":true,"consumer":"b\r\nx: y","key_id":"k2"}"#),
            ("200", r#"{"active":true,"consumer":"bob","key_id":"k2","claims":["plan"]}"#),
            ("200", r#"{"active":"true"}"#),
            ("200", ""),
            ("404", r#"{"active":false}"#),
        ] {
            assert_eq!(Answer::parse(status.as_bytes(), body.as_bytes()), None, "{status} {body}");
        }
    }

    #[test]
    fn claims_are_those_of_the_key() {
        let mut config = provider(true);
        config.keys[0].claims.insert("plan".into(), json!("gold"));
        config.keys[0].claims.insert("other".into(), json!("not asked for"));
        let ring = compile(&config).unwrap();
        let claim = |lookup| match lookup {
            Lookup::Known(identity, _) => {
                (identity.claim("plan").map(str::to_owned), identity.claim("other").is_some())
            }
            other => panic!("{other:?}"),
        };
        let gold = (Some("gold".to_owned()), false);
        assert_eq!(claim(ring.look_up(&hash(b"good"), Duration::ZERO)), gold);
        let body = br#"{"active":true,"consumer":"bob","key_id":"k2","claims":{"plan":"gold","other":[]}}"#;
        ring.remember(&hash(b"a"), &Answer::parse(b"200", body).unwrap(), Duration::ZERO);
        assert_eq!(claim(ring.look_up(&hash(b"a"), Duration::ZERO)), gold);
        let body = br#"{"active":true,"consumer":"bob","key_id":"k2","claims":null}"#;
        ring.remember(&hash(b"a"), &Answer::parse(b"200", body).unwrap(), Duration::ZERO);
        assert_eq!(claim(ring.look_up(&hash(b"a"), Duration::ZERO)), (None, false));
    }

    #[test]
    fn claims_of_an_answer_are_bounded() {
        for (length, is_answer) in [(MAX_CLAIMS_BYTES - 8, true), (MAX_CLAIMS_BYTES - 7, false)] {
            let claims = json!({ "a": "x".repeat(length) });
            let body = json!({ "active": true, "consumer": "bob", "key_id": "k2", "claims": claims });
            assert_eq!(Answer::parse(b"200", body.to_string().as_bytes()).is_some(), is_answer, "{length}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let mut config = provider(true);
        config.keys[0].sha256.push('0');
        assert_eq!(compile(&config).unwrap_err().path, "p.keys[0].sha256");
        let mut config = provider(true);
        config.keys.push(config.keys[0].clone());
        assert_eq!(compile(&config).unwrap_err().path, "p.keys[1].sha256");
        let mut config = provider(true);
        config.keys[0].consumer = "a\nb".into();
        assert_eq!(compile(&config).unwrap_err().path, "p.keys[0].consumer");
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status in ".{0,4}", body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Answer::parse(status.as_bytes(), &body);
            let _ = Answer::parse(b"200", &body);
        }
    }
}
