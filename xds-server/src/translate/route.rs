//! Virtual hosts and routes → RouteConfiguration (RDS).

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HeaderValue, HeaderValueOption, data_source};
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::retry_policy::RetryBackOff;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    self as envoy, DirectResponseAction, RedirectAction, RetryPolicy, RouteAction, RouteConfiguration, Vhds,
    WeightedCluster, redirect_action,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use tollgate_filter_config::RoutePolicies;

use super::requirement::requirement;
use super::{inherited, named, proto};
use crate::gateway::model::{
    Destination, DirectResponse, HeaderChanges, HeaderEdits, Listener, PolicyRefs, Redirect, Retry, Rewrite,
    Route, VirtualHost,
};
use crate::gateway::route_name;
use crate::gateway::scalar::{Duration, Name};

mod matches;

/// Envoy's own default, said aloud.
const TIMEOUT: Duration = Duration::from_millis(15_000);
/// The shortest that Envoy takes for a time.
const NO_WAIT: Duration = Duration::from_millis(1);
/// Pause before the first retry.
const BACKOFF: Duration = Duration::from_millis(25);

/// The route table of a listener; its virtual hosts come separately where they are fetched on demand.
pub(super) fn route_configuration(name: &Name, listener: &Listener) -> RouteConfiguration {
    let hosts = listener.virtual_hosts.iter().map(|host| virtual_host(listener, host));
    RouteConfiguration {
        name: name.as_str().to_owned(),
        virtual_hosts: if listener.on_demand { Vec::new() } else { hosts.collect() },
        // Nothing comes before it is asked for, so nothing is waited for.
        vhds: listener.on_demand.then(|| Vhds { config_source: proto::ads_within(NO_WAIT) }),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    }
}

/// The virtual hosts that are fetched on demand, by resource name.
pub(super) fn on_demand_hosts(name: &Name, listener: &Listener) -> impl Iterator<Item = envoy::VirtualHost> {
    let hosts = listener.virtual_hosts.iter().filter(|_| listener.on_demand);
    hosts.map(move |host| envoy::VirtualHost {
        name: format!("{name}/{}", host.name),
        ..virtual_host(listener, host)
    })
}

fn virtual_host(listener: &Listener, host: &VirtualHost) -> envoy::VirtualHost {
    let inherited = inherited(listener, host);
    let Changes { request_add, request_remove, response_add, response_remove } = changes(&host.headers);
    envoy::VirtualHost {
        name: host.name.as_str().to_owned(),
        domains: host.hosts.clone(),
        routes: host.routes.iter().map(|route| self::route(listener, host, route, &inherited)).collect(),
        request_headers_to_add: request_add,
        request_headers_to_remove: request_remove,
        response_headers_to_add: response_add,
        response_headers_to_remove: response_remove,
        ..envoy::VirtualHost::default()
    }
}

fn route(listener: &Listener, host: &VirtualHost, route: &Route, inherited: &PolicyRefs) -> envoy::Route {
    let Changes { request_add, request_remove, mut response_add, response_remove } = changes(&route.headers);
    let policies = route.policies.or(inherited);
    let action = if let Some(redirect) = &route.redirect {
        envoy::route::Action::Redirect(self::redirect(redirect))
    } else if let Some(respond) = &route.respond {
        let content_type = respond.content_type.as_ref();
        response_add.extend(content_type.map(|value| overwrite("content-type", value.as_str())));
        envoy::route::Action::DirectResponse(direct_response(respond))
    } else {
        let mut action = route_action(route);
        if listener.api_listener {
            api_timeout(&mut action, route.timeout);
        }
        envoy::route::Action::Route(action)
    };
    let name = full_name(listener, format!("{}/{}", host.name, route_name(route)), &policies);
    envoy::Route {
        r#match: Some(matches::route_match(&route.matches)),
        name,
        action: Some(action),
        request_headers_to_add: request_add,
        request_headers_to_remove: request_remove,
        response_headers_to_add: response_add,
        response_headers_to_remove: response_remove,
        ..envoy::Route::default()
    }
}

/// What the route is called in Envoy. Filters read its policies from it.
fn full_name(listener: &Listener, name: String, policies: &PolicyRefs) -> String {
    if listener.api_listener {
        return name;
    }
    let policy = |policy| named(policy).map(Name::as_str);
    let (auth, rate_limit) = (policy(&policies.auth), policy(&policies.rate_limit));
    let requirement = requirement(policies);
    let requirement = requirement.as_ref().map(|(name, _)| name.as_str());
    RoutePolicies { route: &name, auth, requirement, rate_limit }.render()
}

