//! Accounts, tokens and keys through the whole stack: edge, filters, sidecar, api-service.

use serde_json::{Value, json};
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway, Shared},
    http_client::Reply,
    wait::wait_until,
};

use crate::{
    upstreams::{self, header_seen},
    yaml,
};

/// The repository's own gateway, with two routes to an upstream that says what reaches it.
static GATEWAY: Shared = Shared::new(|| {
    Gateway::full("credentials", |text, _| {
        let open =
            "{ match: { path: { prefix: /open/ } }, to: echo, policies: { auth: none, rate_limit: none } }";
        let text = yaml::with_route(&text, &yaml::prefix("/protected/", "echo"));
        let text = yaml::with_route(&text, open);
        let cluster = format!("\nclusters:\n  echo: {{ endpoints: [\"{}\"] }}\n", upstreams::a().address());
        text.replacen("\nclusters:\n", &cluster, 1)
    })
});

const PASSWORD: &str = "correct horse battery staple";

/// Registers an account and logs in; the access token.
fn token_of(gateway: &Gateway, name: &str) -> String {
    let who = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
    gateway.edge().post("/v1/accounts").json(&who).send().unwrap().expect_status(201).unwrap();
    let session = gateway.edge().post("/v1/sessions").json(&who).send().unwrap();
    let session = session.json().unwrap();
    session["access_token"].as_str().unwrap_or_else(|| panic!("no token in {session}")).to_owned()
}

/// Makes a key; the key itself and its id.
fn key_of(gateway: &Gateway, token: &str) -> (String, String) {
    let made = gateway.edge().post("/v1/keys").bearer(token).json(&json!({ "name": "test" })).send().unwrap();
    let made = made.expect_status(201).unwrap().json().unwrap();
    let text = |field: &str| match &made[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (text("key"), text("id"))
}

/// The challenge is the one for the kind of credential that was wrong.
fn assert_refused(reply: &Reply, scheme: &str, what: &str) {
    assert_eq!(reply.status, 401, "{what}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.starts_with(&format!("{scheme} realm=\"tollgate\"")),
        "{what}: challenge {challenge:?}"
    );
    assert_eq!(reply.json().unwrap()["status"], 401, "{what}");
}

#[test]
fn a_token_is_accepted_and_says_who_calls() {
    let gateway = GATEWAY.get();
    let token = token_of(&gateway, "ada");
    let account =
        gateway.edge().get("/v1/account").bearer(&token).send().unwrap().expect_status(200).unwrap();
    assert_eq!(account.json().unwrap()["email"], "ada@example.com");

    let reply = gateway.edge().get("/protected/x").bearer(&token).send().unwrap().expect_status(200).unwrap();
    assert_eq!(header_seen(&reply, "x-consumer-id").len(), 1);
    assert_eq!(header_seen(&reply, "x-credential-type"), ["jwt"]);
    assert_eq!(header_seen(&reply, "authorization"), Vec::<String>::new(), "the token goes no further");
}

#[test]
fn a_key_is_accepted_until_it_is_revoked() {
    let gateway = GATEWAY.get();
    let token = token_of(&gateway, "grace");
    let (key, id) = key_of(&gateway, &token);
    assert!(key.starts_with("tg_"), "{key}");
    let call = || gateway.edge().get("/protected/x").header("x-api-key", &key).send();

    let reply = call().unwrap().expect_status(200).unwrap();
    assert_eq!(header_seen(&reply, "x-credential-type"), ["api_key"]);
    assert_eq!(header_seen(&reply, "x-api-key"), Vec::<String>::new(), "the key goes no further");
    assert_eq!(gateway.edge().get("/v1/apis").header("x-api-key", &key).send().unwrap().status, 200);

    let revoked =
        gateway.edge().request(http::Method::DELETE, &format!("/v1/keys/{id}")).bearer(&token).send();
    assert_eq!(revoked.unwrap().status, 204);
    wait_until("the revoked key to be refused", EFFECT_DEADLINE, || call()?.expect_status(401)).unwrap();
}

