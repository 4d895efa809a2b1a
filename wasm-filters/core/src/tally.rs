//! What was decided on each route, and the metrics that tell of it.
//!
//! A request adds to its route's [`Tally`], which costs it nothing to find; once a second the tallies of the routes that
//! were used are added up to metrics ([`Series`]). Envoy keeps a metric for good, so names are made when they are first
//! needed and their number is bounded: what is beyond counts as `other`.
//!
//! The host makes a name of a metric and its labels.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::parts::Route;

/// Metrics in a VM whose label is a policy, and as many whose labels are a policy and a route.
const MAX_SERIES: usize = 1_000;
/// Longest route in a label, in bytes.
const MAX_LABEL: usize = 200;
/// What is not told apart.
const OTHER: &str = "other";

/// What was decided on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The auth policy let it through.
    AuthAllowed,
    /// The auth policy answered 4xx.
    AuthDenied,
    /// It could not be said who calls.
    AuthUnavailable,
    /// Within its limits.
    Allowed,
    /// Over a limit.
    Limited,
    /// It could not be counted.
    Unavailable,
    /// A limit that only counts would have refused it.
    Shadowed,
}

/// Each with its metric, and whether the label is an auth policy.
const ALL: [(Decided, &str, bool); 7] = [
    (Decided::AuthAllowed, "tollgate.auth.policy_allowed", true),
    (Decided::AuthDenied, "tollgate.auth.policy_denied", true),
    (Decided::AuthUnavailable, "tollgate.auth.policy_unavailable", true),
    (Decided::Allowed, "tollgate.rate_limit.policy_allowed", false),
    (Decided::Limited, "tollgate.rate_limit.policy_limited", false),
    (Decided::Unavailable, "tollgate.rate_limit.policy_unavailable", false),
    (Decided::Shadowed, "tollgate.rate_limit.policy_shadowed", false),
];
/// Requests over a limit, by policy and route.
const ROUTE_LIMITED: &str = "tollgate.rate_limit.route_limited";

/// Every metric and its labels, for a host that has to know them before it counts.
pub fn metrics() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let by_policy = ALL.into_iter().map(|(_, metric, _)| (metric, ["policy"].as_slice()));
    by_policy.chain([(ROUTE_LIMITED, ["policy", "route"].as_slice())])
}

/// What was decided on one route.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [Cell<u64>; ALL.len()],
    noted: Cell<bool>,
}

impl Tally {
    /// Adds one. `true` where it is the first since the tally was taken.
    pub fn add(&self, decided: Decided) -> bool {
        if let Some(count) = self.counts.get(decided as usize) {
            count.set(count.get().saturating_add(1));
        }
        !self.noted.replace(true)
    }

    fn take(&self) -> [u64; ALL.len()] {
        self.noted.set(false);
        self.counts.each_ref().map(Cell::take)
    }
}

/// The metrics of one VM. `C` is the host's handle of one.
#[derive(Debug)]
pub struct Series<C> {
    /// Routes with a tally.
    used: Vec<Rc<Route>>,
    policies: BTreeMap<String, Option<C>>,
    routes: BTreeMap<String, Option<C>>,
    most: usize,
}

impl<C> Default for Series<C> {
    fn default() -> Self {
        Self { used: Vec::new(), policies: BTreeMap::new(), routes: BTreeMap::new(), most: MAX_SERIES }
    }
}

impl<C: Copy> Series<C> {
    /// Counts a decision on a request of `route`.
    pub fn add(&mut self, route: &Rc<Route>, decided: Decided) {
        if route.tally.add(decided) {
            self.used.push(Rc::clone(route));
        }
    }

    /// Hands over what was counted. `define` makes a metric with these labels, and may fail; `add` adds to one.
    pub fn flush(&mut self, define: impl Fn(&str, &[(&str, &str)]) -> Option<C>, add: impl Fn(C, u64)) {
        for route in self.used.drain(..) {
            let counts = route.tally.take();
            for ((decided, metric, is_auth), count) in ALL.into_iter().zip(counts).filter(|(_, n)| *n > 0) {
                let policy = if is_auth { &route.auth } else { &route.rate_limit };
                let Some(policy) = policy.as_deref() else { continue };
                let counter = series(&mut self.policies, self.most, &define, metric, &[("policy", policy)]);
                counter.into_iter().for_each(|counter| add(counter, count));
                if decided == Decided::Limited {
                    let labels = [("policy", policy), ("route", &*route.name)];
                    let counter = series(&mut self.routes, self.most, &define, ROUTE_LIMITED, &labels);
                    counter.into_iter().for_each(|counter| add(counter, count));
                }
            }
        }
    }
}

