//! Runs the examples, so that what they show stays true.

use crate::support::{built, built_path};

mod support;

#[allow(dead_code, reason = "its main is not run")]
#[path = "../examples/one_request.rs"]
mod one_request;
#[allow(dead_code, reason = "its main is not run")]
#[path = "../examples/unit_test.rs"]
mod unit_test;
#[allow(dead_code, reason = "its main is not run")]
#[path = "../examples/workers.rs"]
mod workers;

#[test]
fn unit_test_passes() {
    unit_test::run(&built("host_example")).expect("no error");
}

#[test]
fn workers_passes() {
    workers::run(&built("host_example")).expect("no error");
}

#[test]
fn one_request_tells_what_was_asked_and_what_the_client_gets() {
    let path = built_path("host_example");
    let path = path.to_str().expect("a path that is text");
    let request = ["x-token: t", "cluster=users", "source/address=192.0.2.1:5"].map(str::to_string);
    let told = one_request::run(path, "users", &request).expect("no error");
    assert!(told.starts_with("asked cluster users:\n:method: GET\n:path: /user\n"), "{told}");
    assert!(told.contains("the client gets\n:status: 503\n"), "{told}");
}
