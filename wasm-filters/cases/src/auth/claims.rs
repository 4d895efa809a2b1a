//! Tokens by what they say: time, issuer, audience, scopes, form.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_filter_config::AuthProvider;

use super::{alice, bearer, config, invalid_token, jwt, refused, tokens};
use crate::case::{Case, Expect, Step};
use crate::keys::{Keys, base64};
use crate::token::Token;

const EXPIRED: &str = "the token has expired";
const EARLY: &str = "the token is not valid yet";
const MALFORMED: &str = "the token is malformed";
const ISSUER: &str = "the token's issuer is not accepted";
const AUDIENCE: &str = "the token is for another audience";

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let mut cases = time(keys, now);
    cases.extend(who(keys, now));
    cases.extend(form(keys, now));
    cases.extend(scopes(keys, now));
    cases
}

/// The policy's leeway is ten minutes, which leaves a runner in real time some minutes to start.
fn time(keys: &Keys, now: u64) -> Vec<Case> {
    let signed = |token: Token| token.sign_rsa(keys);
    let token = || Token::rs256(now);
    let pass = |name, token| Case::auth(name, tokens(keys), [bearer(signed(token), alice())]);
    let refuse = |name, token, why| refused(name, tokens(keys), signed(token), why);
    vec![
        refuse("an expired token is refused", token().claim("exp", now - 3600), EXPIRED),
        refuse(
            "a token that expired just over the leeway ago is refused",
            token().claim("exp", now - 610),
            EXPIRED,
        ),
        pass("a token that expired within the leeway passes", token().claim("exp", now - 300)),
        refuse("a token that is not valid yet is refused", token().claim("nbf", now + 7200), EARLY),
        pass("a token that will be valid within the leeway passes", token().claim("nbf", now + 300)),
        pass("a token that is valid since now passes", token().claim("nbf", now)),
        refuse(
            "a token without expiry is refused",
            token().claim("exp", Value::Null),
            "the token has no expiry",
        ),
        refuse("an expiry in words is refused", token().claim("exp", "tomorrow"), "the token has no expiry"),
        refuse("a start in words is refused", token().claim("nbf", "yesterday"), MALFORMED),
        refuse("an expiry before the epoch is refused", token().claim("exp", -1), EXPIRED),
        pass("an expiry at the end of time passes", token().claim("exp", u64::MAX)),
        pass("an expiry with a fraction passes", token().claim("exp", json!(now as f64 + 0.5 + 3600.0))),
        Case::auth("a remembered token is refused once it expires", tokens(keys), {
            let token = signed(token().claim("exp", now + 30));
            let late = bearer(&token, invalid_token(EXPIRED)).after(Duration::from_secs(900));
            [bearer(&token, alice()), bearer(&token, alice()), late]
        }),
    ]
}

fn who(keys: &Keys, now: u64) -> Vec<Case> {
    let signed = |token: Token| token.sign_rsa(keys);
    let token = || Token::rs256(now);
    let pass = |name, token| Case::auth(name, tokens(keys), [bearer(signed(token), alice())]);
    let refuse = |name, token, why| refused(name, tokens(keys), signed(token), why);
    let mut anyone = jwt(Some(keys.jwks()));
    anyone.audiences.clear();
    let mut second = jwt(Some(keys.jwks()));
    second.issuer = "https://second.example".to_owned();
    let two = config([AuthProvider::Jwt(jwt(None)), AuthProvider::Jwt(second)]);
    vec![
        refuse("a token of another issuer is refused", token().claim("iss", "https://evil.example"), ISSUER),
        refuse(
            "an issuer with a slash at the end is another",
            token().claim("iss", "https://issuer.example/"),
            ISSUER,
        ),
        refuse(
            "a token without issuer is refused",
            token().claim("iss", Value::Null),
            "the token names no issuer",
        ),
        refuse(
            "an issuer that is a list is refused",
            token().claim("iss", json!(["https://issuer.example"])),
            "names no issuer",
        ),
        refuse("a token for another audience is refused", token().claim("aud", "web"), AUDIENCE),
        refuse("a token without audience is refused", token().claim("aud", Value::Null), AUDIENCE),
        refuse(
            "a token for an empty list of audiences is refused",
            token().claim("aud", json!([])),
            AUDIENCE,
        ),
        refuse("an audience in other letters is another", token().claim("aud", "API"), AUDIENCE),
        pass("a token for several audiences passes", token().claim("aud", json!(["web", "api"]))),
        Case::auth(
            "a token without audience passes where the policy asks for none",
            config([AuthProvider::Jwt(anyone)]),
            [bearer(signed(token().claim("aud", Value::Null)), alice())],
        ),
        Case::auth(
            "the issuer chooses among providers of one header",
            two,
            [
                bearer(signed(token().claim("iss", "https://second.example")), alice()),
                bearer(signed(token()), Expect::refused(503, "jwks_unavailable")),
            ],
        ),
    ]
}

