//! Policies whose credentials must all hold.

use tollgate_filter_config::{AuthConfig, AuthProvider, ClaimToHeader};

use super::{alice, api_keys, config, jwt, service};
use crate::case::{Answer, Case, Expect, Step};
use crate::keys::{Keys, sha256_hex};
use crate::token::{Token, spoiled};

/// Whom the token in `x-app` is of.
const APP_ISSUER: &str = "https://apps.example";

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let user = || AuthProvider::Jwt(jwt(Some(keys.jwks())));
    let known = || AuthProvider::ApiKey(api_keys(None));
    let asked = || AuthProvider::ApiKey(api_keys(Some(service())));
    let mut app = jwt(Some(keys.jwks()));
    app.issuer = APP_ISSUER.to_owned();
    app.header = "x-app".to_owned();
    app.prefix = String::new();
    app.claims_to_headers = [("plan.name", "x-plan"), ("sub", "x-app-id"), ("gone", "x-gone")]
        .map(|(claim, header)| ClaimToHeader { claim: claim.to_owned(), header: header.to_owned() })
        .to_vec();
    let app = || AuthProvider::Jwt(app.clone());
    let good = Token::rs256(now).sign_rsa(keys);
    let app_token = Token::rs256(now).claim("iss", APP_ISSUER).claim("sub", "app-1").sign_rsa(keys);
    let step = |token: &str, key: &str, expect| {
        let step = Step::on("main", expect).header("x-api-key", key);
        step.header("authorization", format!("Bearer {token}"))
    };
    let apps = |token: &str, app: &str, expect| {
        let step = Step::on("main", expect).header("x-app", app).header("x-gone", "mallory");
        step.header("authorization", format!("Bearer {token}")).header("x-app-id", "mallory")
    };
    let both = || alice().no_upstream("x-api-key");
    let bob = || {
        Expect::passes()
            .upstream("x-consumer-id", "bob")
            .upstream("x-credential-type", "api_key")
            .upstream("x-plan", "gold")
            .no_upstream("x-api-key")
            .no_upstream("authorization")
    };
    let carol = || Answer::Response {
        status: 200,
        body: r#"{"active":true,"consumer":"carol","key_id":"k-7"}"#.to_owned(),
    };
    let inactive = || Answer::Response { status: 200, body: r#"{"active":false}"#.to_owned() };
    let asking = |step: Step, answer| step.asking(sha256_hex("carols-key"), answer);
    let invalid = || Expect::refused(401, "invalid_token");
    let missing = |has: &str, name: &str| {
        let expect = Expect::refused(401, "missing_credential");
        Step::on("main", expect.client("www-authenticate", format!(r#"{name} realm="tollgate""#)))
            .header(if has == "ApiKey" { "x-api-key" } else { "authorization" }, "Bearer good-key")
    };
    vec![
        Case::auth(
            "two credentials pass, and the first says who calls",
            all_of([user(), known()]),
            [step(&good, "good-key", both()), step(&good, "good-key", both())],
        ),
        Case::auth(
            "the second credential adds its claims",
            all_of([known(), user()]),
            [step(&good, "good-key", bob()).header("x-plan", "mallory").header("x-consumer-id", "eve")],
        ),
        Case::auth(
            "of two credentials each must hold",
            all_of([user(), known()]),
            [
                step(&spoiled(&good), "good-key", invalid()),
                step(&good, "bad-key", Expect::refused(401, "invalid_key")),
                step(&spoiled(&good), "bad-key", invalid()),
            ],
        ),
        Case::auth(
            "of two credentials the missing one is named",
            all_of([user(), known()]),
            [missing("ApiKey", "Bearer"), missing("Bearer", "ApiKey")],
        ),
        Case::auth(
            "the first credential may be one to ask about",
            all_of([asked(), user()]),
            [
                step(&spoiled(&good), "carols-key", invalid()),
                asking(step(&good, "carols-key", Expect::refused(401, "invalid_key")), inactive()),
            ],
        ),
        Case::auth(
            "the last credential may be one to ask about",
            all_of([user(), asked()]),
            [
                step(&spoiled(&good), "carols-key", invalid()),
                asking(step(&good, "carols-key", both()), carol()),
                step(&good, "carols-key", both()),
                step(&spoiled(&good), "carols-key", invalid()),
            ],
        ),
        Case::auth(
            "two tokens pass, each in its header and of its issuer",
            all_of([user(), app()]),
            [
                apps(&good, &app_token, alice().upstream("x-app-id", "app-1").no_upstream("x-gone")),
                apps(&good, &app_token, alice().no_upstream("x-app").no_upstream("x-gone")),
                apps(&app_token, &good, invalid()),
                apps(&good, &good, invalid()),
                apps(&app_token, &app_token, invalid()),
            ],
        ),
        Case::auth(
            "a token that was seen in one header is not good in another",
            config([user(), app()]),
            [
                Step::on("main", alice()).header("authorization", format!("Bearer {good}")),
                Step::on("main", invalid()).header("x-app", &good),
                Step::on("main", Expect::passes().upstream("x-consumer-id", "app-1"))
                    .header("x-app", &app_token),
                Step::on("main", invalid()).header("authorization", format!("Bearer {app_token}")),
            ],
        ),
    ]
}

fn all_of(providers: impl IntoIterator<Item = AuthProvider>) -> AuthConfig {
    let mut config = config(providers);
    config.policies.values_mut().for_each(|policy| policy.all_of = std::mem::take(&mut policy.any_of));
    config
}
