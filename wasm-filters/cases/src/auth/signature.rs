//! Tokens by their signature: every algorithm, every way to get one past a careless verifier.

use tollgate_filter_config::{Algorithm, AuthProvider};

use super::{alice, bearer, config, invalid_token, jwt, refused, tokens};
use crate::case::{Case, Expect};
use crate::keys::Keys;
use crate::token::{Token, spoiled};

const FORGED: &str = "the token's signature does not hold";
const NO_KEY: &str = "no key fits the token";

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let tokens = || tokens(keys);
    let good = Token::rs256(now);
    let mut cases = Vec::new();
    let by_algorithm = [
        ("RS256", good.sign_rsa(keys)),
        ("ES256", Token::new("ES256", "es", now).sign_ec(keys)),
        ("EdDSA", Token::new("EdDSA", "ed", now).sign_ed(keys)),
        ("HS256", Token::new("HS256", "hs", now).sign_hmac(None)),
        ("RS384", Token::new("RS384", "rs384", now).sign_rsa(keys)),
        ("RS512", Token::new("RS512", "rs512", now).sign_rsa(keys)),
        ("PS256", Token::new("PS256", "ps256", now).sign_rsa(keys)),
        ("PS384", Token::new("PS384", "ps384", now).sign_rsa(keys)),
        ("PS512", Token::new("PS512", "ps512", now).sign_rsa(keys)),
        ("ES384", Token::new("ES384", "es384", now).sign_ec(keys)),
        ("ES512", Token::new("ES512", "es512", now).sign_ec(keys)),
        ("HS384", Token::new("HS384", "hs384", now).sign_long_hmac()),
        ("HS512", Token::new("HS512", "hs512", now).sign_long_hmac()),
    ];
    for (algorithm, token) in &by_algorithm {
        cases.push(Case::auth(
            &format!("a good {algorithm} token passes"),
            tokens(),
            [bearer(token, alice())],
        ));
        cases.push(refused(
            &format!("an {algorithm} token with another signature is refused"),
            tokens(),
            spoiled(token),
            FORGED,
        ));
        let name =
            format!("a good {algorithm} token after a forged one passes, and a forged one after it does not");
        let steps = [
            bearer(spoiled(token), invalid_token(FORGED)),
            bearer(token, alice()),
            bearer(token, alice()),
            bearer(spoiled(token), invalid_token(FORGED)),
        ];
        cases.push(Case::auth(&name, tokens(), steps));
    }
    cases.push(refused(
        "a token signed by an unknown key under a known id is refused",
        tokens(),
        good.sign_other_rsa(keys),
        FORGED,
    ));

    let none = Token::rs256(now).parameter("alg", "none");
    for (name, token) in [
        ("alg none without a signature is refused", none.unsigned()),
        ("alg none with a good RSA signature is refused", none.sign_rsa(keys)),
        ("alg None in other letters is refused", Token::rs256(now).parameter("alg", "NoNe").unsigned()),
        ("alg in lower case is refused", Token::rs256(now).parameter("alg", "rs256").sign_rsa(keys)),
        (
            "an algorithm that is not ours is refused",
            Token::rs256(now).parameter("alg", "ES256K").sign_rsa(keys),
        ),
    ] {
        cases.push(refused(name, tokens(), token, "algorithm is not accepted"));
    }

    let confused = Token::new("HS256", "rs", now).sign_hmac(Some(&keys.rsa_modulus()));
    cases.push(refused("the RSA modulus is no HMAC secret", tokens(), confused, NO_KEY));
    let confused = Token::new("HS256", "hs", now).sign_hmac(Some(&keys.rsa_modulus()));
    cases.push(refused("the RSA modulus is not the HMAC secret either", tokens(), confused, FORGED));
    let confused = Token::new("RS256", "hs", now).sign_hmac(None);
    cases.push(refused("an HMAC under RS256 is refused", tokens(), confused, NO_KEY));
    let confused = Token::new("ES256", "rs", now).sign_ec(keys);
    cases.push(refused("a key of another kind is not used", tokens(), confused, NO_KEY));
    let ps = Token::new("PS256", "rs", now).sign_rsa(keys);
    cases.push(refused("a key for RS256 is not used for PS256", tokens(), ps, NO_KEY));
    for (name, said, signed) in [
        ("a PKCS #1 signature is none of PSS", "PS256", "RS256"),
        ("a PSS signature with another hash is refused", "PS256", "PS384"),
        ("a PSS signature is none of PKCS #1", "RS384", "PS384"),
    ] {
        let token = Token::new(said, &said.to_lowercase(), now).sign_rsa_as(keys, signed);
        cases.push(refused(name, tokens(), token, FORGED));
    }
    let empty = Token::new("HS256", "hs", now).sign_hmac(Some(b""));
    cases.push(refused("an empty secret is refused", tokens(), empty, FORGED));

    let only_es = || {
        let mut provider = jwt(Some(keys.jwks()));
        provider.algorithms = vec![Algorithm::ES256];
        config([AuthProvider::Jwt(provider)])
    };
    cases.push(refused(
        "an algorithm that the policy leaves out is refused",
        only_es(),
        good.sign_rsa(keys),
        "algorithm is not accepted",
    ));

    let unnamed = Token::rs256(now).parameter("kid", serde_json::Value::Null);
    cases.push(Case::auth(
        "a token that names no key passes where one key fits",
        tokens(),
        [bearer(unnamed.sign_rsa(keys), alice())],
    ));
    let ambiguous = || config([AuthProvider::Jwt(jwt(Some(keys.ambiguous_jwks())))]);
    cases.push(refused(
        "a token that names no key is refused where two fit",
        ambiguous(),
        unnamed.sign_rsa(keys),
        "more than one key fits",
    ));
    cases.push(refused(
        "an unknown key id is refused",
        tokens(),
        Token::new("RS256", "nobody", now).sign_rsa(keys),
        NO_KEY,
    ));

    for (name, id) in [
        ("an unknown key id is refused where one key would fit", Some("rs")),
        ("a key id is refused where the one key that would fit has none", None),
    ] {
        let config = config([AuthProvider::Jwt(jwt(Some(keys.one_key(id))))]);
        let token = |kid: &str| Token::new("RS256", kid, now).sign_rsa(keys);
        let named = if id.is_some() { token("rs") } else { unnamed.sign_rsa(keys) };
        let refused = || invalid_token(NO_KEY);
        let steps = [
            bearer(token("nobody"), refused()),
            // Neither does it once the key was used.
            bearer(named, alice()),
            bearer(token("nobody"), refused()),
            bearer(token(""), refused()),
        ];
        cases.push(Case::auth(name, config, steps));
    }

    let unfetched = config([AuthProvider::Jwt(jwt(None))]);
    let step =
        bearer(good.sign_rsa(keys), Expect::refused(503, "jwks_unavailable").client("retry-after", "1"));
    cases.push(Case::auth(
        "a token is answered 503 while its issuer's keys are not known",
        unfetched,
        [step],
    ));
    let nothing = config([AuthProvider::Jwt(jwt(Some(serde_json::json!({ "keys": [] }))))]);
    cases.push(refused("an empty key set refuses every token", nothing, good.sign_rsa(keys), NO_KEY));
    cases
}
