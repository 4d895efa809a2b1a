//! Who the caller is, in both modes; and that tokens verify against the published keys alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, send};

async fn account(api: &Api, name: &str, value: &[u8]) -> Answer {
    send(api.request(Method::GET, "/v1/account").header(name, value)).await
}

#[tokio::test]
async fn behind_the_gateway_the_header_says_who_calls() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    assert_eq!(account(&api, "x-consumer-id", ada.as_bytes()).await.json()["id"], ada);
    for odd in [&b""[..], b"\xff\xfe", b" "] {
        account(&api, "x-consumer-id", odd).await.is_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn two_consumer_headers_are_no_identity() {
    let api = Api::start(&[]).await;
    let (ada, bob) = (api.account("ada").await, api.account("bob").await);
    let request = api.request(Method::GET, "/v1/account").header("x-consumer-id", ada);
    send(request.header("x-consumer-id", bob)).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn behind_the_gateway_an_access_token_alone_is_no_identity() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let credentials = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    account(&api, "authorization", credentials.as_bytes()).await.is_problem(401, "unauthenticated");
}

#[tokio::test]
async fn without_a_gateway_the_access_token_says_who_calls_until_it_expires() {
    let api = Api::start(&["--identity", "bearer", "--access-token-ttl", "15m"]).await;
    let ada = api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let token = tokens["access_token"].as_str().unwrap();
    for scheme in ["Bearer ", "bearer ", "BEARER   "] {
        let answer = account(&api, "authorization", format!("{scheme}{token}").as_bytes()).await;
        assert_eq!(answer.json()["id"], ada, "{scheme}");
    }
    api.advance(15 * 60);
    let answer = account(&api, "authorization", format!("Bearer {token}").as_bytes()).await;
    answer.is_problem(401, "invalid-token");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn without_a_gateway_nothing_but_a_good_token_is_an_identity() {
    let api = Api::start(&["--identity", "bearer"]).await;
    let ada = api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let refresh = format!("Bearer {}", tokens["refresh_token"].as_str().unwrap());
    account(&api, "x-consumer-id", ada.as_bytes()).await.is_problem(401, "unauthenticated");
    for odd in [&b"Basic YTpi"[..], b"Bearer", b"", b"\xff"] {
        account(&api, "authorization", odd).await.is_problem(401, "unauthenticated");
    }
    for odd in [b"Bearer a.b.c", b"Bearer .....", refresh.as_bytes()] {
        account(&api, "authorization", odd).await.is_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn access_tokens_verify_against_the_published_key_and_say_what_was_set() {
    let api =
        Api::start(&["--issuer", "https://issuer.test", "--audience", "aud", "--access-token-ttl", "60s"])
            .await;
    let ada = api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let jwk = api.get("/jwks.json").await.json()["keys"][0].clone();
    let token = tokens["access_token"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();

    let coordinate = |name: &str| decode(jwk[name].as_str().unwrap());
    let uncompressed = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = Signature::from_slice(&decode(signature)).unwrap();
    VerifyingKey::from_sec1_bytes(&uncompressed).unwrap().verify(signed.as_bytes(), &signature).unwrap();

    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT", "kid": jwk["kid"]}));
    let claims: Value = serde_json::from_slice(&decode(claims)).unwrap();
    assert_eq!(claims["iss"], "https://issuer.test");
    assert_eq!(claims["aud"], "aud");
    assert_eq!(claims["sub"], ada);
    assert_eq!(claims["nbf"], claims["iat"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(claims["scope"], "api");
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
}

#[tokio::test]
async fn the_signing_key_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let mut first = Api::start(&["--database", &url]).await;
    let keys = first.get("/jwks.json").await.text;
    first.stop();
    first.stopped().await.unwrap();
    let second = Api::start(&["--database", &url]).await;
    assert_eq!(second.get("/jwks.json").await.text, keys);
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
