//! What routes require beyond their auth policy: something that a credential can have, where there is one.

use std::collections::BTreeSet;

use crate::gateway::model::{Listener, PolicyRefs};
use crate::gateway::report::Problem;
use crate::gateway::scalar::PolicyRef;

/// The requirements at one place, by themselves.
pub(super) fn values(pointer: &str, refs: &PolicyRefs, problems: &mut Vec<Problem>) {
    for (index, scope) in refs.required_scopes.iter().flatten().enumerate() {
        if scope.is_empty() || scope.contains(' ') {
            let pointer = format!("{pointer}/required_scopes/{index}");
            let problem = Problem::value(pointer, format!("no caller can have the scope `{scope}`"));
            problems.push(problem.help("a scope holds no spaces: list several as [read, write]"));
        }
    }
    for (index, required) in refs.required_claims.iter().flatten().enumerate() {
        let pointer = format!("{pointer}/required_claims/{index}");
        if required.claim.is_empty() {
            problems.push(Problem::value(format!("{pointer}/claim"), "the name of the claim is empty"));
        }
        if required.any_of.is_empty() {
            let problem =
                Problem::value(format!("{pointer}/any_of"), "no caller could pass: the list is empty");
            problems.push(problem.help("list the values of which the claim must be one"));
        }
    }
}

/// That where something is required, somebody asks who is calling.
pub(super) fn guarded(pointer: &str, listener: &Listener, problems: &mut Vec<Problem>) {
    let mut found = BTreeSet::new();
    for (index, host) in listener.virtual_hosts.iter().enumerate() {
        let host_at = format!("{pointer}/virtual_hosts/{index}");
        for (index, route) in host.routes.iter().enumerate() {
            let places = [
                (pointer.to_owned(), &listener.policies),
                (host_at.clone(), &host.policies),
                (format!("{host_at}/routes/{index}"), &route.policies),
            ];
            found.extend(unguarded(&places));
        }
    }
    problems.extend(found.into_iter().map(|(pointer, field)| {
        let message = format!("`{field}` needs an `auth` policy: without one, nobody is known");
        let help = format!("name one beside it, or take `{field}` away");
        Problem::key(format!("{pointer}/policies/{field}"), message).help(help)
    }));
}

/// Which requirements of a route nobody could meet, with their places: those that stand no further out than what says
/// `auth: none`. From outside in.
fn unguarded(places: &[(String, &PolicyRefs)]) -> Vec<(String, &'static str)> {
    let auth = places.iter().rposition(|(_, refs)| refs.auth.is_some());
    if auth.is_some_and(|at| matches!(places[at].1.auth, Some(PolicyRef::Named(_)))) {
        return Vec::new();
    }
    let scopes = places.iter().rposition(|(_, refs)| refs.required_scopes.is_some());
    let claims = places.iter().rposition(|(_, refs)| refs.required_claims.is_some());
    let requires = |at: &usize, field: &str| {
        let refs = places[*at].1;
        match field {
            "required_scopes" => refs.required_scopes.iter().flatten().next().is_some(),
            _ => refs.required_claims.iter().flatten().next().is_some(),
        }
    };
    [(scopes, "required_scopes"), (claims, "required_claims")]
        .into_iter()
        .filter_map(|(at, field)| Some((at.filter(|at| Some(*at) >= auth && requires(at, field))?, field)))
        .map(|(at, field)| (places[at].0.clone(), field))
        .collect()
}