#[test]
fn a_key_cannot_make_keys() {
    let gateway = GATEWAY.get();
    let (key, _) = key_of(&gateway, &token_of(&gateway, "mallory"));
    let made =
        gateway.edge().post("/v1/keys").header("x-api-key", key).json(&json!({ "name": "more" })).send();
    assert_eq!(made.unwrap().status, 401);
}

#[test]
fn wrong_credentials_are_refused_with_a_challenge() {
    let gateway = GATEWAY.get();
    let token = token_of(&gateway, "eve");
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
    let forged = format!("{head}.{flipped}");
    let get = || gateway.edge().get("/v1/account");
    let rows = [
        ("Bearer", "nothing", get()),
        ("Bearer", "a forged signature", get().bearer(&forged)),
        ("Bearer", "no token at all", get().bearer("not-a-token")),
        ("Bearer", "an empty token", get().header("authorization", "Bearer ")),
        ("Bearer", "another scheme", get().header("authorization", "Basic YTpi")),
        ("ApiKey", "an unknown key", get().header("x-api-key", "tg_unknown")),
        ("Bearer", "an empty key", get().header("x-api-key", "")),
        (
            "Bearer",
            "bytes that are no UTF-8",
            get().header("authorization", b"Bearer \xff\xfe\x80.\xc3.\x28"),
        ),
        ("ApiKey", "a key that is no UTF-8", get().header("x-api-key", b"tg_\xff\xfe")),
    ];
    for (scheme, what, request) in rows {
        assert_refused(&request.send().unwrap(), scheme, what);
    }
    let bad_token = get().bearer(&forged).send().unwrap();
    assert!(bad_token.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
}

#[test]
fn what_a_client_says_of_itself_never_reaches_the_upstream() {
    let gateway = GATEWAY.get();
    let claims = |request: tollgate_tests::http_client::Request| {
        request
            .header("x-consumer-id", "root")
            .header("x-credential-type", "jwt")
            .header("x-credential-id", "1")
    };
    let open = claims(gateway.edge().get("/open/x")).send().unwrap().expect_status(200).unwrap();
    for name in ["x-consumer-id", "x-credential-type", "x-credential-id"] {
        assert_eq!(
            header_seen(&open, name),
            Vec::<String>::new(),
            "{name} on a route without authentication"
        );
    }
    let token = token_of(&gateway, "trent");
    let reply = claims(gateway.edge().get("/protected/x")).bearer(&token).send().unwrap();
    let consumers = header_seen(&reply.expect_status(200).unwrap(), "x-consumer-id");
    assert_eq!(consumers.len(), 1);
    assert_ne!(consumers[0], "root");
}

#[test]
fn an_encoded_path_opens_no_protected_route() {
    let gateway = GATEWAY.get();
    for path in
        ["/open/%2e%2e/protected/x", "/open/../protected/x", "//protected/x", "/open%2f..%2fprotected/x"]
    {
        let reply = gateway.edge().get(path).send().unwrap();
        assert_ne!(reply.status, 200, "{path} reached {}", reply.text());
    }
}

#[test]
fn header_bytes_that_are_no_utf8_pass_through_unharmed() {
    let gateway = GATEWAY.get();
    let token = token_of(&gateway, "victor");
    let bytes: Vec<u8> = (0x80..=0xff).collect();
    let as_seen: String = bytes.iter().copied().map(char::from).collect();
    for _ in 0..20 {
        let request = gateway.edge().get("/protected/x").bearer(&token).header("x-bytes", &bytes);
        let reply = request.send().unwrap().expect_status(200).unwrap();
        assert_eq!(header_seen(&reply, "x-bytes"), [as_seen.as_str()]);
    }
}

#[test]
fn the_services_problems_pass_through_as_they_are() {
    let gateway = GATEWAY.get();
    let wrong = json!({ "email": "nobody@example.com", "password": PASSWORD });
    let reply = gateway.edge().post("/v1/sessions").json(&wrong).send().unwrap();
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
}