fn route_action(route: &Route) -> RouteAction {
    let mut action = RouteAction {
        cluster_specifier: Some(cluster_specifier(&route.to)),
        timeout: proto::duration(route.timeout.unwrap_or(TIMEOUT)),
        retry_policy: route.retry.as_ref().map(retry_policy),
        ..RouteAction::default()
    };
    let Some(Rewrite { prefix, regex, host }) = &route.rewrite else { return action };
    action.prefix_rewrite = prefix.as_ref().map(|path| path.as_str().to_owned()).unwrap_or_default();
    action.regex_rewrite = regex.as_ref().map(|rewrite| RegexMatchAndSubstitute {
        pattern: Some(proto::regex(&rewrite.pattern)),
        substitution: rewrite.substitution.as_str().to_owned(),
    });
    action.host_rewrite_specifier =
        host.as_ref().map(|host| HostRewriteSpecifier::HostRewriteLiteral(host.as_str().to_owned()));
    action
}

/// gRPC clients have another field for it, and take what the caller allows where there is none (gRFC A31).
fn api_timeout(action: &mut RouteAction, timeout: Option<Duration>) {
    action.timeout = None;
    action.max_stream_duration = timeout.map(|timeout| MaxStreamDuration {
        max_stream_duration: proto::duration(timeout),
        ..MaxStreamDuration::default()
    });
}

fn cluster_specifier(destinations: &[Destination]) -> ClusterSpecifier {
    if let [destination] = destinations {
        return ClusterSpecifier::Cluster(destination.cluster.to_string());
    }
    let clusters = destinations.iter().map(|destination| ClusterWeight {
        name: destination.cluster.to_string(),
        weight: proto::uint32(destination.weight),
        ..ClusterWeight::default()
    });
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: clusters.collect(),
        ..WeightedCluster::default()
    })
}

fn retry_policy(retry: &Retry) -> RetryPolicy {
    let on: Vec<&str> = retry.on.iter().map(|on| on.as_str()).collect();
    let backoff = retry.backoff.unwrap_or(BACKOFF);
    RetryPolicy {
        retry_on: on.join(","),
        num_retries: proto::uint32(retry.attempts),
        per_try_timeout: retry.per_try_timeout.and_then(proto::duration),
        retry_back_off: Some(RetryBackOff {
            base_interval: proto::duration(backoff),
            max_interval: proto::duration(Duration::from_millis(backoff.as_millis().saturating_mul(10))),
        }),
        ..RetryPolicy::default()
    }
}

fn redirect(redirect: &Redirect) -> RedirectAction {
    use redirect_action::RedirectResponseCode as Code;
    let path = |path: &crate::gateway::scalar::Path| path.as_str().to_owned();
    RedirectAction {
        host_redirect: redirect.host.as_ref().map(|host| host.as_str().to_owned()).unwrap_or_default(),
        port_redirect: redirect.port.map(u32::from).unwrap_or_default(),
        response_code: match redirect.status {
            Some(302) => Code::Found,
            Some(303) => Code::SeeOther,
            Some(307) => Code::TemporaryRedirect,
            Some(308) => Code::PermanentRedirect,
            _ => Code::MovedPermanently,
        }
        .into(),
        scheme_rewrite_specifier: redirect.https.then_some(SchemeRewriteSpecifier::HttpsRedirect(true)),
        path_rewrite_specifier: match (&redirect.path, &redirect.prefix) {
            (Some(whole), _) => Some(PathRewriteSpecifier::PathRedirect(path(whole))),
            (None, Some(prefix)) => Some(PathRewriteSpecifier::PrefixRewrite(path(prefix))),
            (None, None) => None,
        },
        ..RedirectAction::default()
    }
}

fn direct_response(respond: &DirectResponse) -> DirectResponseAction {
    let body = |text: &String| DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.clone())),
        ..DataSource::default()
    };
    DirectResponseAction {
        status: respond.status.into(),
        body: respond.body.as_ref().filter(|text| !text.is_empty()).map(body),
        ..DirectResponseAction::default()
    }
}

/// Header changes as Envoy takes them: removals come first.
struct Changes {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
}

fn changes(changes: &HeaderChanges) -> Changes {
    let remove = |edits: &HeaderEdits| edits.remove.iter().map(|name| name.as_str().to_owned()).collect();
    Changes {
        request_add: additions(&changes.request),
        request_remove: remove(&changes.request),
        response_add: additions(&changes.response),
        response_remove: remove(&changes.response),
    }
}

fn additions(edits: &HeaderEdits) -> Vec<HeaderValueOption> {
    let set = edits.set.iter().map(|(name, value)| overwrite(name.as_str(), value.as_str()));
    let add = edits
        .add
        .iter()
        .map(|(name, value)| header(name.as_str(), value.as_str(), HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn overwrite(name: &str, value: &str) -> HeaderValueOption {
    header(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

fn header(name: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    let header = HeaderValue { key: name.into(), value: value.into(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), append_action: action.into(), ..HeaderValueOption::default() }
}
