//! TLS: names that exist, and verification that verifies something.

use std::collections::BTreeSet;

use super::known;
use crate::gateway::model::{Cluster, Gateway, Listener};
use crate::gateway::report::Problem;

/// A listener's TLS.
pub(super) fn listener(gateway: &Gateway, pointer: &str, listener: &Listener, problems: &mut Vec<Problem>) {
    let Some(tls) = &listener.tls else { return };
    let pointer_to_tls = format!("{pointer}/tls");
    if tls.certificates.is_empty() {
        let pointer = format!("{pointer_to_tls}/certificates");
        problems.push(Problem::value(pointer, "at least one certificate is needed to speak TLS"));
    }
    let mut names = BTreeSet::new();
    for (index, name) in tls.certificates.iter().enumerate() {
        let pointer = format!("{pointer_to_tls}/certificates/{index}");
        if !names.insert(name) {
            problems.push(Problem::value(pointer.clone(), format!("certificate `{name}` stands here twice")));
        }
        known("certificate", &gateway.certificates, name, pointer, problems);
    }
    if let Some(client) = &tls.client_certificate {
        let pointer = format!("{pointer_to_tls}/client_certificate/ca");
        known("trusted CA", &gateway.trusted_cas, &client.ca, pointer, problems);
    }
    redirects_to_itself(pointer, listener, problems);
}

/// Over TLS, and with nobody in front who could say otherwise, every request is https already.
fn redirects_to_itself(pointer: &str, listener: &Listener, problems: &mut Vec<Problem>) {
    if listener.trusted_hops > 0 {
        return;
    }
    for (host, virtual_host) in listener.virtual_hosts.iter().enumerate() {
        for (index, route) in virtual_host.routes.iter().enumerate() {
            let Some(to) = &route.redirect else { continue };
            let elsewhere =
                to.host.is_some() || to.port.is_some() || to.path.is_some() || to.prefix.is_some();
            if to.https && !elsewhere {
                let pointer = format!("{pointer}/virtual_hosts/{host}/routes/{index}/redirect");
                let message = "this listener speaks TLS, so the redirect leads to itself for ever";
                problems
                    .push(Problem::value(pointer, message).help("redirect from a listener without `tls`"));
            }
        }
    }
}

/// A cluster's TLS.
pub(super) fn cluster(gateway: &Gateway, pointer: &str, cluster: &Cluster, problems: &mut Vec<Problem>) {
    let Some(tls) = &cluster.tls else { return };
    let pointer = format!("{pointer}/tls");
    if let Some(name) = &tls.certificate {
        known("certificate", &gateway.certificates, name, format!("{pointer}/certificate"), problems);
    }
    match (&tls.ca, tls.verify) {
        (Some(ca), true) => {
            known("trusted CA", &gateway.trusted_cas, ca, format!("{pointer}/ca"), problems);
            if tls.subject_alt_names.is_empty() && cluster.server_name().is_none() {
                let problem = Problem::value(pointer, "any certificate of this authority would be believed");
                problems.push(problem.help("say whose it must be: `sni`, or `subject_alt_names`"));
            }
        }
        (None, true) => {
            let problem = Problem::value(pointer, "nothing verifies the endpoints' certificates");
            problems
                .push(problem.help("name a trusted `ca`; to believe whoever answers, write `verify: false`"));
        }
        (ca, false) => {
            let unused = [("ca", ca.is_some()), ("subject_alt_names", !tls.subject_alt_names.is_empty())];
            for (field, _) in unused.into_iter().filter(|(_, given)| *given) {
                let message = format!("`{field}` has no effect with `verify: false`");
                problems.push(Problem::key(format!("{pointer}/{field}"), message));
            }
        }
    }
}
