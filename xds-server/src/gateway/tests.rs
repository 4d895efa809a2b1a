//! What `load` says of right and wrong YAML: one row a mistake, with the place and words it must give.

use super::*;

const GOOD: &str = include_str!("../../../envoy-configs/gateway.yaml");

fn load_text(text: &str) -> Result<Gateway, Report> {
    load(vec![SourceFile { path: "gateway.yaml".into(), text: text.into() }]).map(|loaded| loaded.gateway)
}

/// The first problem as `line:column message (help)`.
fn first_problem(text: &str) -> String {
    match load_text(text) {
        Ok(_) => String::from("no problem"),
        Err(report) => {
            let problem = &report.problems[0];
            let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}:{} {}{help}", problem.line, problem.column, problem.message)
        }
    }
}

#[test]
fn the_example_loads() {
    let gateway = load_text(GOOD).unwrap_or_else(|report| panic!("{report}"));
    assert!(gateway.proxies.contains_key("edge") && gateway.proxies.contains_key("sidecar"));
}

#[test]
fn a_mistake_is_shown_where_it_stands() {
    const ROUTE: &str = "version: v1\nclusters: {api: {endpoints: []}}\nlisteners:\n  l:\n    address: 127.0.0.1:80\n    \
                         virtual_hosts:\n    - name: h\n      hosts: ['*']\n      routes:\n      - match: {path: {prefix: /}}\n        ";
    let route = |rest: &str| format!("{ROUTE}{rest}\n");
    let tls = |tls: &str| {
        format!(
            "version: v1\ncertificates: {{public: {{chain: a.pem, key: a.key}}}}\nlisteners:\n  l:\n    tls: {{{tls}}}\n    \
             address: 127.0.0.1:443\n    virtual_hosts: [{{name: h, hosts: ['*'], routes: [{{match: {{path: {{prefix: /}}}}, respond: {{status: 204}}}}]}}]\n"
        )
    };
    let upstream = |tls: &str| {
        format!(
            "version: v1\ntrusted_cas: {{inside: {{file: ca.pem}}}}\nclusters:\n  a: {{endpoints: ['10.0.0.1:1'], tls: {{{tls}}}}}\n"
        )
    };
    let plans = |plans: &str| {
        format!(
            "version: v1\npolicies: {{rate_limit: {{r: {{limit: 3/s, cost: 2, plans: {{by: {{claim: p}}, limits: {{{plans}}}}}, scope: \
             global}}}}}}\n"
        )
    };
    let api = |listener: &str, route: &str, cluster: &str| {
        format!(
            "version: v1\nproxies: {{e: {{listeners: [l]}}}}\nclusters: {{c: {{endpoints: ['10.0.0.1:1']{cluster}}}}}\nlisteners:\n  l:\n    \
             api_listener: true\n    virtual_hosts: [{{name: h, hosts: ['*'], routes: [{{match: {{path: {{prefix: /}}}}, to: c{route}}}]}}]\n{listener}"
        )
    };
    const KEY: &str = "{api_key: {keys: [{sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, consumer: a}]}}";
    let auth = |policy: &str| {
        format!("version: v1\npolicies: {{auth: {{k: {{any_of: [&k {KEY}]}}, a: {{{policy}}}}}}}\n")
    };
    let requires = |listener: &str, host: &str, route: &str| {
        format!(
            "version: v1\npolicies: {{auth: {{a: {{any_of: [{KEY}]}}}}}}\nclusters: {{}}\n\nlisteners:\n  l:\n    address: 127.0.0.1:80\n    \
             policies: {{{listener}}}\n    virtual_hosts:\n    - policies: {{{host}}}\n      routes:\n      - policies: {{{route}}}\n        \
             match: {{path: {{prefix: /}}}}\n        respond: {{status: 204}}\n      name: h\n      hosts: ['*']\n"
        )
    };
    let rows = [
        (api("", "", ""), "no problem"),
        (api("", "", "").replace("'*'", "'L'"), "no problem"),
        (api("", "", "").replace("'*'", "'other'"), "7:5 no virtual host is for `l`"),
        (api("    address: 127.0.0.1:1\n", "", ""), "8:5 an `api_listener` has no address"),
        (api("", "", "").replace("api_listener: true", "trusted_hops: 0"), "5:3 a listener needs an `address`"),
        (api("    filters: native\n", "", ""), "8:5 `filters` does not work with `api_listener`"),
        (
            "version: v1\nlisteners: {l: {filters: nativ, address: '127.0.0.1:80', virtual_hosts: []}}\n".into(),
            "2:26 unknown variant `nativ` (did you mean `native`?)",
        ),
        (
            "version: v1\nlisteners: {l: {filters: lua, address: '127.0.0.1:80', virtual_hosts: []}}\n".into(),
            "2:26 unknown variant `lua` (known here: wasm, native)",
        ),
        (api("    on_demand: true\n", "", ""), "8:5 `on_demand` does not work with `api_listener`"),
        (api("    stream_idle_timeout: 1s\n", "", ""), "8:5 `stream_idle_timeout` does not work"),
        (api("    policies: {auth: a}\npolicies: {auth: {a: {any_of: [{api_key: {keys: [{sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, consumer: a}]}}]}}}\n", "", ""), "8:16 `auth` does not work"),
        (api("    policies: {auth: none}\n", "", ""), "no problem"),
        (api("", ", rewrite: {host: a}", ""), "`rewrite` does not work with `api_listener` (gRPC clients without a proxy can't"),
        (api("", ", headers: {request: {remove: [x-a]}}", ""), "`headers` does not work"),
        (api("", "", "").replace("prefix: /}", "prefix: /}, methods: [POST]"), "`methods` does not work"),
        (api("", ", retry: {on: [unavailable, 5xx], attempts: 1}", ""), "not on `5xx`"),
        (api("", ", retry: {on: [unavailable], attempts: 1, per_try_timeout: 1s}", ""), "`per_try_timeout` does not work"),
        (api("", "", ", tls: {verify: false}"), "3:48 TLS can't be set up for the clients of `l`"),
        (api("", "", ", load_balancing: random"), "this does not work for the clients of `l`"),
        (api("", "", "").replace("10.0.0.1", "greeter.internal"), "3:28 a DNS name does not work for the clients of `l`"),
        (api("", "", "").replace("[l]", "[l], runtime: {a: 1}"), "2:31 gRPC clients have no runtime values"),
        (api("", "", "").replace("[l]", "[l], canary: {share: 10, min_requests: 1}"), "gRPC clients report no requests"),
        (
            api("  m: {address: '127.0.0.1:1', virtual_hosts: []}\n", "", "").replace("[l]", "[l, m]"),
            "2:30 one group has a listener with `api_listener` and one with an `address`",
        ),
        (api("", "", "").replace("[l]", "[l, l]"), "2:30 listener `l` stands here twice"),
        ("version: v2\n".into(), "1:10 unknown variant `v2`"),
        ("listeners: {}\n".into(), "1:1 missing field `version`"),
        ("".into(), "1:1 the file is empty (start with `version: v1`)"),
        ("version: v1\nlisteners: [\n".into(), "did not find expected"),
        ("version: v1\nlistners: {}\n".into(), "2:1 unknown field `listners` (did you mean `listeners`?)"),
        ("version: v1\nclusters: {}\nclusters: {}\n".into(), "3:1 this key stands twice; the first is in line 2"),
        (route("to: api\n        timout: 5s"), "12:9 unknown field `timout` (did you mean `timeout`?)"),
        (route("to: apo"), "11:13 there is no cluster `apo` (did you mean `api`?)"),
        (route("to: [{cluster: apo}]"), "11:24 there is no cluster `apo`"),
        (route("to: [{cluster: api, weight: 0}]"), "11:13 the weights add up to 0"),
        (route("to: api\n        timeout: 5"), "12:18 invalid type: integer `5`, expected a"),
        (route("to: api\n        timeout: 5 s"), "12:18 `5 s` is no duration"),
        (route("timeout: 5s"), "10:9 a route needs exactly one of `to`, `redirect` and `respond`"),
        (route("to: api\n        respond: {status: 200}"), "a route needs exactly one of"),
        (route("respond: {status: 99}"), "11:27 status is 99, but must be between 200 and 599"),
        (route("respond: {status: 200}\n        retry: {on: [5xx], attempts: 2}"), "12:9 `retry` does nothing here"),
        (route("to: api\n        retry: {on: [5x], attempts: 2}"), "unknown variant `5x`"),
        (route("to: api\n        retry: {on: [], attempts: 2}"), "12:21 nothing would be tried again"),
        (route("to: api\n        retry: {on: [reset], attempts: 11}"), "12:40 attempts is 11"),
        (route("redirect: {}"), "11:19 the redirect changes nothing"),
        (route("redirect: {host: a, status: 200}"), "200 is no redirect"),
        (route("to: api\n        headers: {request: {set: {x-a: 100%}}}"), "a percent sign starts an Envoy command"),
        (route("to: api\n        headers: {request: {remove: [Host]}}"), "`host` can't be used here"),
        (route("to: api\n        policies: {auth: nobody}"), "12:26 there is no auth policy `nobody`"),
        (route("to: api\n      - match: {path: {prefix: /}}\n        to: api"), "12:16 route 0 has the same match"),
        ("version: v1\nproxies: {edge: {listeners: [x]}}\n".into(), "2:30 there is no listener `x`"),
        (
            "version: v1\nproxies: {e: {listeners: [], runtime: {envoy.reloadable_features.x: 1}}}\n".into(),
            "is a feature flag",
        ),
        (
            "version: v1\nproxies: {e: {listeners: [], runtime: {x: {numerator: 101}}}}\n".into(),
            "2:55 numerator is 101, but must be between 0 and 100",
        ),
        (
            "version: v1\nproxies: {e: {listeners: [], runtime: {x: {share: 1}}}}\n".into(),
            "2:43 expected true or false, a number, a text, or {numerator",
        ),
        ("version: v1\nproxies: {e: {listeners: [], runtime_ttl: 999ms}}\n".into(), "2:43 this is too short"),
        ("version: v1\nproxies: {e: {listeners: [], runtime: {a b: 1}}}\n".into(), "`a b` is no runtime key"),
        ("version: v1\nclusters: {a b: {endpoints: []}}\n".into(), "`a b` is no name"),
        ("version: v1\nclusters: {a: {endpoints: ['h:0']}}\n".into(), "2:28 `h:0`: port 0 can't be used here"),
        ("version: v1\nclusters: {a: {endpoints: ['h:1', 'h:1']}}\n".into(), "2:35 endpoint h:1 stands here twice"),
        ("version: v1\nclusters: {a: {endpoints: [], health_check: {}}}\n".into(), "a health check is either `http` or `tcp`"),
        (
            "version: v1\nlisteners: {l: {address: 'a.b:80', virtual_hosts: []}}\n".into(),
            "`a.b` is no IP address",
        ),
        (
            "version: v1\nlisteners: {l: {address: '127.0.0.1:80', virtual_hosts: [{name: h, hosts: ['http://x'], routes: []}]}}\n".into(),
            "`http://x` is no host",
        ),
        (route("to: api\n        headers: {request: {set: {X-A: '1', x-a: '2'}}}"), "\"x-a\") stands here twice"),
        (route("to: api\n        rewrite: {}"), "12:18 the rewrite changes nothing"),
        (route("to: api\n        rewrite: {host: 'a b/'}"), "this is no host name"),
        (route("to: api\n        rewrite: {regex: {pattern: '/(a)', substitution: '\\2'}}"), "0 to 1 here"),
        (route("redirect: {port: 0}"), "port 0 can't be used here"),
        (route("respond: {status: 200, content_type: 100%}"), "a percent sign starts an Envoy command"),
        (route("to: api").replace("{path: {prefix: /}}", "{path: {prefix: /a/../b}}"), "is not normalised"),
        (route("to: api").replace("{path: {prefix: /}}", "{path: {regex: '(?x)a'}}"), "RE2 knows the flags"),
        (
            route("to: api").replace("{path: {prefix: /}}", "{path: {prefix: /}, query: {q: {prefix: ''}}}"),
            "an empty text matches everything",
        ),
        ("version: v1\nclusters: {xds-server: {endpoints: []}}\n".into(), "2:12 `xds-server` is the cluster by which"),
        (
            "version: v1\nproxies: {e: {listeners: [a, b]}}\nlisteners: {a: {address: '[::1]:80', virtual_hosts: []}, b: {address: '[0:0:0:0:0:0:0:1]:80', virtual_hosts: []}}\n".into(),
            "listeners `a` and `b` have the same address",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {inline: {keys: []}}, claims_to_headers: [{claim: c, header: Content-Length}]}}]}}}\n".into(),
            "a token may not decide on `content-length`",
        ),
        ("version: v1\npolicies: {rate_limit: {r: {limit: 100}}}\n".into(), "invalid type: integer `100`"),
        ("version: v1\npolicies: {rate_limit: {r: {limit: 100/fortnight}}}\n".into(), "2:36 `100/fortnight` is no rate"),
        ("version: v1\npolicies: {rate_limit: {r: {limit: 1/s, scope: galaxy}}}\n".into(), "unknown variant `galaxy`"),
        (plans("gold: {limit: 5/s}"), "no problem"),
        (plans(""), "2:82 no plan is named"),
        (plans("gold: {limit: 5/s, burst: 1}"), "2:109 a request costs 2, which is more than this bucket ever holds"),
        (plans("gold: {limit: 1/s}"), "2:97 a request costs 2, which is more"),
        (plans("'g\u{e9}': {limit: 5/s}"), "a plan's name is 1 to 128 printable ASCII characters"),
        (plans("gold: {limit: 1/d, burst: 1000000}"), "more than a hundred years to refill"),
        (plans("gold: {rate: 5/s}"), "unknown field `rate`"),
        (
            "version: v1\npolicies: {rate_limit: {r: {limit: 1/s, lease: 1s}}}\n".into(),
            "2:48 `lease` says nothing of a bucket that no other Envoy shares (write `scope: global`, or leave it out)",
        ),
        (
            "version: v1\npolicies: {rate_limit: {r: {limit: 1/s, scope: global, lease: 10ms}}}\n".into(),
            "2:63 the lease in milliseconds is 10, but must be between 100 and 60000",
        ),
        (
            "version: v1\npolicies: {rate_limit: {r: {limit: 1/s, scope: global, failure_share: 50}}}\n".into(),
            "nothing is shared: requests that can't be counted are denied",
        ),
        (
            "version: v1\npolicies: {rate_limit: {r: {limit: 1/s, also: [{limit: 1/30d, burst: 1300, scope: global}]}}}\n".into(),
            "2:56 a full bucket would take more than a hundred years to refill",
        ),
        (
            "version: v1\npolicies: {rate_limit: {r: {limit: 1/30d, burst: 1300, scope: global}}}\n".into(),
            "a full bucket would take more than a hundred years to refill",
        ),
        ("version: v1\npolicies: {auth: {a: {any_of: []}}}\n".into(), "nobody could authenticate"),
        ("version: v1\npolicies: {auth: {a: {any_of: [{jwtt: {}}]}}}\n".into(), "2:33 unknown variant `jwtt` (did you mean `jwt`?)"),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {}}}]}}}\n".into(),
            "exactly one of `inline`, `file` and `url` is needed",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {url: 'ftp://x/'}}}]}}}\n".into(),
            "this is no http or https URL",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{api_key: {}}]}}}\n".into(),
            "no key could be accepted",
        ),
        (
            route("to: api").replace("{path: {prefix: /}}", "{path: {prefix: /}, headers: {X-Consumer-Id: {exact: bob}}}"),
            "10:45 a route can't be chosen by `x-consumer-id`",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{api_key: {keys: [{sha256: &h 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, consumer: a}, {sha256: *h, consumer: b}]}}]}}}\n".into(),
            "this key stands twice",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {inline: {keys: []}}, revocations: {url: '/list'}}}]}}}\n".into(),
            "this is no http or https URL without user and password",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {inline: {keys: []}}, revocations: {url: 'http://x/', every: 99ms}}}]}}}\n".into(),
            "the time between two polls in milliseconds is 99, but must be between 100 and 60000",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {inline: {keys: []}}, clock_skew: 301s, revocations: {url: 'http://x/'}}}]}}}\n".into(),
            "it is longer than revocations are listed, so what was revoked would be accepted again (with `revocations`, at most 300s)",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{api_key: {introspection: {cluster: c, positive_ttl: 61m}, revocations: {url: 'http://x/'}}}]}}}\nclusters: {c: {endpoints: []}}\n".into(),
            "with `revocations`, at most 3600s",
        ),
        (
            "version: v1\npolicies: {auth: {a: {any_of: [{jwt: &j {issuer: i, jwks: {inline: {keys: []}}}}, {jwt: *j}]}}}\n".into(),
            "an earlier provider reads the same credential",
        ),
        ("version: v1\npolicies: {auth: {none: {any_of: []}}}\n".into(), "`none` means no policy"),
        (auth("any_of: [*k], all_of: [*k]"), "either `any_of` or `all_of`"),
        (auth("all_of: [*k, *k]"), "reads `x-api-key`, which can hold one credential only"),
        (auth("all_of: [*k]"), "no problem"),
        (auth("optional: true"), "nobody could authenticate"),
        (requires("", "", "required_scopes: [read]"), "12:20 `required_scopes` needs an `auth` policy"),
        (requires("auth: a", "", "auth: none, required_scopes: [read]"), "12:32 `required_scopes` needs an `auth` policy"),
        (requires("auth: a", "auth: none", "required_claims: [{claim: c, any_of: [v]}]"), "`required_claims` needs"),
        (requires("auth: a", "auth: none, required_scopes: [read]", ""), "10:30 `required_scopes` needs an `auth` policy"),
        (requires("required_scopes: [read]", "", ""), "8:16 `required_scopes` needs an `auth` policy"),
        (requires("auth: a, required_scopes: [read]", "", "auth: none"), "no problem"),
        (requires("auth: a, required_scopes: [read]", "auth: none", ""), "no problem"),
        (requires("required_scopes: [read]", "", "auth: a"), "no problem"),
        (requires("auth: none", "", "required_scopes: []"), "no problem"),
        (requires("auth: a", "", "required_scopes: [read write]"), "no caller can have the scope `read write`"),
        (requires("auth: a", "", "required_claims: [{claim: c, any_of: []}]"), "no caller could pass: the list is empty"),
        (requires("auth: a", "", "required_claims: [{claim: '', any_of: [x]}]"), "the name of the claim is empty"),
        (requires("auth: a", "", "required_scope: [read]"), "unknown field `required_scope` (did you mean `required_scopes`?)"),
        (api("", ", policies: {required_scopes: [read]}", ""), "`required_scopes` does not work with `api_listener`"),
        (tls("certificates: []"), "5:25 at least one certificate is needed"),
        (tls("certificates: [pulbic]"), "5:26 there is no certificate `pulbic` (did you mean `public`?)"),
        (tls("certificates: [public, public]"), "5:34 certificate `public` stands here twice"),
        (tls("certificates: [public], min_version: 1.2"), "5:48 invalid type: floating point `1.2`"),
        (tls("certificates: [public], min_version: TLSv1_1"), "unknown variant `TLSv1_1` (did you mean `TLSv1_2`?)"),
        (tls("certificates: [public], client_certificate: {ca: nobody}"), "there is no trusted CA `nobody`"),
        (tls("certificates: [public]").replace("respond: {status: 204}", "redirect: {https: true}"), "leads to itself for ever"),
        (upstream("ca: missing, sni: a.example"), "4:44 there is no trusted CA `missing`"),
        (upstream("sni: a.example"), "4:39 nothing verifies the endpoints' certificates"),
        (upstream("ca: inside"), "4:39 any certificate of this authority would be believed"),
        (upstream("ca: inside").replace("10.0.0.1", "api.internal"), "no problem"),
        (upstream("ca: inside, sni: 10.0.0.1"), "`10.0.0.1` is no server name"),
        (upstream("ca: inside, subject_alt_names: [10.0.0.1]"), "no problem"),
        (upstream("ca: inside, subject_alt_names: ['*.example']"), "`*.example` is no subject alternative name"),
        (upstream("verify: false"), "no problem"),
        (upstream("verify: false, ca: inside"), "4:55 `ca` has no effect with `verify: false`"),
        (upstream("verify: false, certificate: other"), "there is no certificate `other`"),
    ];
    for (text, expected) in rows {
        let found = first_problem(&text);
        assert!(found.contains(expected), "expected {expected:?}, found {found:?} in\n{text}");
    }
}

