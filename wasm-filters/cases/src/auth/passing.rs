//! Who passes without being known: where a credential is optional, and where what checks it is away.

use tollgate_filter_config::{AuthConfig, OnFailure, RequiredClaim};

use super::{alice, bearer, config, invalid_token, jwt, tokens};
use crate::case::{Case, Expect, Step};
use crate::keys::Keys;
use crate::token::{Token, spoiled};

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let good = Token::rs256(now).sign_rsa(keys);
    let nobody = || Expect::passes().no_upstream("x-consumer-id").no_upstream("x-credential-type");
    let mut optional = tokens(keys);
    optional.policies.values_mut().for_each(|policy| policy.optional = true);
    let mut cases = vec![Case::auth(
        "where auth is optional, nobody passes as nobody, and a bad credential does not",
        optional,
        [
            Step::on("main", nobody()),
            Step::on("main", nobody()).header("x-consumer-id", "alice"),
            bearer(&good, alice()),
            bearer(spoiled(&good), invalid_token("the token's signature does not hold")),
        ],
    )];
    for (name, on_failure, expect) in [
        ("without keys nobody passes", OnFailure::Deny, Expect::refused(503, "jwks_unavailable")),
        (
            "without keys everybody passes as nobody, where the policy says so",
            OnFailure::Allow,
            nobody().no_upstream("authorization"),
        ),
    ] {
        let mut config: AuthConfig = config([tollgate_filter_config::AuthProvider::Jwt(jwt(None))]);
        config.policies.values_mut().for_each(|policy| policy.on_failure = on_failure);
        cases.push(Case::auth(
            name,
            config,
            [
                bearer(&good, expect).header("x-consumer-id", "evil"),
                Step::on("main", Expect::refused(401, "missing_credential")),
            ],
        ));
    }
    for (name, accepted, expect) in [
        ("a token whose claim is one of the required values passes", ["silver", "gold"], alice()),
        (
            "a token whose claim is another is forbidden",
            ["silver", "Gold"],
            Expect::refused(403, "insufficient_claims").client_has("www-authenticate", "insufficient_scope"),
        ),
    ] {
        let mut provider = jwt(Some(keys.jwks()));
        let any_of = accepted.map(str::to_owned).to_vec();
        provider.required_claims = vec![RequiredClaim { claim: "plan.name".to_owned(), any_of }];
        let config = config([tollgate_filter_config::AuthProvider::Jwt(provider)]);
        cases.push(Case::auth(name, config, [bearer(&good, expect.clone()), bearer(&good, expect)]));
    }
    cases
}
