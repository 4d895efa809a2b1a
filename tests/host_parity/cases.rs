//! What the guest is told to do. A line is `[WHEN: ]INSTRUCTION`, as its own documentation has them.

/// One request through a plugin of its own.
pub struct Case {
    pub name: &'static str,
    /// Words for the guest's root context.
    pub configuration: &'static str,
    pub headers: &'static [(&'static str, &'static str)],
    /// Sent as JSON.
    pub body: Option<&'static str>,
    pub lines: &'static [&'static str],
    /// Threads take part whose order is nobody's promise: lines are compared as a set.
    pub unordered: bool,
}

const CASE: Case =
    Case { name: "", configuration: "", headers: &[], body: None, lines: &[], unordered: false };

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case { name: "statuses when the plugin is configured", configuration: "statuses", ..CASE },
        Case { name: "statuses in a tick", configuration: "tick=10 tick-statuses", unordered: true, ..CASE },
        Case {
            name: "statuses in the request's body",
            body: Some("hello"),
            lines: &["body: statuses"],
            ..CASE
        },
        Case {
            name: "headers as they come",
            headers: &[
                ("x-b", "2"),
                ("X-A", "1"),
                ("x-empty", ""),
                ("authorization", "one"),
                ("authorization", "two"),
                ("x-twice", "1"),
                ("x-twice", "2"),
                ("accept", "a"),
                ("accept", "b"),
            ],
            lines: &[
                "map 0",
                "get 0 X-A",
                "get 0 authorization",
                "get 0 accept",
                "get 0 x-twice",
                "get 0 x-empty",
                "property request/headers/x-empty",
            ],
            ..CASE
        },
        Case {
            name: "a held body is changed",
            body: Some("hello"),
            lines: &[
                "body: body 0 0 100",
                "body: body 0 2 3",
                "body: body 0 5 2",
                "body: set-body 0 0 0 pre",
                "body: set-body 0 99 0 post",
                "body: body 0 0 100",
                "body: set-body 0 0 100 changed",
                "body: body 0 0 100",
            ],
            ..CASE
        },
    ];
    let told: [(&'static str, &'static [&'static str]); 28] = [
        ("statuses in the request's headers", &["statuses"]),
        ("statuses once the request goes on", &["resume 0", "statuses"]),
        ("statuses in the response's headers", &["response: statuses"]),
        ("statuses in the response's body", &["response-body: statuses"]),
        ("statuses in a local reply's headers", &["reply 403 no", "response: statuses"]),
        ("statuses in the log", &["log: statuses"]),
        ("statuses in the log of a local reply", &["reply 403 no", "log: statuses"]),
        ("statuses at the end", &["done: statuses"]),
        ("statuses in a callout's answer", &["http up /ask 1000", "call: statuses"]),
        ("response headers as they come", &["response: map 2", "response: get 2 X-Up", "log: map 0"]),
        (
            "headers are changed",
            &[
                "set 0 x-a one",
                "add 0 x-a two",
                "add 0 X-B three",
                "set 0 x-a four",
                "remove 0 x-b",
                "add 0 accept a",
                "add 0 accept b",
                "map 0",
            ],
        ),
        (
            "all pairs are set",
            &[
                "setmap 0 :method=GET :path=/p :authority=test.example :scheme=http x-forwarded-proto=http x-z=1 x-z=2",
                "map 0",
            ],
        ),
        (
            "shared data is written by version",
            &[
                "shared-get k",
                "shared-set k v 5",
                "shared-get k",
                "shared-set k w 99",
                "shared-set k w 1",
                "shared-get k",
                "shared-set k x",
                "shared-get k",
            ],
        ),
        (
            "metrics",
            &[
                "metric counter c add 0",
                "metric counter c add 5",
                "metric counter c add -1",
                "metric counter c get",
                "metric counter c set 7",
                "metric counter c get",
                "metric gauge g set 3",
                "metric gauge g add -1",
                "metric gauge g get",
                "metric histogram h set 5",
                "metric histogram h add 5",
                "metric histogram h get",
            ],
        ),
        (
            "a callout that is answered",
            &["http up /ask 1000 payload", "call: map 6", "call: map 7", "call: set 0 x-late yes"],
        ),
        ("a callout to a cluster that is not there", &["http nope /x"]),
        ("a callout to a cluster without hosts", &["http empty /x"]),
        ("a callout without its headers", &["http-bare up"]),
        ("response headers in the log", &["log: map 2"]),
        ("a callout to a dead host", &["http dead /x 1000"]),
        ("a callout that takes too long", &["http late /x 100"]),
        ("a gRPC call to a cluster that is not there", &["grpc nope hi"]),
        ("a gRPC call to a dead host", &["grpc grpc-dead hi"]),
        ("a gRPC call that takes too long", &["grpc silent hi"]),
        ("a gRPC stream to a dead host", &["grpc-open grpc-dead"]),
        (
            "properties",
            &[
                "property request/path",
                "property request/url_path",
                "property request/query",
                "property request/host",
                "property request/method",
                "property request/scheme",
                "property request/headers/x-nope",
                "property request/useragent",
                "property request/referer",
                "property request/nope",
                "property xds/route_name",
                "property route_name",
                "property cluster_name",
                "property xds/cluster_name",
                "property xds/route_metadata/filter_metadata/tollgate/policies",
                "property plugin_name",
                "property plugin_root_id",
                "property nope",
                "set-property foo bar",
                "property foo",
                "property filter_state/wasm.foo",
                "response: property response/code",
                "response: property response/headers/x-up",
                "response: property request/path",
            ],
        ),
        (
            "foreign functions",
            &[
                "foreign nope 00",
                "foreign verify_signature ff",
                "foreign verify_signature 0a06736861323536",
                "foreign sign 0a06736861323536",
                "foreign clear_route_cache 00",
                "foreign uncompress 00",
                "foreign uncompress 789c4b4c4a0600024d0127",
                "foreign set_envoy_filter_state 0a046e6f7065",
                "foreign set_envoy_filter_state 0a17656e766f792e7463705f70726f78792e636c7573746572120163",
                "foreign declare_property 0a0161",
                "foreign declare_property ff",
            ],
        ),
        ("the first of two replies", &["reply 403 one", "reply 404 two"]),
    ];
    cases.extend(told.map(|(name, lines)| Case { name, lines, ..CASE }));
    let more: [(&'static str, &'static [&'static str]); 5] = [
        ("a reply instead of a response", &["response: reply 502 late"]),
        ("a callout's answer becomes the reply", &["http up /ask", "call: reply 401 no"]),
        ("a request that is reset", &["reset"]),
        ("a request that is resumed before it is paused", &["resume 0", "pause"]),
        ("contexts", &["effective 1", "effective 99", "property plugin_name"]),
    ];
    cases.extend(more.map(|(name, lines)| Case { name, lines, ..CASE }));
    cases.push(Case { name: "a CEL expression", lines: &["foreign expr_create 31"], ..CASE });
    cases.push(Case {
        name: "a queue tells who registered it",
        configuration: "queue=q",
        lines: &["queue-push q hi", "queue-push nope hi", "queue-pop 9999"],
        ..CASE
    });
    cases
}
