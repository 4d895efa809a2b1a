//! The OpenAPI documents against the routes.

use reqwest::Method;
use serde_json::Value;

use crate::harness::{Api, send};

fn operations(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let mut operations: Vec<String> = operations.collect();
    operations.sort_unstable();
    operations
}

#[tokio::test]
async fn every_route_is_in_the_public_document() {
    let api = Api::start(&[]).await;
    let answer = api.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        operations(&answer.json()),
        [
            "DELETE /v1/apis/{id}",
            "DELETE /v1/keys/{id}",
            "DELETE /v1/sessions",
            "GET /healthz",
            "GET /jwks.json",
            "GET /openapi.json",
            "GET /readyz",
            "GET /v1/account",
            "GET /v1/apis",
            "GET /v1/apis/{id}",
            "GET /v1/keys",
            "GET /v1/statistics",
            "POST /v1/accounts",
            "POST /v1/apis",
            "POST /v1/keys",
            "POST /v1/sessions",
            "POST /v1/sessions/refresh",
            "POST /v1/statistics",
        ]
    );
}

#[tokio::test]
async fn every_route_is_in_the_internal_document() {
    let api = Api::start(&[]).await;
    let document = send(api.internal(Method::GET, "/openapi.json")).await.json();
    assert_eq!(
        operations(&document),
        [
            "GET /healthz",
            "GET /jwks.json",
            "GET /metrics",
            "GET /openapi.json",
            "GET /readyz",
            "GET /revocations",
            "POST /internal/v1/introspect",
        ]
    );
}

#[tokio::test]
async fn documented_methods_are_the_ones_that_are_routed() {
    let api = Api::start(&[]).await;
    let document = api.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        let answer = send(api.request(Method::PATCH, &path.replace("{id}", "x"))).await;
        answer.is_problem(405, "method-not-allowed");
        let mut allowed: Vec<String> = answer.header("allow").split(',').map(str::to_lowercase).collect();
        // axum answers HEAD wherever it answers GET.
        allowed.retain(|method| method != "head");
        allowed.sort_unstable();
        let documented: Vec<&String> = item.as_object().unwrap().keys().collect();
        assert_eq!(allowed.iter().collect::<Vec<_>>(), documented, "{path}");
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_operation_has_problems() {
    let api = Api::start(&[]).await;
    for answer in [api.get("/openapi.json").await, send(api.internal(Method::GET, "/openapi.json")).await] {
        let document = answer.json();
        for reference in answer.text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                assert!(
                    operation["responses"]["default"]["content"].get("application/problem+json").is_some()
                );
            }
        }
    }
}
