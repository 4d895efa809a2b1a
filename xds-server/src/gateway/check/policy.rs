//! Policies: credentials that can be checked at all, and limits that make sense.

use std::collections::BTreeSet;

use tollgate_filter_core::quota;

use super::{known, within};
use crate::gateway::model::{
    ApiKeyProvider, AuthProvider, Gateway, Jwks, JwtProvider, OnFailure, Plans, RateLimitPolicy,
    RevocationList, Scope,
};
use crate::gateway::position::join;
use crate::gateway::report::Problem;
use crate::gateway::scalar::{Duration, Rate};

/// Tokens in a bucket at most: what the filters' arithmetic holds.
const MAX_BURST: u64 = 1_000_000_000;

/// How long a lease may be. Shorter ones would end while they travel; what longer ones hold is missing elsewhere.
const LEASE_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// How often a list of revocations may be polled.
const POLL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// With a list of revocations, for how long a key may be remembered, and how far clocks may differ: what api-service lists
/// them for.
const LONGEST_TTL: Duration = Duration::from_millis(3_600_000);
const LONGEST_SKEW: Duration = Duration::from_millis(300_000);

/// Headers that say how a message is framed or routed, and no token may set.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const PREFIXES: [&str; 3] = ["proxy-", "x-envoy-", "x-forwarded-"];

/// All policies.
pub(super) fn check(gateway: &Gateway, problems: &mut Vec<Problem>) {
    for (name, policy) in &gateway.policies.auth {
        let pointer = join("/policies/auth", name.as_str());
        reserved(&pointer, name.as_str(), problems);
        let (field, providers) = policy.providers();
        if !policy.any_of.is_empty() && !policy.all_of.is_empty() {
            let problem =
                Problem::key(format!("{pointer}/all_of"), "a policy has either `any_of` or `all_of`");
            problems.push(problem.help("write two policies, or put all that must hold into `all_of`"));
        }
        if providers.is_empty() {
            let problem =
                Problem::value(format!("{pointer}/any_of"), "nobody could authenticate: the list is empty");
            problems.push(problem.help("for open routes, write `auth: none` at the route"));
        }
        let mut places = BTreeSet::new();
        let mut headers = BTreeSet::new();
        for (index, provider) in providers.iter().enumerate() {
            let pointer = format!("{pointer}/{field}/{index}");
            let (header, ..) = place(provider);
            if field == "all_of" && !headers.insert(header) {
                let message =
                    format!("an earlier provider reads `{header}`, which can hold one credential only");
                let problem = Problem::value(pointer.clone(), message);
                problems.push(problem.help("give each its own `header`"));
            } else if !places.insert(place(provider)) {
                let problem =
                    Problem::value(pointer.clone(), "an earlier provider reads the same credential");
                problems.push(
                    problem.help("tell them apart by `issuer`, `header` or `prefix`, or take one away"),
                );
            }
            match provider {
                AuthProvider::Jwt(jwt) => self::jwt(&format!("{pointer}/jwt"), jwt, problems),
                AuthProvider::ApiKey(keys) => api_key(gateway, &format!("{pointer}/api_key"), keys, problems),
            }
        }
    }
    for (name, policy) in &gateway.policies.rate_limit {
        let pointer = join("/policies/rate_limit", name.as_str());
        reserved(&pointer, name.as_str(), problems);
        limit(&pointer, (policy.limit, policy.burst, policy.cost), problems);
        plans(&pointer, policy.plans.as_ref(), policy.cost, problems);
        for (index, also) in policy.also.iter().enumerate() {
            let pointer = format!("{pointer}/also/{index}");
            limit(&pointer, (also.limit, also.burst, also.cost), problems);
            plans(&pointer, also.plans.as_ref(), also.cost, problems);
        }
        shared(&pointer, name.as_str(), policy, problems);
        leases(&pointer, policy, problems);
    }
}

fn limit(pointer: &str, (limit, burst, cost): (Rate, Option<u64>, u64), problems: &mut Vec<Problem>) {
    if let Some(burst) = burst {
        within(&format!("{pointer}/burst"), "burst", burst, 1..=MAX_BURST, problems);
    }
    // More than a full bucket holds would refuse every request.
    within(&format!("{pointer}/cost"), "cost", cost, 1..=burst.unwrap_or(limit.requests).max(1), problems);
}