/// The metric with these labels: known, or made, or that of all others.
fn series<C: Copy>(
    known: &mut BTreeMap<String, Option<C>>,
    most: usize,
    define: impl Fn(&str, &[(&str, &str)]) -> Option<C>,
    metric: &str,
    labels: &[(&str, &str)],
) -> Option<C> {
    let values: Vec<String> = labels.iter().map(|(_, value)| printable(value)).collect();
    // No value holds a control character, so names differ where metrics do.
    let name = format!("{metric}\0{}", values.join("\0"));
    if let Some(counter) = known.get(&name) {
        return *counter;
    }
    let (name, values) = match known.len() < most {
        true => (name, values),
        false => (metric.to_owned(), vec![OTHER.to_owned(); labels.len()]),
    };
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(label, _)| *label).zip(values.iter().map(String::as_str)).collect();
    *known.entry(name).or_insert_with(|| define(metric, &labels))
}

/// A label's value: short, and of one line.
fn printable(value: &str) -> String {
    let fits = value.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_LABEL);
    fits.map(|(_, c)| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn route(policy: &str, name: &str) -> Rc<Route> {
        Rc::new(Route {
            auth: Some("who".into()),
            requirement: None,
            rate_limit: Some(policy.into()),
            name: name.into(),
            tally: Tally::default(),
        })
    }

    /// What a host would have: names in the order in which they were made, with what was added.
    #[derive(Default)]
    struct Metrics(RefCell<Vec<(String, u64)>>);

    impl Metrics {
        fn flush(&self, series: &mut Series<usize>) {
            let define = |metric: &str, labels: &[(&str, &str)]| {
                let known = super::metrics().find(|(known, _)| *known == metric).expect("it is announced");
                assert!(known.1.iter().eq(labels.iter().map(|(label, _)| label)));
                let name = labels.iter().fold(metric.to_owned(), |name, (_, value)| name + "|" + value);
                self.0.borrow_mut().push((name, 0));
                Some(self.0.borrow().len() - 1)
            };
            series.flush(define, |index, count| self.0.borrow_mut()[index].1 += count);
        }

        fn take(&self) -> Vec<(String, u64)> {
            let mut all = std::mem::take(&mut *self.0.borrow_mut());
            all.sort();
            all
        }
    }

    #[test]
    fn decisions_are_told_by_policy_and_refusals_by_route() {
        let (mut series, metrics) = (Series::default(), Metrics::default());
        let (a, b) = (route("p.1", "api/GET /v1/*"), route("p.1", "api/= /;route=x"));
        for route in [&a, &a, &b] {
            series.add(route, Decided::Limited);
            series.add(route, Decided::AuthAllowed);
        }
        metrics.flush(&mut series);
        series.add(&b, Decided::Limited);
        metrics.flush(&mut series);
        let expected = [
            ("tollgate.auth.policy_allowed|who", 3),
            ("tollgate.rate_limit.policy_limited|p.1", 4),
            ("tollgate.rate_limit.route_limited|p.1|api/= /;route=x", 2),
            ("tollgate.rate_limit.route_limited|p.1|api/GET /v1/*", 2),
        ];
        assert_eq!(metrics.take(), expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn metrics_are_bounded_and_what_is_beyond_counts_as_other() {
        let (mut series, metrics) = (Series { most: 2, ..Series::default() }, Metrics::default());
        for number in 0..5 {
            series.add(&route("p", &number.to_string()), Decided::Limited);
            metrics.flush(&mut series);
        }
        let expected = [
            ("tollgate.rate_limit.policy_limited|p", 5),
            ("tollgate.rate_limit.route_limited|other|other", 3),
            ("tollgate.rate_limit.route_limited|p|0", 1),
            ("tollgate.rate_limit.route_limited|p|1", 1),
        ];
        assert_eq!(metrics.take(), expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn labels_are_short_and_printable() {
        let long = "é".repeat(500);
        assert_eq!(printable(&long).len(), MAX_LABEL);
        assert_eq!(printable("a\nb"), "a?b");
    }
}
