//! Who the upstream is told is calling, whatever the client says.

use serde_json::{Value, json};
use tollgate_filter_config::AuthProvider;

use super::{alice, api_keys, bearer, config, invalid_token, jwt, tokens};
use crate::case::{Case, Expect, Step};
use crate::keys::Keys;
use crate::token::Token;

/// Headers that state an identity under the cases' policy.
const IDENTITY: [&str; 5] = ["x-consumer-id", "x-credential-type", "x-credential-id", "x-plan", "x-tenant"];

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let token = || Token::rs256(now);
    let good = token().sign_rsa(keys);
    let spoof = |step: Step| {
        IDENTITY
            .iter()
            .fold(step, |step, name| step.header(name, "mallory").header(&name.to_uppercase(), "eve"))
    };
    let nobody = || IDENTITY.iter().fold(Expect::passes(), |expect, name| expect.no_upstream(name));
    let trusting = || {
        let mut config = tokens(keys);
        config.trust_identity_headers = true;
        config
    };
    let forwarding = {
        let mut provider = jwt(Some(keys.jwks()));
        provider.forward = true;
        config([AuthProvider::Jwt(provider)])
    };
    let bytes = |step: Step| {
        IDENTITY
            .iter()
            .fold(step, |step, name| step.header(name, b"\xff\xfe\x80"))
            .header("x-other", b"caf\xe9")
    };
    let mut cases = vec![
        Case::auth(
            "identity headers of the client are replaced",
            tokens(keys),
            [spoof(bearer(&good, alice()))],
        ),
        Case::auth(
            "a claim that is empty is told by no header, and the client's goes",
            tokens(keys),
            [bearer(token().claim("tenant", "").sign_rsa(keys), alice().no_upstream("x-tenant"))
                .header("x-tenant", "mallory")],
        ),
        Case::auth(
            "identity headers of the client go on a route without a policy",
            tokens(keys),
            [spoof(Step::on("open", nobody()))],
        ),
        Case::auth(
            "identity headers with an underscore go, too",
            tokens(keys),
            [Step::on("open", Expect::passes().no_upstream("x_consumer_id"))
                .header("x_consumer_id", "mallory")],
        ),
        Case::auth(
            "a trusting listener leaves them on a route without a policy",
            trusting(),
            [Step::on("open", Expect::passes().upstream("x-consumer-id", "edge"))
                .header("x-consumer-id", "edge")],
        ),
        Case::auth(
            "a trusting listener replaces them where it decides",
            trusting(),
            [spoof(bearer(&good, alice()))],
        ),
        Case::auth(
            "the token goes on where the policy says so",
            forwarding,
            [bearer(&good, Expect::passes().upstream("authorization", format!("Bearer {good}")))],
        ),
        Case::auth(
            "a route without a policy leaves the token alone",
            tokens(keys),
            [Step::on("open", Expect::passes().upstream("authorization", "Bearer whatever"))
                .header("authorization", "Bearer whatever")],
        ),
        Case::auth(
            "a route whose policy is unknown lets nobody through",
            tokens(keys),
            [Step::on("stray", Expect::refused(503, "unknown_policy").client("retry-after", "1"))
                .header("authorization", format!("Bearer {good}"))],
        ),
        Case::auth(
            "bytes that are no text harm nothing",
            tokens(keys),
            [
                bytes(bearer(&good, alice().upstream("x-other", b"caf\xe9"))),
                bytes(Step::on("open", nobody().upstream("x-other", b"caf\xe9"))),
                bytes(bearer("\u{e9}", invalid_token("malformed"))),
            ],
        ),
        Case::auth(
            "other headers are left as they are",
            tokens(keys),
            [bearer(&good, alice().upstream("x-other", "1").upstream("accept", "text/html"))
                .header("x-other", "1")
                .header("accept", "text/html")],
        ),
    ];
    let or_key = |optional: bool| {
        let key = AuthProvider::ApiKey(api_keys(None));
        let mut config = config([AuthProvider::Jwt(jwt(Some(keys.jwks()))), key]);
        config.policies.values_mut().for_each(|policy| policy.optional = optional);
        config
    };
    let key = |expect| Step::on("main", expect).header("x-api-key", "good-key");
    let bob =
        || Expect::passes().upstream("x-consumer-id", "bob").no_upstream("x-plan").no_upstream("x-tenant");
    cases.extend([
        Case::auth(
            "claim headers of the client go where its credential has no claims",
            or_key(false),
            [spoof(key(bob())), bytes(key(bob()))],
        ),
        Case::auth(
            "claim headers of the client go where nobody is known",
            or_key(true),
            [
                spoof(Step::on("main", nobody())),
                bytes(Step::on("main", nobody())),
                spoof(bearer(&good, alice())),
            ],
        ),
    ]);
    let claim = |name: &str, token: Token, expect: Expect| {
        Case::auth(name, tokens(keys), [spoof(bearer(token.sign_rsa(keys), expect))])
    };
    cases.extend([
        claim(
            "a claim that is a number goes as JSON",
            token().claim("plan", json!({ "name": 7 })),
            Expect::passes().upstream("x-plan", "7"),
        ),
        claim(
            "a claim that is a list goes as JSON",
            token().claim("plan", json!({ "name": ["a", "b"] })),
            Expect::passes().upstream("x-plan", r#"["a","b"]"#),
        ),
        claim(
            "a claim that is missing removes its header",
            token().claim("plan", Value::Null),
            Expect::passes().no_upstream("x-plan"),
        ),
        claim(
            "a claim that is null removes its header",
            token().claim("plan", json!({ "name": null })),
            Expect::passes().no_upstream("x-plan").no_upstream("x-tenant"),
        ),
        claim(
            "claims without the object that one is in remove its header",
            token().claim("plan", "gold"),
            Expect::passes().no_upstream("x-plan").no_upstream("x-tenant"),
        ),
        claim(
            "a claim that would end the header line is left out",
            token().claim("tenant", "a\r\nx-admin: 1"),
            Expect::passes().no_upstream("x-tenant").no_upstream("x-admin"),
        ),
        claim(
            "a claim in another script goes as UTF-8",
            token().claim("tenant", "Zürich"),
            Expect::passes().upstream("x-tenant", "Zürich"),
        ),
        claim(
            "a token without a subject is of nobody",
            token().claim("sub", Value::Null),
            Expect::passes().no_upstream("x-consumer-id").upstream("x-credential-type", "jwt"),
        ),
        claim(
            "a token without an id has none",
            token().claim("jti", Value::Null),
            Expect::passes().no_upstream("x-credential-id").upstream("x-consumer-id", "alice"),
        ),
        claim(
            "a subject that would end the header line is refused",
            token().claim("sub", "a\r\nx-admin: 1"),
            invalid_token("subject cannot be used"),
        ),
        claim(
            "a subject that is a number is refused",
            token().claim("sub", 7),
            invalid_token("subject cannot be used"),
        ),
    ]);
    cases
}
