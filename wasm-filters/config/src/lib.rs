//! The contract between xds-server and the Wasm filters.
//!
//! xds-server renders these types as JSON into each filter's plugin configuration (a `StringValue`); the
//! filters parse them in `on_configure`. Which policy a request gets is decided by its route, see
//! [`RoutePolicies`]. There is no decision in this crate, and no default that the operator did not see in
//! the YAML: xds-server fills every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod revocations;
mod route_policies;

pub use revocations::{RevocationService, RevocationUpdate, Revoked, RevokedKind};
pub use route_policies::RoutePolicies;

/// Header that carries who is calling, from the auth filter to everything behind it.
pub const CONSUMER_HEADER: &str = "x-consumer-id";
/// Header that says how the caller proved it: `jwt` or `api_key`.
pub const CREDENTIAL_TYPE_HEADER: &str = "x-credential-type";
/// Header with the public id of the credential: a token's `jti`, an API key's id.
pub const CREDENTIAL_ID_HEADER: &str = "x-credential-id";

/// Plugin configuration of `gateway.wasm`, which is both filters in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Who may call.
    pub auth: AuthConfig,
    /// How often.
    pub rate_limit: RateLimitConfig,
}

/// Plugin configuration of `auth.wasm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Identity headers sent by the client are removed unless this is true. True only on listeners whose
    /// clients are our own proxies (a sidecar's inbound listener).
    pub trust_identity_headers: bool,
    /// Headers that any policy of the gateway copies claims to, also policies that this listener doesn't use:
    /// an upstream behind two listeners can't tell which of them a header came through.
    pub claim_headers: Vec<String>,
    /// Claims that others than the auth policies ask for, such as the keys of rate limits: names as in
    /// [`RequiredClaim::claim`]. Those are kept of each credential, and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    /// Policies by name, as routes refer to them.
    pub policies: BTreeMap<String, AuthPolicy>,
    /// Who is asked what was revoked. `None` where no provider has a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<RevocationService>,
    /// What routes require beyond their policy, by name, as routes refer to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requirements: BTreeMap<String, Requirement>,
}

/// What a route requires of its callers: of API keys by their claims, as of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Scopes that must all be there; else 403 `insufficient_scope`.
    pub scopes: Vec<String>,
    /// Claims that must have one of the values; else 403 `insufficient_claims`.
    pub claims: Vec<RequiredClaim>,
}

/// How one group of routes is authenticated: by exactly one of `any_of` and `all_of`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthPolicy {
    /// `realm` of the `WWW-Authenticate` challenge (RFC 9110 section 11.5).
    pub realm: String,
    /// The first provider whose credential is present decides; a bad credential is never retried with the
    /// next provider of another kind. JWT providers are told apart by issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<AuthProvider>,
    /// The credential of every provider must hold. The first says who calls, and its scopes and claims count; the others
    /// add their claim headers. No two read the same header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_of: Vec<AuthProvider>,
    /// Whether a request without a credential passes, as nobody's. A bad credential is refused all the same.
    pub optional: bool,
    /// What happens to a request whose credential can't be checked, as what that takes is away.
    pub on_failure: OnFailure,
}

/// What happens where something that a decision depends on is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The request is refused with 503.
    Deny,
    /// The request passes, as nobody's.
    Allow,
}

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthProvider {
    /// A JSON Web Token (RFC 7519) in a header.
    Jwt(JwtProvider),
    /// An opaque API key in a header.
    ApiKey(ApiKeyProvider),
}

/// How tokens of one issuer are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtProvider {
    /// Required `iss`.
    pub issuer: String,
    /// At least one must be in `aud`. Empty: `aud` is not checked.
    pub audiences: Vec<String>,
    /// Algorithms accepted; a key's own `alg` narrows it further. Never `none`.
    pub algorithms: Vec<Algorithm>,
    /// The issuer's JSON Web Key Set (RFC 7517). `None`: not fetched yet, so its tokens get 503.
    pub jwks: Option<serde_json::Value>,
    /// Leeway on `exp` and `nbf`, in seconds.
    pub clock_skew_seconds: u64,
    /// Header the token is in, lower case.
    pub header: String,
    /// What stands before the token, matched without case: `Bearer ` by default.
    pub prefix: String,
    /// Scopes (RFC 8693 `scope`, or `scp`) that must all be there; else 403 `insufficient_scope`.
    pub required_scopes: Vec<String>,
    /// Claims that must have one of the values; else 403 `insufficient_claims`.
    pub required_claims: Vec<RequiredClaim>,
    /// Claims copied to request headers, always replacing what the client sent.
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// Whether the token goes on to the upstream. False strips it.
    pub forward: bool,
    /// The list that says which of its tokens are revoked, by `jti` or `sid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<String>,
}

/// Signature algorithms (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256, and a salt as long.
    PS256,
    /// RSASSA-PSS with SHA-384, and a salt as long.
    PS384,
    /// RSASSA-PSS with SHA-512, and a salt as long.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// Claim name; dots step into objects.
    pub claim: String,
    /// One of these must be its value, or in it where it is a list. Strings as they are, other values as JSON.
    pub any_of: Vec<String>,
}

