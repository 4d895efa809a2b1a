//! HTTP streams, with the facts measured on Envoy 1.40 as expectations.

use tollgate_wasm_host::{HeaderMap, Host, Outcome, VmName};

use crate::support::{built, events, guest, outs, request, run, status};

mod support;

#[test]
fn the_canary_the_main_vm_and_the_workers_start_in_this_order() {
    let (host, plugin) = guest("count-configure");
    let starts: Vec<VmName> = plugin
        .logs()
        .0
        .iter()
        .filter(|line| line.text.starts_with("configure"))
        .map(|line| line.vm)
        .collect();
    assert_eq!(starts, [VmName::Canary, VmName::Main, VmName::Worker(0)]);
    assert_eq!(host.metric("configured"), Some(3));
}

#[test]
fn pairs_come_in_order_and_a_duplicate_reads_as_its_first() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let stream = plugin
        .worker(0)
        .request([
            ("x-b", "2"),
            ("X-A", "1"),
            ("x-a", "3"),
            ("authorization", "one"),
            ("Authorization", "two"),
        ])
        .header("x-bin", b"\x80\xff")
        .header("x-do", "map 0")
        .header("x-do", "get 0 X-A")
        .header("x-do", "get 0 authorization")
        .header("x-do", "get 0 nope")
        .send()
        .expect("no trap");
    let outs = outs(&plugin.logs());
    assert!(
        outs[0].starts_with("map [:authority=test.example][:path=/][:method=GET][:scheme=https][x-b=2][x-a=1][x-a=3][authorization=one,two][x-bin=\\x80\\xff]"),
        "{outs:?}"
    );
    assert_eq!(outs[1..], ["get X-A Some(\"1\")", "get authorization Some(\"one,two\")", "get nope None"]);
    let outcome = stream.outcome();
    let headers = &outcome.forwarded().expect("let through").headers;
    assert_eq!(headers.get("x-bin"), Some(b"\x80\xff".as_slice()));
}

#[test]
fn changed_headers_reach_the_upstream() {
    let (_, plugin) = guest("");
    let instructions =
        ["set 0 x-a new", "set 0 :path /new", "add 0 X-Upper v", "add 0 x-c 2", "remove 0 x-gone"];
    let stream = request(&plugin, &instructions)
        .header("x-a", "1")
        .header("x-a", "2")
        .header("x-c", "1")
        .header("x-gone", "1")
        .send()
        .expect("no trap");
    let outcome = stream.outcome();
    let headers = &outcome.forwarded().expect("let through").headers;
    assert_eq!(headers.get_all("x-a").collect::<Vec<_>>(), [b"new"]);
    assert_eq!(headers.get_all("x-c").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(headers.text(":path").as_deref(), Some("/new"));
    assert_eq!(headers.text("x-upper").as_deref(), Some("v"));
    assert!(!headers.contains("x-gone"));
}

#[test]
fn setting_all_pairs_replaces_all() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["setmap 0 :method=PUT :path=/s :authority=a x-z=1"]);
    let outcome = stream.outcome();
    let expected = HeaderMap::from([(":method", "PUT"), (":path", "/s"), (":authority", "a"), ("x-z", "1")]);
    assert_eq!(outcome.forwarded().expect("let through").headers, expected);
}

#[test]
fn callbacks_come_in_envoys_order() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let mut stream = request(&plugin, &[]).body("hello").send().expect("no trap");
    let response = stream.response([(":status", "200")]).body("world").send().expect("no trap");
    stream.finish().expect("no trap");
    assert_eq!(
        events(&plugin.logs()),
        [
            "request headers 4 false",
            "request body 5 false",
            "request body 0 true",
            "response headers 1 false",
            "response body 5 false",
            "response body 0 true",
            "log",
            "done",
            "deleted",
        ]
    );
    assert_eq!(stream.outcome().forwarded().expect("let through").body, b"hello");
    assert_eq!(response.forwarded().expect("let through").body, b"world");
}