/// Limits by plan, of a limit whose requests take `cost`.
fn plans(pointer: &str, plans: Option<&Plans>, cost: u64, problems: &mut Vec<Problem>) {
    let Some(plans) = plans else { return };
    let pointer = format!("{pointer}/plans/limits");
    if plans.limits.is_empty() {
        problems.push(Problem::value(pointer.clone(), "no plan is named"));
    }
    for (plan, limit) in &plans.limits {
        let pointer = join(&pointer, plan);
        // Names are in response headers, and in the names of buckets.
        if plan.is_empty() || plan.len() > 128 || !plan.chars().all(|c| matches!(c, ' '..='~')) {
            problems.push(Problem::key(&pointer, "a plan's name is 1 to 128 printable ASCII characters"));
        }
        if let Some(burst) = limit.burst {
            within(&format!("{pointer}/burst"), "burst", burst, 1..=MAX_BURST, problems);
        }
        if limit.burst.unwrap_or(limit.limit.requests) < cost {
            let field = if limit.burst.is_some() { "burst" } else { "limit" };
            let message = format!("a request costs {cost}, which is more than this bucket ever holds");
            problems.push(Problem::value(format!("{pointer}/{field}"), message));
        }
    }
}

/// What the arithmetic of shared buckets needs.
fn shared(pointer: &str, name: &str, policy: &RateLimitPolicy, problems: &mut Vec<Problem>) {
    let limits = policy.limits(name).enumerate();
    for (index, (_, limit, _)) in limits.filter(|(_, (_, _, scope))| *scope == Scope::Global) {
        let pointer = match index.checked_sub(1) {
            None => pointer.to_owned(),
            Some(also) => format!("{pointer}/also/{also}"),
        };
        for (bucket, rate, burst) in limit.buckets("") {
            if quota::Limit::new(rate.requests, rate.period.get(), burst).is_some() {
                continue;
            }
            let pointer = match bucket.strip_prefix(':') {
                None => pointer.clone(),
                Some(plan) => join(&format!("{pointer}/plans/limits"), plan),
            };
            let message = "a full bucket would take more than a hundred years to refill";
            let problem = Problem::value(format!("{pointer}/limit"), message);
            problems.push(problem.help("a lower `burst` refills sooner"));
        }
    }
}

/// What only shared buckets have.
fn leases(pointer: &str, policy: &RateLimitPolicy, problems: &mut Vec<Problem>) {
    let given = [
        ("lease", policy.lease.is_some()),
        ("on_failure", policy.on_failure.is_some()),
        ("failure_share", policy.failure_share.is_some()),
    ];
    if !policy.is_shared() {
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            let problem = Problem::value(
                format!("{pointer}/{field}"),
                format!("`{field}` says nothing of a bucket that no other Envoy shares"),
            );
            problems.push(problem.help("write `scope: global`, or leave it out"));
        }
        return;
    }
    if let Some(lease) = policy.lease {
        let what = "the lease in milliseconds";
        within(&format!("{pointer}/lease"), what, lease.as_millis(), LEASE_MS, problems);
    }
    if let Some(share) = policy.failure_share {
        within(&format!("{pointer}/failure_share"), "failure_share", share, 1..=100, problems);
        if policy.on_failure != Some(OnFailure::Allow) {
            let problem = Problem::value(
                format!("{pointer}/failure_share"),
                "nothing is shared: requests that can't be counted are denied",
            );
            problems.push(problem.help("write `on_failure: allow`, or leave it out"));
        }
    }
}

/// Where a provider finds its credential, and whose it must be.
fn place(provider: &AuthProvider) -> (&str, Option<&str>, Option<&str>) {
    match provider {
        AuthProvider::Jwt(jwt) => (jwt.header.as_str(), jwt.prefix.as_deref(), Some(&jwt.issuer)),
        AuthProvider::ApiKey(keys) => (keys.header.as_str(), None, None),
    }
}

fn reserved(pointer: &str, name: &str, problems: &mut Vec<Problem>) {
    if name == "none" {
        problems.push(Problem::key(pointer, "`none` means no policy, so no policy can have that name"));
    }
}