fn form(keys: &Keys, now: u64) -> Vec<Case> {
    let token = || Token::rs256(now);
    let good = token().sign_rsa(keys);
    let raw = |name: &str, credential: &[u8], expect: Expect| {
        Case::auth(name, tokens(keys), [Step::on("main", expect).header("authorization", credential)])
    };
    let missing = || {
        Expect::refused(401, "missing_credential").client("www-authenticate", r#"Bearer realm="tollgate""#)
    };
    let critical = token().parameter("crit", json!(["b64"])).parameter("b64", false).sign_rsa(keys);
    let padded = format!("{good}=");
    let twice = Step::on("main", invalid_token(MALFORMED))
        .header("authorization", format!("Bearer {good}"))
        .header("authorization", format!("Bearer {good}"));
    vec![
        refused(
            "an extension that must be understood is refused",
            tokens(keys),
            critical,
            "extension that is not supported",
        ),
        refused(
            "an empty list of such extensions is refused",
            tokens(keys),
            token().parameter("crit", json!([])).sign_rsa(keys),
            "extension",
        ),
        refused(
            "a token for something else is refused",
            tokens(keys),
            token().parameter("typ", "dpop+jwt").sign_rsa(keys),
            "type is not accepted",
        ),
        Case::auth(
            "an access token by RFC 9068 passes",
            tokens(keys),
            [bearer(token().parameter("typ", "at+jwt").sign_rsa(keys), alice())],
        ),
        Case::auth(
            "a token without a type passes",
            tokens(keys),
            [bearer(token().parameter("typ", Value::Null).sign_rsa(keys), alice())],
        ),
        Case::auth(
            "a header parameter nobody knows is passed over",
            tokens(keys),
            [bearer(token().parameter("x", 1).sign_rsa(keys), alice())],
        ),
        refused("garbage is refused", tokens(keys), "garbage", MALFORMED),
        refused("garbage in three parts is refused", tokens(keys), "a.b.c", MALFORMED),
        refused("three empty parts are refused", tokens(keys), "..", MALFORMED),
        refused("a fourth part is refused", tokens(keys), format!("{good}.x"), MALFORMED),
        refused("padding is refused", tokens(keys), padded, MALFORMED),
        refused(
            "claims that are no object are refused",
            tokens(keys),
            format!("{}.{}.x", base64(r#"{"alg":"RS256"}"#), base64("[]")),
            MALFORMED,
        ),
        refused(
            "claims that go too deep are refused",
            tokens(keys),
            format!("{}.{}.x", base64(r#"{"alg":"RS256"}"#), base64("[".repeat(5000))),
            MALFORMED,
        ),
        refused(
            "a huge token is refused",
            tokens(keys),
            format!("{good}{}", "A".repeat(20_000)),
            "the token is too long",
        ),
        raw("an empty token is refused", b"Bearer ", invalid_token(MALFORMED)),
        raw("bytes that are no text are refused", b"Bearer \xff\xfe\x80", invalid_token(MALFORMED)),
        raw("another scheme is no credential", b"Basic dXNlcjpwYXNz", missing()),
        raw("another scheme in bytes that are no text is no credential", b"\xff\xfe", missing()),
        raw("the scheme in lower case passes", format!("bearer {good}").as_bytes(), alice()),
        raw("the scheme in upper case passes", format!("BEARER {good}").as_bytes(), alice()),
        Case::auth("no credential is answered with a challenge", tokens(keys), [Step::on("main", missing())]),
        Case::auth("two tokens are not one", tokens(keys), [twice]),
    ]
}

fn scopes(keys: &Keys, now: u64) -> Vec<Case> {
    let config = || {
        let mut provider = jwt(Some(keys.jwks()));
        provider.required_scopes = vec!["read".to_owned(), "write".to_owned()];
        config([AuthProvider::Jwt(provider)])
    };
    let token = || Token::rs256(now);
    let lacks = || {
        Expect::refused(403, "insufficient_scope")
            .client_has("www-authenticate", r#"error="insufficient_scope""#)
            .client_has("www-authenticate", r#"scope="read write""#)
    };
    let case =
        |name, token: Token, expect| Case::auth(name, config(), [bearer(token.sign_rsa(keys), expect)]);
    vec![
        case("a token with all scopes passes", token(), alice()),
        case(
            "scopes as a list pass",
            token().claim("scope", Value::Null).claim("scp", json!(["read", "write"])),
            alice(),
        ),
        case("a token that lacks a scope is 403", token().claim("scope", "read"), lacks()),
        case("a scope that only begins alike is another", token().claim("scope", "read writer"), lacks()),
        case("a token without scopes is 403", token().claim("scope", Value::Null), lacks()),
        Case::auth(
            "a forged token that lacks a scope is 401",
            config(),
            [bearer(
                token().claim("scope", "read").sign_other_rsa(keys),
                invalid_token("signature does not hold"),
            )],
        ),
        Case::auth("a token that lacks a scope is 403 each time", config(), {
            let token = token().claim("scope", "read").sign_rsa(keys);
            [bearer(&token, lacks()), bearer(&token, lacks())]
        }),
    ]
}
