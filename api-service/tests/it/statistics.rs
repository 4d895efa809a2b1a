//! `/v1/statistics`.

use serde_json::{Value, json};
use time::Duration;

use crate::harness::Api;

fn usage(api: &str, status: u16, count: u64, day: &str) -> Value {
    json!({"api": api, "status": status, "count": count, "day": day})
}

#[tokio::test]
async fn usage_is_totalled_by_day_and_api_for_its_consumer_only() {
    let api = Api::start(&[]).await;
    let (ada, bob) = (api.account("ada").await, api.account("bob").await);
    let today = api.today().to_string();
    let yesterday = (api.today() - Duration::days(1)).to_string();
    for body in [
        usage("petstore", 200, 5, &today),
        usage("petstore", 200, 2, &today),
        json!({"api": "petstore", "route": "list-pets", "status": 404, "count": 1}),
        usage("petstore", 503, 4, &today),
        usage("orders", 200, 1, &today),
        usage("petstore", 200, 9, &yesterday),
    ] {
        assert_eq!(api.post_as(&ada, "/v1/statistics", body).await.status, 204);
    }
    let answer = api.get_as(&ada, "/v1/statistics").await;
    assert_eq!(answer.status, 200);
    let total = |day: &str, api: &str, requests: u64, client_errors: u64, server_errors: u64| {
        json!({"day": day, "api": api, "requests": requests, "client_errors": client_errors,
               "server_errors": server_errors})
    };
    let expected = json!({"items": [
        total(&yesterday, "petstore", 9, 0, 0),
        total(&today, "orders", 1, 0, 0),
        total(&today, "petstore", 12, 1, 4),
    ]});
    assert_eq!(answer.json(), expected);
    assert_eq!(api.get_as(&bob, "/v1/statistics").await.json(), json!({"items": []}));
}

#[tokio::test]
async fn totals_are_narrowed_by_day_and_api() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let day = |back| (api.today() - Duration::days(back)).to_string();
    for back in 0..4 {
        for name in ["a", "b"] {
            api.post_as(&ada, "/v1/statistics", usage(name, 200, 1, &day(back))).await;
        }
    }
    let path = format!("/v1/statistics?from={}&to={}&api=b", day(2), day(1));
    let items = api.get_as(&ada, &path).await.json()["items"].clone();
    let found: Vec<_> = items.as_array().unwrap().iter().map(|item| (&item["day"], &item["api"])).collect();
    assert_eq!(found, [(&json!(day(2)), &json!("b")), (&json!(day(1)), &json!("b"))]);
}

#[tokio::test]
async fn totals_come_in_pages_that_hold_each_once() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let day = |back| (api.today() - Duration::days(back)).to_string();
    for back in [1, 0] {
        for name in ["a", "a.b", "b"] {
            api.post_as(&ada, "/v1/statistics", usage(name, 200, 1, &day(back))).await;
        }
    }
    let (mut found, mut path) = (Vec::new(), "/v1/statistics?limit=2".to_owned());
    loop {
        let page = api.get_as(&ada, &path).await.json();
        for item in page["items"].as_array().unwrap() {
            found.push((item["day"].as_str().unwrap().to_owned(), item["api"].as_str().unwrap().to_owned()));
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/statistics?limit=2&after={next}");
    }
    let expected: Vec<_> = [1, 0]
        .into_iter()
        .flat_map(|back| ["a", "a.b", "b"].map(|name| (day(back), name.to_owned())))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn bad_usage_and_bad_questions_are_told_why() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let today = api.today().to_string();
    let tomorrow = (api.today() + Duration::days(1)).to_string();
    for (body, field) in [
        (usage("", 200, 1, &today), "api"),
        (usage("a:b", 200, 1, &today), "api"),
        (usage("a", 99, 1, &today), "status"),
        (usage("a", 600, 1, &today), "status"),
        (usage("a", 200, 0, &today), "count"),
        (usage("a", 200, 1_000_001, &today), "count"),
        (usage("a", 200, 1, &tomorrow), "day"),
        (usage("a", 200, 1, "2020-01-01"), "day"),
        (usage("a", 200, 1, "today"), "day"),
        (json!({"api": "a", "route": "", "status": 200, "count": 1}), "route"),
    ] {
        let problem = api.post_as(&ada, "/v1/statistics", body).await.is_problem(422, "invalid");
        assert_eq!(problem["field"], field);
    }
    for body in [usage("a", 200, u64::MAX, &today), json!({"api": "a", "status": 70000, "count": 1})] {
        api.post_as(&ada, "/v1/statistics", body).await.is_problem(422, "invalid");
    }
    for (query, field) in [
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("from=2020-01-01&to=2026-01-01", "from"),
        ("from=x", "from"),
        ("to=2026-02-30", "to"),
        ("api=a%20b", "api"),
        ("after=x", "after"),
        ("after=2026-01-01:", "after"),
    ] {
        let answer = api.get_as(&ada, &format!("/v1/statistics?{query}")).await;
        assert_eq!(answer.is_problem(422, "invalid")["field"], field);
    }
    api.get("/v1/statistics").await.is_problem(401, "unauthenticated");
    api.post("/v1/statistics", usage("a", 200, 1, &today)).await.is_problem(401, "unauthenticated");
}