#[test]
fn trailers_end_a_message() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let mut stream = request(&plugin, &["trailers: get 1 x-t", "response-trailers: set 3 x-t changed"])
        .body("b")
        .trailer("x-t", "1")
        .send()
        .expect("no trap");
    let response = stream.response(HeaderMap::new()).body("b").trailer("x-t", "2").send().expect("no trap");
    assert_eq!(outs(&plugin.logs()), ["get x-t Some(\"1\")"]);
    assert!(!events(&plugin.logs()).iter().any(|event| event.ends_with("body 0 true")));
    let trailers = response.forwarded().and_then(|message| message.trailers.clone()).expect("trailers");
    assert_eq!(trailers, HeaderMap::from([("x-t", "changed")]));
}

#[test]
fn a_local_reply_passes_through_the_filters_own_response_callbacks() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let (stream, _) = run(&plugin, &["reply 403 nope", "response: set 2 x-seen 1"]);
    let outcome = stream.outcome();
    let reply = outcome.local_reply().expect("a reply");
    let expected = HeaderMap::from([
        (":status", "403"),
        ("x-reply", "yes"),
        ("content-length", "4"),
        ("content-type", "text/plain"),
        ("x-seen", "1"),
    ]);
    assert_eq!((reply.status, &reply.headers, reply.body.as_slice()), (403, &expected, b"nope".as_slice()));
}

#[test]
fn envoys_additions_to_a_reply_depend_on_the_request() {
    let (_, plugin) = guest("");
    let reply = |instruction: &str, headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(request(&plugin, &[instruction]), |r, (name, value)| r.header(name, value));
        let outcome = request.send().expect("no trap").outcome();
        outcome.local_reply().expect("a reply").clone()
    };
    let own = reply("reply 403 {} content-type application/problem+json", &[]);
    assert_eq!(own.headers.text("content-type").as_deref(), Some("application/problem+json"));
    let empty = reply("reply 429", &[]);
    assert_eq!(empty.headers, HeaderMap::from([(":status", "429"), ("x-reply", "yes")]));
    let grpc = reply("reply 403 a/b%c", &[("content-type", "application/grpc")]);
    assert_eq!((grpc.status, grpc.headers.text("grpc-status").as_deref()), (200, Some("7")));
    assert_eq!(grpc.headers.text("grpc-message").as_deref(), Some("a/b%25c"));
    let head = reply("reply 403 nope", &[(":method", "HEAD")]);
    assert_eq!((head.headers.text("content-length").as_deref(), head.body.len()), (Some("4"), 0));
}

#[test]
fn the_first_reply_wins_in_the_request_and_the_last_in_the_response() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["reply 403 one", "reply 404 two"]);
    assert_eq!(status(&stream.outcome()), 403);
    let (stream, _) = run(&plugin, &["reply 403 one", "response: reply 500 other"]);
    assert_eq!(status(&stream.outcome()), 500);
    let (mut stream, _) = run(&plugin, &["response: reply 502 late"]);
    let outcome = stream.response([(":status", "200")]).send().expect("no trap");
    assert_eq!(status(&outcome), 502);
}

#[test]
fn request_headers_are_gone_in_the_response_and_back_in_the_log() {
    let (_, plugin) = guest("");
    let (mut stream, _) =
        run(&plugin, &["response: map 0", "log: get 0 :path", "log: get 2 :status", "done: map 0"]);
    stream.response([(":status", "418")]).send().expect("no trap");
    stream.finish().expect("no trap");
    assert_eq!(
        outs(&plugin.logs()),
        ["map ", "get :path Some(\"/p?q=1\")", "get :status Some(\"418\")", "map "]
    );
}

#[test]
fn a_paused_stream_waits_and_a_filter_that_resumes_first_does_not() {
    let (_, plugin) = guest("");
    let (mut stream, _) = run(&plugin, &["pause"]);
    assert_eq!(stream.outcome(), Outcome::Pause);
    stream.finish().expect("no trap");
    let (stream, _) = run(&plugin, &["resume 0", "pause"]);
    assert!(stream.outcome().forwarded().is_some());
    let (mut stream, _) = run(&plugin, &["response: pause"]);
    assert!(stream.response([(":status", "200")]).send().expect("no trap").is_paused());
}

