//! API keys that only the introspection service knows.

use std::time::Duration;

use tollgate_filter_config::{AuthConfig, AuthProvider, Introspection};

use super::{api_keys, config, service};
use crate::case::{Answer, Case, Expect, Step};
use crate::keys::{Keys, sha256_hex};

pub(super) fn cases(_: &Keys, _: u64) -> Vec<Case> {
    let key = |expect| Step::on("main", expect).header("x-api-key", "carols-key");
    let asking = |expect, answer| key(expect).asking(sha256_hex("carols-key"), answer);
    let one = |name: &str, answer, expect| Case::auth(name, with(service()), [asking(expect, answer)]);
    let ok = |body: &str| Answer::Response { status: 200, body: body.to_owned() };
    let status = |status| Answer::Response { status, body: ACTIVE.to_owned() };
    let mut cases = vec![
        Case::auth(
            "an active key passes and is remembered",
            with(service()),
            [asking(carol(), ok(ACTIVE)), key(carol()), key(carol())],
        ),
        Case::auth(
            "an inactive key is refused and remembered",
            with(service()),
            [asking(unknown(), ok(r#"{"active":false}"#)), key(unknown())],
        ),
        Case::auth(
            "an active key is asked about again after its time",
            with(service()),
            [
                asking(carol(), ok(ACTIVE)),
                key(carol()).after(Duration::from_secs(50)),
                asking(unknown(), ok(r#"{"active":false}"#)).after(Duration::from_secs(20)),
            ],
        ),
        Case::auth(
            "an inactive key is asked about again after its time",
            with(service()),
            [
                asking(unknown(), ok(r#"{"active":false}"#)),
                asking(carol(), ok(ACTIVE)).after(Duration::from_secs(20)),
            ],
        ),
        Case::auth(
            "a failure is not remembered",
            with(service()),
            [asking(unavailable(), status(500)), asking(carol(), ok(ACTIVE))],
        ),
        Case::auth(
            "a configured key is not asked about",
            with(service()),
            [Step::on("main", Expect::passes().upstream("x-consumer-id", "bob"))
                .header("x-api-key", "good-key")],
        ),
        Case::auth(
            "each key is asked about on its own",
            with(service()),
            [
                asking(carol(), ok(ACTIVE)),
                Step::on("main", unknown())
                    .header("x-api-key", "daves-key")
                    .asking(sha256_hex("daves-key"), ok(r#"{"active":false}"#)),
                key(carol()),
            ],
        ),
        Case::auth(
            "a service that is not configured in Envoy is 503",
            with(Introspection { cluster: "nowhere".to_owned(), ..service() }),
            [key(unavailable())],
        ),
        Case::auth(
            "identity headers of a client are replaced by the service's answer",
            with(service()),
            [asking(carol(), ok(ACTIVE)).header("x-consumer-id", "mallory").header("x-credential-id", "k-0")],
        ),
        one("a dead service is 503", Answer::Dead, unavailable()),
        one("a late service is 503", Answer::Late, unavailable()),
    ];
    for code in [204, 301, 401, 404, 429, 500, 502, 503] {
        cases.push(one(&format!("status {code} of the service is 503"), status(code), unavailable()));
    }
    for (what, body) in [
        ("no JSON", "active"),
        ("nothing", ""),
        ("active without an owner", r#"{"active":true}"#),
        ("active in words", r#"{"active":"true","consumer":"carol","key_id":"k-7"}"#),
        (
            "an owner that would end the header line",
            r#"{"active":true,"consumer":"c\r\nx: 1","key_id":"k-7"}"#,
        ),
        ("an empty owner", r#"{"active":true,"consumer":"","key_id":"k-7"}"#),
    ] {
        cases.push(one(&format!("an answer with {what} is 503"), ok(body), unavailable()));
    }
    cases
}

const ACTIVE: &str = r#"{"active":true,"consumer":"carol","key_id":"k-7"}"#;

fn with(introspection: Introspection) -> AuthConfig {
    config([AuthProvider::ApiKey(api_keys(Some(introspection)))])
}

fn carol() -> Expect {
    Expect::passes()
        .upstream("x-consumer-id", "carol")
        .upstream("x-credential-type", "api_key")
        .upstream("x-credential-id", "k-7")
        .no_upstream("x-api-key")
}

fn unknown() -> Expect {
    Expect::refused(401, "invalid_key").client_has("www-authenticate", "the API key is not known")
}

fn unavailable() -> Expect {
    Expect::refused(503, "introspection_unavailable").client("retry-after", "1").no_client("www-authenticate")
}