#[test]
fn an_identity_that_could_be_anybodys_is_refused_where_it_stands() {
    let problem = first_problem(
        "version: v1\nproxies: { edge: { listeners: [], identities: [edge.internal, '*'] } }\n",
    );
    assert!(problem.starts_with("2:") && problem.contains("`*` is no identity"), "{problem}");
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
    let report = load(vec![
        file("a.yaml", "version: v1\nproxies: {edge: {listeners: [x]}, other: {listeners: [y]}}\n"),
        file("b.yaml", "version: v1\nclusters: {c: {endpoints: ['h:1', 'h:1']}}\n"),
    ])
    .unwrap_err();
    let places: Vec<_> = report.problems.iter().map(|p| (p.file.to_str().unwrap(), p.line)).collect();
    assert_eq!(places, [("a.yaml", 2), ("a.yaml", 2), ("b.yaml", 2)]);
}

#[test]
fn a_name_in_two_files_is_a_problem_in_the_second() {
    let file = |path: &str| SourceFile {
        path: path.into(),
        text: "version: v1\nclusters: {c: {endpoints: []}}\n".into(),
    };
    let report = load(vec![file("a.yaml"), file("b.yaml")]).unwrap_err();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].file.to_str(), Some("b.yaml"));
    assert_eq!(report.problems[0].message, "`c` stands in another file too");
}

