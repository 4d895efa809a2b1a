//! API keys that the configuration knows, alone and beside tokens.

use tollgate_filter_config::AuthProvider;

use super::{alice, api_keys, config, jwt};
use crate::case::{Case, Expect, Step};
use crate::keys::Keys;
use crate::token::Token;

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let only = || config([AuthProvider::ApiKey(api_keys(None))]);
    let both = || config([AuthProvider::Jwt(jwt(Some(keys.jwks()))), AuthProvider::ApiKey(api_keys(None))]);
    let forwarding = {
        let mut provider = api_keys(None);
        provider.forward = true;
        config([AuthProvider::ApiKey(provider)])
    };
    let key = |value: &[u8], expect| Step::on("main", expect).header("x-api-key", value);
    let good = Token::rs256(now).sign_rsa(keys);
    let bearer = format!("Bearer {good}");
    vec![
        Case::auth(
            "a known key passes and does not reach the upstream",
            only(),
            [key(b"good-key", bob()), key(b"good-key", bob())],
        ),
        Case::auth(
            "a known key goes on where the policy says so",
            forwarding,
            [key(
                b"good-key",
                Expect::passes().upstream("x-api-key", "good-key").upstream("x-consumer-id", "bob"),
            )],
        ),
        Case::auth("an unknown key is refused", only(), [key(b"bad-key", unknown())]),
        Case::auth("a key in other letters is another", only(), [key(b"Good-Key", unknown())]),
        Case::auth(
            "the hash of a key is no key",
            only(),
            [key(crate::keys::sha256_hex("good-key").as_bytes(), unknown())],
        ),
        Case::auth("a key of bytes that are no text is refused", only(), [key(b"\xff\xfe\x80", unknown())]),
        Case::auth("a huge key is refused", only(), [key(&[b'k'; 20_000], unknown())]),
        Case::auth(
            "two keys are not one",
            only(),
            [key(b"good-key", Expect::refused(400, "invalid_request")).header("X-Api-Key", "good-key")],
        ),
        Case::auth(
            "no key is answered with a challenge",
            only(),
            [Step::on(
                "main",
                Expect::refused(401, "missing_credential")
                    .client("www-authenticate", r#"ApiKey realm="tollgate""#),
            )],
        ),
        Case::auth(
            "no credential is answered with every challenge",
            both(),
            [Step::on(
                "main",
                Expect::refused(401, "missing_credential")
                    .client_has("www-authenticate", r#"Bearer realm="tollgate""#)
                    .client_has("www-authenticate", r#"ApiKey realm="tollgate""#),
            )],
        ),
        Case::auth(
            "either credential passes",
            both(),
            [key(b"good-key", bob()), Step::on("main", alice()).header("authorization", &bearer)],
        ),
        Case::auth(
            "the first provider's credential decides, and both are taken away",
            both(),
            [
                key(b"good-key", alice().no_upstream("x-api-key")).header("authorization", &bearer),
                key(b"bad-key", alice().no_upstream("x-api-key")).header("authorization", &bearer),
            ],
        ),
        Case::auth(
            "a bad token is not made good by a good key",
            both(),
            [key(b"good-key", Expect::refused(401, "invalid_token"))
                .header("authorization", "Bearer garbage")],
        ),
        Case::auth(
            "another scheme leaves the word to the key",
            both(),
            [key(b"good-key", bob()).header("authorization", "Basic dXNlcjpwYXNz")],
        ),
        Case::auth(
            "identity headers of a client with a key are replaced",
            only(),
            [key(b"good-key", bob()).header("x-consumer-id", "mallory").header("x-credential-type", "jwt")],
        ),
    ]
}

/// The upstream knows that bob called with a key, and does not see the key.
fn bob() -> Expect {
    Expect::passes()
        .upstream("x-consumer-id", "bob")
        .upstream("x-credential-type", "api_key")
        .upstream("x-credential-id", "k-1")
        .no_upstream("x-api-key")
}

fn unknown() -> Expect {
    Expect::refused(401, "invalid_key")
        .client_has("www-authenticate", r#"ApiKey realm="tollgate", error="invalid_key""#)
}
