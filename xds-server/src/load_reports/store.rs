//! The numbers themselves: who reported what, added up, and forgotten in time. Time comes from outside.
//!
//! A group's totals are kept apart from its proxies', so that they do not shrink when a proxy is forgotten: a counter
//! that shrinks looks like a restart to whoever scrapes it. They know no more clusters than the proxies together do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ClusterLoad, Load, LoadLimits, ProxyLoad, Report};

#[derive(Debug)]
pub(super) struct Store {
    limits: LoadLimits,
    groups: BTreeMap<String, Group>,
    /// Proxies of all groups.
    proxies: usize,
    /// Clusters of all proxies.
    clusters: usize,
    swept: SystemTime,
}

#[derive(Debug, Default)]
struct Group {
    totals: BTreeMap<Arc<str>, Load>,
    proxies: BTreeMap<String, Proxy>,
}

#[derive(Debug, Default)]
struct Proxy {
    streams: usize,
    /// When the last stream ended, if none is open.
    ended: Option<SystemTime>,
    last_report: Option<SystemTime>,
    period: Duration,
    clusters: BTreeMap<Arc<str>, Cluster>,
}

#[derive(Debug)]
struct Cluster {
    total: Load,
    latest: Load,
    /// When it was last in a report; `latest` is of the proxy's last report only if these times agree.
    reported: SystemTime,
}

impl Store {
    pub fn new(limits: LoadLimits) -> Store {
        Store { limits, groups: BTreeMap::new(), proxies: 0, clusters: 0, swept: SystemTime::UNIX_EPOCH }
    }

    /// A stream begins; `false` if there is no room for one more proxy.
    pub fn open(&mut self, group: &str, node_id: &str, now: SystemTime) -> bool {
        self.sweep(now);
        let known = self.groups.get(group).is_some_and(|group| group.proxies.contains_key(node_id));
        if !known && self.proxies >= self.limits.proxies {
            return false;
        }
        self.proxies += usize::from(!known);
        let group = self.groups.entry(group.to_owned()).or_default();
        let proxy = group.proxies.entry(node_id.to_owned()).or_default();
        proxy.streams += 1;
        proxy.ended = None;
        true
    }

    /// A stream ends. The numbers stay for a while, for a proxy that only reconnects.
    pub fn close(&mut self, group: &str, node_id: &str, now: SystemTime) {
        let group = self.groups.get_mut(group);
        if let Some(proxy) = group.and_then(|group| group.proxies.get_mut(node_id)) {
            proxy.streams -= 1;
            proxy.ended = (proxy.streams == 0).then_some(now);
        }
        self.sweep(now);
    }

    /// Adds a report of a proxy that has a stream; returns how many of its clusters there was no room for.
    pub fn report(&mut self, group: &str, node_id: &str, report: Report, now: SystemTime) -> usize {
        self.sweep(now);
        let Some(group) = self.groups.get_mut(group) else { return 0 };
        let Some(proxy) = group.proxies.get_mut(node_id) else { return 0 };
        proxy.last_report = Some(now);
        proxy.period = report.period;
        let mut lost = 0;
        for (name, load) in report.clusters {
            if let Some(cluster) = proxy.clusters.get_mut(&*name) {
                cluster.add(&load, now);
            } else if name.len() > self.limits.name_bytes
                || proxy.clusters.len() >= self.limits.clusters_per_proxy
                || self.clusters >= self.limits.clusters
            {
                lost += 1;
                continue;
            } else {
                self.clusters += 1;
                let shared = group.totals.get_key_value(&*name).map(|(shared, _)| Arc::clone(shared));
                let shared = shared.unwrap_or_else(|| name.as_str().into());
                proxy.clusters.insert(shared, Cluster { total: load, latest: load, reported: now });
            }
            match group.totals.get_mut(&*name) {
                Some(total) => total.add(&load),
                None => drop(group.totals.insert(name.into(), load)),
            }
        }
        lost
    }

    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    pub fn totals(&self, group: &str) -> Vec<ProxyLoad> {
        let proxies = self.groups.get(group).into_iter().flat_map(|group| &group.proxies);
        let loads = proxies.map(|(node_id, proxy)| ProxyLoad {
            node_id: node_id.clone(),
            connected: proxy.streams > 0,
            last_report: proxy.last_report,
            clusters: proxy.clusters.iter().map(|(name, c)| (name.to_string(), c.total)).collect(),
        });
        loads.collect()
    }

    /// The group's clusters that are `wanted`, over all of its proxies.
    pub fn by_cluster(&self, group: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, ClusterLoad> {
        let Some(group) = self.groups.get(group) else { return BTreeMap::new() };
        let wanted = group.totals.iter().filter(|(name, _)| wanted(name));
        let load = |(name, total): (&Arc<str>, &Load)| {
            let mut latest = Load::default();
            let (mut in_progress, mut requests_per_second) = (0u64, 0.0);
            for (proxy, cluster) in group.latest(name) {
                latest.add(&cluster.latest);
                in_progress = in_progress.saturating_add(cluster.latest.in_progress);
                if !proxy.period.is_zero() {
                    requests_per_second += cluster.latest.completed() as f64 / proxy.period.as_secs_f64();
                }
            }
            let completed = latest.completed();
            let error_ratio = (completed > 0).then(|| latest.errors as f64 / completed as f64);
            let total = Load { in_progress, ..*total };
            (name.to_string(), ClusterLoad { total, requests_per_second, error_ratio })
        };
        wanted.map(load).collect()
    }

    /// Forgets what was not heard of for long. Looks at everything, so not each time.
    fn sweep(&mut self, now: SystemTime) {
        let remember = self.limits.remember;
        let is_old = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= remember);
        let due = now.duration_since(self.swept).map_or(true, |age| age >= remember / 4);
        if !due {
            return;
        }
        self.swept = now;
        for group in self.groups.values_mut() {
            group.proxies.retain(|_, proxy| !proxy.ended.is_some_and(is_old));
            for proxy in group.proxies.values_mut() {
                proxy.clusters.retain(|_, cluster| !is_old(cluster.reported));
            }
            let known: BTreeSet<&Arc<str>> =
                group.proxies.values().flat_map(|proxy| proxy.clusters.keys()).collect();
            group.totals.retain(|name, _| known.contains(name));
        }
        self.groups.retain(|_, group| !group.proxies.is_empty());
        let proxies = || self.groups.values().flat_map(|group| group.proxies.values());
        self.proxies = proxies().count();
        self.clusters = proxies().map(|proxy| proxy.clusters.len()).sum();
    }
}

impl Group {
    /// What the last report of each connected proxy says of a cluster.
    fn latest(&self, name: &str) -> impl Iterator<Item = (&Proxy, &Cluster)> {
        let connected = self.proxies.values().filter(|proxy| proxy.streams > 0);
        connected.filter_map(move |proxy| {
            let cluster = proxy.clusters.get(name)?;
            (Some(cluster.reported) == proxy.last_report).then_some((proxy, cluster))
        })
    }
}

impl Cluster {
    fn add(&mut self, load: &Load, now: SystemTime) {
        // One report may name a cluster twice.
        match self.reported == now {
            true => self.latest.add(load),
            false => self.latest = *load,
        }
        self.total.add(load);
        self.reported = now;
    }
}

#[cfg(test)]
mod tests;