fn jwt(pointer: &str, jwt: &JwtProvider, problems: &mut Vec<Problem>) {
    if jwt.issuer.is_empty() {
        problems.push(Problem::value(format!("{pointer}/issuer"), "the issuer is empty"));
    }
    if jwt.algorithms.is_empty() {
        let problem =
            Problem::value(format!("{pointer}/algorithms"), "no token could be accepted: the list is empty");
        problems.push(problem.help("leave it out for [RS256, ES256, EdDSA]"));
    }
    jwks(&format!("{pointer}/jwks"), &jwt.jwks, problems);
    let remembered = ("clock_skew", Some(jwt.clock_skew), LONGEST_SKEW);
    revocations(pointer, jwt.revocations.as_ref(), remembered, problems);
    for (index, copy) in jwt.claims_to_headers.iter().enumerate() {
        let name = copy.header.as_str();
        if FRAMING.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let message = format!("a token may not decide on `{name}`: proxies act on it");
            problems.push(Problem::value(format!("{pointer}/claims_to_headers/{index}/header"), message));
        }
    }
}

fn jwks(pointer: &str, jwks: &Jwks, problems: &mut Vec<Problem>) {
    let given = [jwks.inline.is_some(), jwks.file.is_some(), jwks.url.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        problems.push(Problem::value(pointer, "exactly one of `inline`, `file` and `url` is needed"));
    }
    if let Some(inline) = &jwks.inline
        && !inline.get("keys").is_some_and(|keys| keys.is_array())
    {
        let problem = Problem::value(format!("{pointer}/inline"), "a JSON Web Key Set holds a list `keys`");
        problems.push(problem.help("see RFC 7517 section 5: {keys: [{kty: …}]}"));
    }
    if jwks.url.as_deref().is_some_and(|url| !is_key_url(url)) {
        let message = "this is no http or https URL without user and password";
        let problem = Problem::value(format!("{pointer}/url"), message);
        problems
            .push(problem.help("key sets are public: for example https://issuer.example/jwks.json").secret());
    }
}

/// What is revoked is on its list for a time, and must not be accepted after that.
fn revocations(
    pointer: &str,
    list: Option<&RevocationList>,
    remembered: (&str, Option<Duration>, Duration),
    problems: &mut Vec<Problem>,
) {
    let Some(list) = list else { return };
    if !is_key_url(&list.url) {
        let message = "this is no http or https URL without user and password";
        let problem = Problem::value(format!("{pointer}/revocations/url"), message);
        problems.push(problem.help("for example http://127.0.0.1:8082/revocations").secret());
    }
    let what = "the time between two polls in milliseconds";
    let every = format!("{pointer}/revocations/every");
    within(&every, what, list.every.as_millis(), POLL_MS, problems);
    let (field, time, longest) = remembered;
    if time.is_some_and(|time| time.get() > longest.get()) {
        let message = "it is longer than revocations are listed, so what was revoked would be accepted again";
        let help = format!("with `revocations`, at most {}s", longest.as_millis() / 1_000);
        problems.push(Problem::value(format!("{pointer}/{field}"), message).help(help));
    }
}

/// URLs are shown in logs, so they may hold no credential.
fn is_key_url(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    })
}

fn api_key(gateway: &Gateway, pointer: &str, provider: &ApiKeyProvider, problems: &mut Vec<Problem>) {
    if provider.keys.is_empty() && provider.introspection.is_none() {
        let problem = Problem::value(pointer, "no key could be accepted");
        problems.push(problem.help("list `keys`, or name a service under `introspection`"));
    }
    let ttl = provider.introspection.as_ref().map(|introspection| introspection.positive_ttl);
    let remembered = ("introspection/positive_ttl", ttl, LONGEST_TTL);
    revocations(pointer, provider.revocations.as_ref(), remembered, problems);
    let mut hashes = BTreeSet::new();
    for (index, key) in provider.keys.iter().enumerate() {
        if !hashes.insert(&key.sha256) {
            let message = "this key stands twice, so it is not clear whose it is";
            problems.push(Problem::value(format!("{pointer}/keys/{index}/sha256"), message).secret());
        }
        let is_hash =
            key.sha256.len() == 64 && key.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hash {
            // Not shown: somebody may have pasted the key itself.
            let problem = Problem::value(
                format!("{pointer}/keys/{index}/sha256"),
                "this is no SHA-256: 64 digits of 0-9 and a-f are needed",
            );
            problems.push(problem.help("printf %s KEY | sha256sum").secret());
        }
    }
    if let Some(introspection) = &provider.introspection {
        let pointer = format!("{pointer}/introspection");
        known("cluster", &gateway.clusters, &introspection.cluster, format!("{pointer}/cluster"), problems);
        let size = introspection.cache_size;
        within(&format!("{pointer}/cache_size"), "cache_size", size, 1..=1_000_000, problems);
    }
}