#[test]
fn no_report_shows_a_secret_that_shares_its_line() {
    for text in [
        "policies: {auth: {a: {any_of: [{jwt: {issuer: i, algoritms: [HS256], jwks: {inline: {keys: [{kty: oct, k: hunter2}]}}}}]}}}",
        "policies: {auth: {a: {any_of: [{api_key: {keys: [{sha256: hunter2, consumr: bob}]}}]}}}",
        "policies: {auth: {a: {any_of: [{api_key: {keys: [{sha256: hunter2, consumer: [}]}}]}}}",
        "policies: {auth: {a: {any_of: [{jwt: {issuer: i, jwks: {url: 'http://me:hunter2@x/'}}}]}}}",
        "certificates: {a: {chain: a.pem, key: '-----BEGIN PRIVATE KEY-----hunter2-----END PRIVATE KEY-----'}}",
        "certificates: {a: {chain: a.pem, key: \"-----BEGIN PRIVATE KEY-----\\nhunter2\"}}",
        "certificates: {a: {chain: a.pem, key: |\n  hunter2\n}}",
        "certificates:\n  a:\n    chain: a.pem\n    key: |\n      -----BEGIN PRIVATE KEY-----\n      hunter2",
    ] {
        let report = load_text(&format!("version: v1\n{text}\n")).unwrap_err().to_string();
        assert!(!report.contains("hunter2"), "{report}");
    }
}

#[test]
fn a_line_that_may_hold_a_secret_is_not_shown() {
    let report = load_text(
        "version: v1\npolicies: {auth: {a: {any_of: [{api_key: {keys: [{sha256: hunter2, consumer: c}]}}]}}}\n",
    )
    .unwrap_err();
    assert!(report.to_string().contains("this is no SHA-256"));
    assert!(!report.to_string().contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn any_edit_of_the_example_loads_or_is_reported(start in 0usize..GOOD.len(), cut in 0usize..40, insert in "\\PC{0,6}") {
        let clamp = |mut at: usize| { while !GOOD.is_char_boundary(at) { at -= 1 } at };
        let (start, end) = (clamp(start), clamp((start + cut).min(GOOD.len())));
        let text = format!("{}{insert}{}", &GOOD[..start], &GOOD[end..]);
        if let Err(report) = load_text(&text) {
            proptest::prop_assert!(!report.problems.is_empty());
            proptest::prop_assert!(!report.to_string().is_empty());
        }
    }
}
