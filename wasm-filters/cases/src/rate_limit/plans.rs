//! Limits by plan, and keys made of claims and of the path.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_filter_config::{
    ApiKey, ApiKeyProvider, AuthConfig, AuthPolicy, AuthProvider, GatewayConfig, KeyPart, Limit, OnFailure,
    PlanLimit, PlanSource, Plans,
};

use super::{HOUR_MS, config, left, limited, policy};
use crate::case::{Case, Config, Route, Step};
use crate::keys::sha256_hex;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = by_header();
    cases.extend(by_claim());
    cases.extend(paths());
    cases
}

fn by_header() -> Vec<Case> {
    let plan = |plan: &str, expect| Step::on("main", expect).header("x-plan", plan);
    let by = || PlanSource::Header("x-plan".to_owned());
    vec![
        Case::rate_limit(
            "each plan has a limit of its own, and who has none has that of the policy",
            config(with_plans(by(), policy([], 2, 2))),
            [
                plan("gold", left(5, 4).client("ratelimit-policy", r#""p:gold";q=5;w=3600"#)),
                plan("gold", left(5, 3).client_has("ratelimit", r#""p:gold";r=3;t="#)),
                plan("tin", left(1, 0).client("ratelimit-policy", r#""p:tin";q=1;w=3600"#)),
                plan("tin", limited(1)),
                Step::on("main", left(2, 1).client("ratelimit-policy", r#""p";q=2;w=3600"#)),
                plan("platinum", left(2, 0)),
                plan("", limited(2)),
                plan("gold", left(5, 2)).header("x-consumer-id", "alice"),
            ],
        ),
        Case::rate_limit(
            "two plans are none",
            config(with_plans(by(), policy([], 2, 2))),
            [plan("gold", left(2, 1)).header("x-plan", "gold")],
        ),
        Case::rate_limit(
            "who changes the plan begins with the bucket of the new one",
            config(with_plans(by(), policy([KeyPart::Consumer], 2, 2))),
            [
                plan("tin", left(1, 0)).header("x-consumer-id", "alice"),
                plan("gold", left(5, 4)).header("x-consumer-id", "alice"),
                plan("tin", limited(1)).header("x-consumer-id", "alice"),
                plan("tin", left(1, 0)).header("x-consumer-id", "bob"),
            ],
        ),
    ]
}

fn by_claim() -> Vec<Case> {
    let key = |key: &str, expect| Step::on("main", expect).header("x-api-key", key);
    let by = || PlanSource::Claim("plan".to_owned());
    let org = || KeyPart::Claim("org.id".to_owned());
    vec![
        guarded(
            "a plan stands in a claim, and no header says another",
            with_plans(by(), policy([KeyPart::Consumer], 2, 2)),
            [
                key("carol", left(5, 4).client("ratelimit-policy", r#""p:gold";q=5;w=3600"#)),
                key("dave", left(2, 1)).header("x-plan", "gold").header("plan", "gold"),
                key("erin", left(2, 1).client("ratelimit-policy", r#""p";q=2;w=3600"#)),
                key("carol", left(5, 3)),
            ],
        ),
        guarded(
            "values of a claim are counted apart, and those without it together",
            policy([org()], 1, 1),
            [
                key("carol", left(1, 0)),
                key("dave", limited(1)),
                key("erin", left(1, 0)),
                key("frank", left(1, 0)),
                key("grace", limited(1)),
            ],
        ),
    ]
}

fn paths() -> Vec<Case> {
    let at = |path: &str, expect| Step::on(path, expect);
    let of = |template: &str| policy([KeyPart::Path(template.to_owned())], 1, 1);
    vec![
        on_paths(
            "what stands in the braces of a path template is counted apart, as it is decoded",
            of("/v1/orders/{id}/**"),
            [
                at("v1/orders/7", left(1, 0)),
                at("v1/orders/8", left(1, 0)),
                at("v1/orders/7", limited(1)),
                at("v1/orders/7/items", limited(1)),
                at("v1/orders/%37", limited(1)),
            ],
        ),
        on_paths(
            "paths that are not like the template are counted together",
            of("/v1/orders/{id}"),
            [
                at("v1/orders/7", left(1, 0)),
                at("v1/orders/7/items", left(1, 0)),
                at("v1/orders/8/items", limited(1)),
                at("v2", limited(1)),
                at("v1/orders/8", left(1, 0)),
            ],
        ),
        on_paths(
            "segments that have no name are not part of the key",
            of("/*/orders/{id}"),
            [at("v1/orders/7", left(1, 0)), at("v2/orders/7", limited(1)), at("v2/orders/8", left(1, 0))],
        ),
    ]
}

/// Five an hour for `gold`, one for `tin`.
fn with_plans(by: PlanSource, limit: Limit) -> Limit {
    let plan = |plan: &str, limit| {
        let name = format!("p:{plan}");
        (plan.to_owned(), PlanLimit { name, limit, period_ms: HOUR_MS, burst: limit })
    };
    let limits = BTreeMap::from([plan("gold", 5), plan("tin", 1)]);
    Limit { plans: Some(Plans { by, limits }), ..limit }
}

/// A limit of callers who show an API key; the key is the caller's name.
fn guarded(name: &str, limit: Limit, steps: impl IntoIterator<Item = Step>) -> Case {
    let key = |consumer: &str, claims: Value| ApiKey {
        sha256: sha256_hex(consumer),
        consumer: consumer.to_owned(),
        id: format!("k-{consumer}"),
        claims: claims.as_object().cloned().unwrap_or_default(),
    };
    let keys = vec![
        key("carol", json!({ "plan": "gold", "org": { "id": 7 } })),
        key("dave", json!({ "org": { "id": "7" } })),
        key("erin", json!({ "plan": ["gold"], "org": { "id": 8 } })),
        key("frank", json!({})),
        key("grace", json!({ "org": "7" })),
    ];
    let provider = ApiKeyProvider {
        header: "x-api-key".to_owned(),
        keys,
        introspection: None,
        revocations: None,
        forward: false,
    };
    let policy = AuthPolicy {
        realm: "tollgate".to_owned(),
        any_of: vec![AuthProvider::ApiKey(provider)],
        all_of: Vec::new(),
        optional: false,
        on_failure: OnFailure::Deny,
    };
    let auth = AuthConfig {
        trust_identity_headers: false,
        claim_headers: Vec::new(),
        claims: vec!["plan".to_owned(), "org.id".to_owned()],
        requirements: BTreeMap::new(),
        revocations: None,
        policies: [("p".to_owned(), policy)].into(),
    };
    Case {
        name: name.to_owned(),
        config: Config::Gateway(GatewayConfig { auth, rate_limit: config(limit) }),
        routes: vec![Route::new("main", "auth=p,rate_limit=p")],
        steps: steps.into_iter().collect(),
    }
}

/// A limit of routes with several paths.
fn on_paths(name: &str, limit: Limit, steps: impl IntoIterator<Item = Step>) -> Case {
    let paths = [
        "v1/orders/7",
        "v1/orders/8",
        "v1/orders/%37",
        "v1/orders/7/items",
        "v1/orders/8/items",
        "v2",
        "v2/orders/7",
        "v2/orders/8",
    ];
    Case {
        name: name.to_owned(),
        config: Config::RateLimit(config(limit)),
        routes: paths.map(|path| Route::new(path, "rate_limit=p")).to_vec(),
        steps: steps.into_iter().collect(),
    }
}
