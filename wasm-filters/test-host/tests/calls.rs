//! Callouts: HTTP and gRPC, and every answer they can get.

use std::time::Duration;

use tollgate_wasm_host::{ClusterState, Error, HeaderMap, Outcome};

use crate::support::{events, guest, outs, request, run};

mod support;

#[test]
fn an_answered_callout_lets_the_request_go_on() {
    let (_, plugin) = guest("");
    let (stream, out) = run(&plugin, &["http up /ask 1000 payload", "call: set 0 x-late yes", "call: map 6"]);
    assert_eq!((out, stream.outcome()), (vec!["http Ok(4)".to_string()], Outcome::Pause));

    let callout = stream.callout().expect("pending");
    assert_eq!((callout.cluster.as_str(), callout.body.as_slice()), ("up", b"payload".as_slice()));
    assert_eq!(callout.headers.text(":path").as_deref(), Some("/ask"));
    assert_eq!(callout.headers.text("content-length").as_deref(), Some("7"));
    assert_eq!(callout.time_limit, Some(Duration::from_secs(1)));
    assert_eq!(callout.owner.stream, Some(stream.context_id()));
    callout.reply(200, [("x-a", "1"), ("x-a", "2")], "fine").expect("no trap");

    assert_eq!(outs(&plugin.logs()), ["call 200 fine", "map [:status=200][x-a=1][x-a=2]"]);
    let outcome = stream.outcome();
    assert_eq!(outcome.forwarded().expect("let through").headers.text("x-late").as_deref(), Some("yes"));
    assert!(plugin.callouts().is_empty());
}

#[test]
fn a_callouts_answer_can_become_the_reply() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /ask", "call: reply 401 no"]);
    stream.callout().expect("pending").reply(200, HeaderMap::new(), "").expect("no trap");
    assert_eq!(stream.outcome().local_reply().expect("a reply").status, 401);
}

#[test]
fn a_dead_host_is_503_a_late_one_504_and_a_broken_one_has_no_headers() {
    let (host, plugin) = guest("");
    let ask = |answer: &dyn Fn(tollgate_wasm_host::Callout) -> Result<(), Error>| {
        let (stream, _) = run(&plugin, &["http up /ask 300"]);
        answer(stream.callout().expect("pending")).expect("no trap");
        assert!(stream.outcome().forwarded().is_some());
        outs(&plugin.take_logs())
    };
    assert!(ask(&|callout| callout.fail())[0].starts_with("call 503 upstream connect error"));
    assert_eq!(ask(&|callout| callout.time_out()), ["call 504 upstream request timeout"]);
    assert_eq!(ask(&|callout| callout.reset()), ["call reset "]);
    assert_eq!(
        ask(&|_| host.clock().advance(Duration::from_millis(300))),
        ["call 504 upstream request timeout"]
    );
}

#[test]
fn a_callout_without_a_limit_waits_for_ever() {
    let (host, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /ask 0"]);
    host.clock().advance(Duration::from_secs(86_400)).expect("no trap");
    assert_eq!(stream.callout().expect("still pending").time_limit, None);
}

#[test]
fn envoy_refuses_what_it_cannot_send() {
    let (host, plugin) = guest("");
    host.set_cluster("empty", ClusterState::NoHosts);
    let (_, out) =
        run(&plugin, &["http nope /x", "http-bare up", "http empty /x", "grpc nope x", "grpc-open nope"]);
    assert_eq!(
        out,
        [
            "http Err(BadArgument)",
            "http Err(BadArgument)",
            "http Err(InternalFailure)",
            "grpc Err(ParseFailure)",
            "grpc-open Err(ParseFailure)"
        ]
    );
}

#[test]
fn the_answer_to_a_finished_stream_is_dropped_by_the_sdk() {
    let (_, plugin) = guest("");
    let (mut stream, _) = run(&plugin, &["http up /ask"]);
    stream.finish().expect("no trap");
    plugin.take_logs();
    let callout = plugin.callouts().into_iter().next().expect("Envoy does not cancel it");
    assert!(callout.owner.gone);
    callout.reply(200, HeaderMap::new(), "late").expect("no trap");
    assert!(plugin.logs().0.is_empty(), "{}", plugin.logs());
}

#[test]
fn an_answer_is_given_once() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /ask"]);
    let (first, second) = (stream.callout().expect("pending"), stream.callout().expect("pending"));
    first.reply(200, HeaderMap::new(), "").expect("no trap");
    assert!(matches!(second.fail(), Err(Error::NotPending)));
}