/// One claim copied to one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// Claim name; dots step into objects. Strings go as they are, other values as JSON.
    pub claim: String,
    /// Header name, lower case.
    pub header: String,
}

/// How API keys are checked: against the list first, then by introspection where one is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyProvider {
    /// Header the key is in, lower case.
    pub header: String,
    /// Keys known up front.
    pub keys: Vec<ApiKey>,
    /// Where to ask about other keys.
    pub introspection: Option<Introspection>,
    /// Whether the key goes on to the upstream. False strips it.
    pub forward: bool,
    /// The list that says which of its keys are revoked, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<String>,
}

/// One API key: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// SHA-256 of the key, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Who it belongs to; becomes [`CONSUMER_HEADER`].
    pub consumer: String,
    /// Public id of the key; becomes [`CREDENTIAL_ID_HEADER`].
    pub id: String,
    /// What a token would say of its owner: `scope`, `plan` and the like.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// A service that knows API keys: `POST {path}` with `{"key_sha256": "<hex>"}` answers 200 with
/// `{"active": true, "consumer": "…", "key_id": "…"}` or `{"active": false}` (after RFC 7662). Of an active key, `claims`
/// may be there, too: an object as in [`ApiKey::claims`], of up to 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// Envoy cluster to call.
    pub cluster: String,
    /// `:authority` of the call.
    pub authority: String,
    /// Path of the call.
    pub path: String,
    /// How long to wait for the answer, in milliseconds; then the request gets 503.
    pub timeout_ms: u64,
    /// How long an active key is remembered per worker, in milliseconds.
    pub positive_ttl_ms: u64,
    /// How long an unknown key is remembered per worker, in milliseconds.
    pub negative_ttl_ms: u64,
    /// Entries remembered per worker at most.
    pub cache_size: usize,
}

/// Plugin configuration of `rate_limit.wasm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Policies by name, as routes refer to them.
    pub policies: BTreeMap<String, RateLimitPolicy>,
    /// Who is asked for the tokens of shared limits. `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaService>,
}

/// The quota service (`envoy.service.ratelimit.v3.RateLimitService`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaService {
    /// Envoy cluster to call.
    pub cluster: String,
    /// How long to wait for an answer, in milliseconds.
    pub timeout_ms: u64,
}

/// How often one group of routes may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitPolicy {
    /// All of them hold; what one refuses costs the others nothing. At least one.
    pub limits: Vec<Limit>,
    /// Which responses tell what is left.
    pub headers: QuotaHeaders,
}

/// A token bucket per key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Unique in the gateway: buckets are told apart by it, and clients are told it.
    pub name: String,
    /// The parts that make the key, in order. Empty: one bucket for all.
    pub key: Vec<KeyPart>,
    /// Tokens that `period_ms` refills.
    pub limit: u64,
    /// The period, in milliseconds.
    pub period_ms: u64,
    /// Size of the bucket: tokens that may be taken at once. At least 1.
    pub burst: u64,
    /// Tokens that a request takes: at least 1, at most `burst`.
    pub cost: u64,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
    /// How the bucket is shared with other Envoys. `None`: it is this Envoy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalLimit>,
    /// What differs for callers who have a plan. `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<Plans>,
}

/// Limits by plan. Each has buckets of its own: who changes the plan starts with those of the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    /// Where a request's plan stands.
    pub by: PlanSource,
    /// By the plan's name. Who has none of these has the limit's own.
    pub limits: BTreeMap<String, PlanLimit>,
}

/// Where a request's plan stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanSource {
    /// In a claim of the credential.
    Claim(String),
    /// In a request header, lower-case name, as the auth filter leaves it.
    Header(String),
}

/// How fast the buckets of a plan refill, and how much they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLimit {
    /// Unique in the gateway, as [`Limit::name`].
    pub name: String,
    /// Tokens that `period_ms` refills.
    pub limit: u64,
    /// The period, in milliseconds.
    pub period_ms: u64,
    /// Size of the bucket.
    pub burst: u64,
}

/// A bucket that several Envoys share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalLimit {
    /// How long granted tokens may be used, in milliseconds.
    pub lease_ms: u64,
    /// While the quota service can't be asked, up to so much of the limit passes as this Envoy alone counts, in percent.
    /// `None`: such requests get 503.
    pub alone_percent: Option<u32>,
}

/// Which responses tell a caller its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaHeaders {
    /// All.
    Always,
    /// Those of refused requests.
    Limited,
}

/// One part of a rate-limit key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// [`CONSUMER_HEADER`] as the auth filter set it; the client address where nobody is known.
    Consumer,
    /// Address of the client behind the trusted hops, without the port.
    ClientAddress,
    /// Name of the matched route.
    Route,
    /// The request's method.
    Method,
    /// Value of a request header, lower-case name; where it is absent, that.
    Header(String),
    /// Text of a claim of the credential; where it is absent, that.
    Claim(String),
    /// The segments of the path that stand in the braces of this template (`/v1/orders/{id}`); where the path is not like
    /// it, that.
    Path(String),
}
