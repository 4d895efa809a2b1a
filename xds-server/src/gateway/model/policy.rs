//! Auth policies: who may call.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::gateway::scalar::{Duration, HeaderName, HeaderValue, Name, Path};

/// Who may call. A request without a credential, or with a bad one, gets 401. Exactly one of `any_of` and `all_of`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthPolicy {
    /// `realm` in the `WWW-Authenticate` challenge. Default: the policy's name.
    pub realm: Option<HeaderValue>,
    /// Ways to authenticate; one is enough. The first whose credential is there decides.
    #[serde(default)]
    pub any_of: Vec<AuthProvider>,
    /// Credentials that must all hold, each in a header of its own: an application's key and a user's token, say. The first
    /// says who calls, and its scopes and claims count for `required_scopes` and `required_claims` of routes; the others add
    /// their claim headers.
    #[serde(default)]
    pub all_of: Vec<AuthProvider>,
    /// Whether a request without a credential passes, with no `x-consumer-id`. A bad one gets 401 all the same. Default
    /// false.
    #[serde(default)]
    pub optional: bool,
    /// What happens while a credential can't be checked, as keys or introspection are away. Default `deny`: 503. With
    /// `allow`, the request passes with no `x-consumer-id`, and `tollgate.auth.failed_open` counts it.
    #[serde(default)]
    pub on_failure: OnFailure,
}

impl AuthPolicy {
    /// Its providers, and the field that they stand in.
    pub fn providers(&self) -> (&'static str, &[AuthProvider]) {
        match self.all_of.as_slice() {
            [] => ("any_of", &self.any_of),
            all => ("all_of", all),
        }
    }
}

/// What happens where something that a policy depends on is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The request is refused.
    #[default]
    Deny,
    /// The request passes.
    Allow,
}

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthProvider {
    /// A JSON Web Token (RFC 7519).
    Jwt(JwtProvider),
    /// An API key.
    ApiKey(ApiKeyProvider),
}

impl AuthProvider {
    /// Where it is said what is revoked.
    pub fn revocations(&self) -> Option<&RevocationList> {
        match self {
            Self::Jwt(jwt) => jwt.revocations.as_ref(),
            Self::ApiKey(keys) => keys.revocations.as_ref(),
        }
    }
}

/// Tokens of one issuer. `exp` is required, `nbf` is checked where it is there, `sub` becomes
/// `x-consumer-id`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtProvider {
    /// Required `iss`.
    pub issuer: String,
    /// At least one must be in `aud`. Empty: not checked.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The issuer's keys.
    pub jwks: Jwks,
    /// Algorithms accepted. Default: `[RS256, ES256, EdDSA]`; others must be asked for.
    #[serde(default = "JwtProvider::algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Leeway for clocks that differ. Default 60s.
    #[serde(default = "JwtProvider::clock_skew")]
    pub clock_skew: Duration,
    /// Header the token is in. Default `authorization`.
    #[serde(default = "JwtProvider::header")]
    pub header: HeaderName,
    /// What stands before the token. Default `Bearer `, with the space.
    pub prefix: Option<String>,
    /// Scopes that must all be there; else 403.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// Claims that must have one of the values; else 403.
    #[serde(default)]
    pub required_claims: Vec<RequiredClaim>,
    /// Claims copied to request headers. What the client sent there is always removed.
    #[serde(default)]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// Whether the token goes on to the upstream. Default false.
    #[serde(default)]
    pub forward: bool,
    /// Where it is said which tokens are revoked, by `jti`, or by the `sid` of their session. Those get 401.
    pub revocations: Option<RevocationList>,
}

impl JwtProvider {
    fn algorithms() -> Vec<Algorithm> {
        vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
    }

    fn clock_skew() -> Duration {
        Duration::from_millis(60_000)
    }

    fn header() -> HeaderName {
        HeaderName::known("authorization")
    }
}