#[test]
fn the_root_calls_from_its_tick() {
    let (host, plugin) = guest("tick=100 tick-call");
    host.clock().advance(Duration::from_millis(100)).expect("no trap");
    // The main VM ticks, too.
    let callouts = plugin.callouts();
    assert_eq!(
        callouts.iter().map(|callout| callout.owner.vm.to_string()).collect::<Vec<_>>(),
        ["main", "worker 0"]
    );
    plugin.take_logs();
    for callout in callouts {
        assert_eq!(callout.owner.stream, None);
        callout.reply(200, HeaderMap::new(), "ok").expect("no trap");
    }
    assert_eq!(plugin.logs().count("root call 4 answered: 1 headers, 2 bytes"), 2);
}

#[test]
fn a_grpc_call_ends_with_a_message_or_a_status() {
    let (host, plugin) = guest("");
    let (stream, out) = run(&plugin, &["grpc up hi"]);
    assert_eq!(out, ["grpc Ok(5)"]);
    let call = stream.grpc_callouts().into_iter().next().expect("pending");
    assert_eq!((call.service.as_str(), call.method.as_str(), call.streaming), ("test.Echo", "Say", false));
    assert_eq!(
        (call.messages.clone(), call.metadata.text("m").as_deref()),
        (vec![b"hi".to_vec()], Some("1"))
    );
    call.message("hello").expect("no trap");
    assert_eq!(outs(&plugin.logs()), ["grpc 5 0 hello"]);
    assert!(stream.outcome().forwarded().is_some());

    let (stream, _) = run(&plugin, &["grpc up hi"]);
    stream.grpc_callouts().into_iter().next().expect("pending").close(7, "no").expect("no trap");
    assert_eq!(outs(&plugin.take_logs()), ["grpc 9 7 "]);

    let (_stream, _) = run(&plugin, &["grpc up hi"]);
    host.clock().advance(Duration::from_secs(1)).expect("no trap");
    assert_eq!(outs(&plugin.logs()), ["grpc 13 14 "]);
}

#[test]
fn a_grpc_stream_has_metadata_messages_and_an_end() {
    let (_, plugin) = guest("");
    let (stream, out) = run(&plugin, &["grpc-open up", "grpc-send 6 one", "grpc-send 6 two", "grpc-close 6"]);
    assert_eq!(out, ["grpc-open Ok(6)", "grpc-close Ok(())"]);
    let call = stream.grpc_callouts().into_iter().next().expect("open");
    assert!(call.streaming && call.half_closed);
    assert_eq!(call.messages, [b"one".to_vec(), b"two".to_vec()]);
    call.initial_metadata([("m", "first")]).expect("no trap");
    call.message("a").expect("no trap");
    call.message("b").expect("no trap");
    call.trailing_metadata([("m", "last")]).expect("no trap");
    call.close(0, "bye").expect("no trap");
    assert_eq!(
        outs(&plugin.logs()),
        [
            "grpc-stream 6 initial 1 Some([102, 105, 114, 115, 116])",
            "grpc-stream 6 message a",
            "grpc-stream 6 message b",
            "grpc-stream 6 trailing 1 Some([108, 97, 115, 116])",
            "grpc-stream 6 closed 0 0 Some(\"bye\")",
        ]
    );
    assert!(stream.outcome().forwarded().is_some());
    let (stream, _) = run(&plugin, &["grpc-open up", "grpc-cancel 10", "grpc-cancel 10"]);
    assert!(stream.grpc_callouts().is_empty());
}

#[test]
fn a_body_waits_behind_a_callout() {
    let (_, plugin) = guest("");
    plugin.take_logs();
    let stream = request(&plugin, &["http up /ask"]).body("body").send().expect("no trap");
    assert_eq!(events(&plugin.logs()), ["request headers 5 false"]);
    stream.callout().expect("pending").reply(200, HeaderMap::new(), "").expect("no trap");
    assert_eq!(stream.outcome().forwarded().expect("let through").body, b"body");
}

#[test]
fn a_grpc_stream_to_a_dead_host_is_told_of_metadata_first() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["grpc-open up"]);
    stream.grpc_callouts().into_iter().next().expect("open").fail().expect("no trap");
    let out = outs(&plugin.take_logs());
    assert_eq!(out[..2], ["grpc-stream 6 initial 0 None", "grpc-stream 6 trailing 4 None"]);
    assert!(out[2].starts_with("grpc-stream 6 closed 14 14 Some(\"upstream connect error"), "{out:?}");
}

#[test]
fn a_cluster_whose_name_is_a_message_is_a_trap_as_envoy_aborts() {
    let (host, plugin) = guest("");
    host.set_cluster("users", ClusterState::HasHosts);
    let error = request(&plugin, &["grpc users hi"]).send().err().expect("a trap");
    assert!(error.to_string().contains("Envoy aborts: \"users\""), "{error}");
}
