//! What the launcher prints once all is up: what runs where, and the first five requests to try.

use std::fmt::Write;

use super::shown;
use crate::{ports::loopback, stack::Stack};

/// The table and the requests. Pasted in their order into one shell, the requests work, with nothing but curl and sed.
pub(super) fn text(stack: &Stack) -> String {
    let mut text = String::new();
    let ports = &stack.ports;
    let rows = [
        ("edge Envoy", ports.edge, "where clients call"),
        ("", ports.edge_admin, "its admin interface"),
        ("sidecar Envoy", ports.sidecar_inbound, "in front of api-service"),
        ("", ports.sidecar_outbound, "for calls of api-service"),
        ("", ports.sidecar_admin, "its admin interface"),
        ("xds-server", ports.xds_grpc, "xDS for both Envoys"),
        ("", ports.xds_http, "/status, /metrics"),
        ("", ports.xds_quota, "tokens of shared limits"),
        ("api-service", ports.api_public, "accounts, keys, catalogue"),
        ("", ports.api_internal, "introspection, /jwks.json"),
    ];
    for (name, port, what) in rows {
        let _ = writeln!(text, "  {name:14} http://{:<16} {what}", loopback(port));
    }
    let _ = writeln!(text, "\n  configuration  {}   edit it: every push shows here", shown(&stack.gateway));
    let _ = writeln!(text, "  logs           {}/*.log", shown(&stack.folder));
    let _ = writeln!(text, "\nThe first five requests, to paste in this order into another terminal:\n");
    for (number, (what, commands)) in requests(ports.edge).iter().enumerate() {
        let _ = writeln!(text, "  # {}. {what}\n{commands}", number + 1);
    }
    let _ = writeln!(text, "Ctrl-C stops everything.\n");
    text
}

fn requests(edge: u16) -> [(&'static str, String); 5] {
    let url = format!("http://{}", loopback(edge));
    let json = "-H 'content-type: application/json'";
    let who = r#"-d '{"email":"ada@example.com","password":"a long passphrase"}'"#;
    [
        ("Is it there?", format!("  curl -iw '\\n' {url}/healthz\n")),
        ("Register", format!("  curl -iw '\\n' {url}/v1/accounts {json} \\\n    {who}\n")),
        (
            "Log in, and keep the token",
            format!(
                "  TOKEN=$(curl -s {url}/v1/sessions {json} \\\n    {who} | {})\n",
                r#"sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p'"#
            ),
        ),
        (
            "Call with the token",
            format!("  curl -iw '\\n' {url}/v1/account -H \"authorization: Bearer $TOKEN\"\n"),
        ),
        (
            "Make a key, and call with it",
            format!(
                "  KEY=$(curl -s {url}/v1/keys {json} -H \"authorization: Bearer $TOKEN\" \\\n    -d '{{\"name\":\"first\"}}' | {})\n  curl -iw '\\n' {url}/v1/apis -H \"x-api-key: $KEY\"\n",
                r#"sed -n 's/.*"key": *"\([^"]*\)".*/\1/p'"#
            ),
        ),
    ]
}