/// Where an issuer's JSON Web Key Set (RFC 7517) is. Exactly one of `inline`, `file` and `url`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// The set itself: `{keys: […]}`.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub inline: Option<serde_json::Value>,
    /// A file, relative to the folder of this one. Read again when it changes.
    pub file: Option<String>,
    /// Fetched by xds-server and pushed to every Envoy. Until the first fetch, tokens get 503; when a later
    /// one fails, the last keys stay.
    pub url: Option<String>,
    /// Time between two fetches of `url`. Default: the `max-age` of the issuer's `Cache-Control`, but at least 10s and at
    /// most 10m; 1m where it says none.
    pub refresh: Option<Duration>,
}

/// A service that says what is revoked: `GET` answers `{"api_keys": […], "tokens": […], "sessions": […]}`, with entries
/// `{"id": …, "until": SECONDS}`, where `until` is when nobody could accept it any more. xds-server polls it, and tells every
/// Envoy what is new; a request costs no call. A revocation is final: it counts until its time, also while the service is
/// down, and where the list no longer has it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// Where the list is.
    pub url: String,
    /// Time between two polls. Default 500ms; at least 100ms.
    #[serde(default = "RevocationList::every")]
    pub every: Duration,
}

impl RevocationList {
    fn every() -> Duration {
        Duration::from_millis(500)
    }
}

/// Signature algorithms (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256, on keys of up to 4096 bits. Some ten times dearer than RS256, once for each token.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256: whoever can check a token can make one.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// Name of the claim; dots step into objects.
    pub claim: String,
    /// Values, of which the claim must be one, or hold one where it is a list. Numbers and the like as JSON.
    pub any_of: Vec<String>,
}

/// A claim copied to a header.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// Name of the claim; dots step into objects.
    pub claim: String,
    /// Header to put it in.
    pub header: HeaderName,
}

/// API keys. The key itself is kept nowhere: only its SHA-256.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyProvider {
    /// Header the key is in. Default `x-api-key`.
    #[serde(default = "ApiKeyProvider::header")]
    pub header: HeaderName,
    /// Keys known up front.
    #[serde(default)]
    pub keys: Vec<ApiKey>,
    /// A service to ask about other keys.
    pub introspection: Option<Introspection>,
    /// Whether the key goes on to the upstream. Default false.
    #[serde(default)]
    pub forward: bool,
    /// Where it is said which keys are revoked, by id. Those get 401, also while they are remembered.
    pub revocations: Option<RevocationList>,
}

impl ApiKeyProvider {
    fn header() -> HeaderName {
        HeaderName::known("x-api-key")
    }
}

/// One API key.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// SHA-256 of the key in hexadecimal: `printf %s KEY | sha256sum`.
    pub sha256: String,
    /// Who it belongs to; becomes `x-consumer-id`.
    pub consumer: HeaderValue,
    /// Public id of the key; becomes `x-credential-id`. Default: the first 12 digits of `sha256`.
    pub id: Option<HeaderValue>,
    /// What a token would say of its owner: `{plan: gold, scope: read write}`.
    #[serde(default)]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// A service that knows API keys by their SHA-256, and may say their `claims`. The answer is remembered by every Envoy worker for a
/// while; when the service can't be reached, the request gets 503.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// Name under `clusters`.
    pub cluster: Name,
    /// Path to POST to. Default `/internal/v1/introspect`.
    pub path: Option<Path>,
    /// How long to wait. Default 1s.
    #[serde(default = "Introspection::timeout")]
    pub timeout: Duration,
    /// How long a good key is remembered: a revoked key works this long. Default 5s.
    #[serde(default = "Introspection::positive_ttl")]
    pub positive_ttl: Duration,
    /// How long an unknown key is remembered. Default 5s.
    #[serde(default = "Introspection::negative_ttl")]
    pub negative_ttl: Duration,
    /// Keys remembered per worker. Default 10000.
    #[serde(default = "Introspection::cache_size")]
    pub cache_size: u32,
}

impl Introspection {
    fn timeout() -> Duration {
        Duration::from_millis(1_000)
    }

    fn positive_ttl() -> Duration {
        Duration::from_millis(5_000)
    }

    fn negative_ttl() -> Duration {
        Duration::from_millis(5_000)
    }

    fn cache_size() -> u32 {
        10_000
    }
}