#[test]
fn a_held_body_is_shown_whole_and_can_be_replaced() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let stream = request(
        &plugin,
        &["body: body 0 0 100", "body: body 0 2 3", "body: body 0 50 3", "body: set-body 0 0 100 replaced"],
    )
    .body("hello ")
    .body("world")
    .send()
    .expect("no trap");
    assert_eq!(
        outs(&plugin.logs()),
        ["body Ok(Some(\"hello world\"))", "body Ok(Some(\"llo\"))", "body Ok(None)"]
    );
    assert_eq!(stream.outcome().forwarded().expect("let through").body, b"replaced");
    for (instruction, expected) in
        [("body: set-body 0 0 0 pre-", "pre-x"), ("body: set-body 0 99 0 -post", "x-post")]
    {
        let stream = request(&plugin, &[instruction]).body("x").send().expect("no trap");
        assert_eq!(stream.outcome().forwarded().expect("let through").body, expected.as_bytes());
    }
}

#[test]
fn an_open_request_goes_on_chunk_by_chunk() {
    let (_, plugin) = guest("");
    let mut stream = request(&plugin, &[]).keep_open().send().expect("no trap");
    assert!(stream.outcome().forwarded().is_some());
    stream.send_body("one", false).expect("no trap");
    let outcome = stream.send_body("two", true).expect("no trap");
    assert_eq!(outcome.forwarded().expect("let through").body, b"onetwo");
}

#[test]
fn properties_come_from_the_test_the_request_and_the_filter() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let path = ["xds", "route_metadata", "filter_metadata", "tollgate", "policies"];
    let mut stream = request(
        &plugin,
        &[
            "property xds/route_metadata/filter_metadata/tollgate/policies",
            "property request/path",
            "property request/url_path",
            "property request/headers/x-a",
            "property plugin_name",
            "property plugin_root_id",
            "property plugin_vm_id",
            "property nope",
            "set-property foo bar",
            "property foo",
            "property filter_state/wasm.foo",
            "response: property response/code",
        ],
    )
    .header("x-a", "A")
    .property(path, "auth=a")
    .send()
    .expect("no trap");
    stream.response([(":status", "200")]).send().expect("no trap");
    assert_eq!(
        outs(&plugin.logs()),
        [
            "property xds/route_metadata/filter_metadata/tollgate/policies Some(\"auth=a\")",
            "property request/path Some(\"/p?q=1\")",
            "property request/url_path Some(\"/p\")",
            "property request/headers/x-a Some(\"A\")",
            "property plugin_name Some(\"guest\")",
            "property plugin_root_id Some(\"root\")",
            "property plugin_vm_id Some(\"vm\")",
            "property nope None",
            "property foo Some(\"bar\")",
            "property filter_state/wasm.foo Some(\"bar\")",
            "property response/code Some(\"\\\\xc8\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\")",
        ]
    );
    assert_eq!(stream.property(["foo"]).as_deref(), Some(b"bar".as_slice()));
}

#[test]
fn a_reset_stream_has_no_reply() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["reset"]);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn dropping_a_stream_finishes_it() {
    let (_, plugin) = guest("");
    drop(run(&plugin, &[]));
    assert_eq!(events(&plugin.logs()), ["log", "done", "deleted"]);
}

#[test]
fn a_body_is_shown_behind_held_headers_only_where_that_is_allowed() {
    for (allow, expected) in [(true, Some("body")), (false, None)] {
        let plugin = Host::new()
            .plugin(&built("host_guest"))
            .allow_on_headers_stop_iteration(allow)
            .start()
            .expect("the guest starts");
        let stream =
            request(&plugin, &["pause", "body: body 0 0 100"]).body("bo").body("dy").send().expect("no trap");
        let outs = outs(&plugin.logs());
        assert_eq!(
            outs,
            expected.map(|body| format!("body Ok(Some(\"{body}\"))")).into_iter().collect::<Vec<_>>()
        );
        let went =
            stream.outcome().forwarded().map(|message| String::from_utf8_lossy(&message.body).into_owned());
        assert_eq!(went.as_deref(), expected);
    }
}

#[test]
fn trailers_can_be_added_at_the_end_of_a_body() {
    let (_, plugin) = guest("");
    let stream = request(&plugin, &["body: add 1 x-t late"]).body("b").send().expect("no trap");
    let outcome = stream.outcome();
    let trailers = outcome.forwarded().and_then(|message| message.trailers.clone());
    assert_eq!(trailers, Some(HeaderMap::from([("x-t", "late")])));
}
