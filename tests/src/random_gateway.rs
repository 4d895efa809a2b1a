//! Random gateways, one after the other: clusters and routes are renamed, split, merged and deleted, while the paths of
//! a load are always answered by somebody.

use std::{fmt::Write, net::SocketAddr};

use crate::ports::Ports;

/// Paths of the load.
pub const PATHS: [&str; 8] = ["/p0", "/p1", "/p2", "/p3", "/p4", "/p5", "/p6", "/p7"];

/// A small generator (xorshift64*), so that a failure can be run again by its seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// A gateway that answers every path of the load.
#[derive(Debug)]
pub struct Configuration {
    random: Random,
    next: usize,
    clusters: Vec<Cluster>,
    /// Per path of the load, the clusters it is split over; `None` leaves it to the last route.
    routes: Vec<Option<Vec<String>>>,
    /// Clusters of the last route, which takes all paths.
    last: Vec<String>,
    shuffled: usize,
}

#[derive(Debug, Clone)]
struct Cluster {
    name: String,
    both: bool,
    timeout: usize,
}

impl Configuration {
    /// Where every sequence begins.
    pub fn new(random: Random) -> Self {
        let first = Cluster { name: "c0".into(), both: false, timeout: 1 };
        Self {
            random,
            next: 1,
            routes: vec![Some(vec![first.name.clone()]); PATHS.len()],
            last: vec![first.name.clone()],
            clusters: vec![first],
            shuffled: 0,
        }
    }

    /// One edit; says what it was.
    pub fn edit(&mut self) -> &'static str {
        match self.random.below(9) {
            0 => self.rename(),
            1 | 2 => self.split(),
            3 => self.merge(),
            4 => self.delete_route(),
            5 => self.add_route(),
            6 => self.change_cluster(),
            7 => {
                self.shuffled += 1;
                "routes in another order"
            }
            // Everything at once: nothing keeps its name.
            _ => {
                (0..self.clusters.len()).for_each(|index| self.rename_at(index));
                "all clusters renamed"
            }
        }
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("c{}", self.next)
    }

    fn any_cluster(&mut self) -> usize {
        self.random.below(self.clusters.len())
    }

    fn users(&mut self) -> impl Iterator<Item = &mut Vec<String>> {
        self.routes.iter_mut().flatten().chain([&mut self.last])
    }

    fn rename(&mut self) -> &'static str {
        let index = self.any_cluster();
        self.rename_at(index);
        "a cluster renamed"
    }

    fn rename_at(&mut self, index: usize) {
        let name = self.fresh();
        let old = std::mem::replace(&mut self.clusters[index].name, name.clone());
        self.users().flatten().filter(|user| **user == old).for_each(|user| user.clone_from(&name));
    }

    /// A new cluster takes a share of what another had.
    fn split(&mut self) -> &'static str {
        if self.clusters.len() > 6 {
            return self.merge();
        }
        let index = self.any_cluster();
        let (old, name) = (self.clusters[index].clone(), self.fresh());
        for user in self.users().filter(|user| user.contains(&old.name)) {
            user.push(name.clone());
        }
        self.clusters.push(Cluster { name, both: !old.both, ..old });
        "a cluster split"
    }

    /// One cluster takes all that another had, which is deleted.
    fn merge(&mut self) -> &'static str {
        if self.clusters.len() < 2 {
            return self.split();
        }
        let index = self.any_cluster();
        let gone = self.clusters.swap_remove(index).name;
        let index = self.any_cluster();
        let heir = self.clusters[index].name.clone();
        for user in self.users().filter(|user| user.contains(&gone)) {
            user.retain(|name| *name != gone && *name != heir);
            user.push(heir.clone());
        }
        "clusters merged"
    }

    fn delete_route(&mut self) -> &'static str {
        let index = self.random.below(PATHS.len());
        self.routes[index] = None;
        "a route deleted"
    }

    fn add_route(&mut self) -> &'static str {
        let (index, cluster) = (self.random.below(PATHS.len()), self.any_cluster());
        self.routes[index] = Some(vec![self.clusters[cluster].name.clone()]);
        "a route added or moved"
    }

    /// Other endpoints, or other options, so that the cluster warms anew.
    fn change_cluster(&mut self) -> &'static str {
        let index = self.any_cluster();
        let cluster = &mut self.clusters[index];
        cluster.both ^= true;
        cluster.timeout = 1 + cluster.timeout % 5;
        "a cluster changed"
    }

    /// The YAML, whose clusters lead to these two upstreams. Clusters that nobody refers to are in it, too.
    pub fn text(&self, ports: &Ports, [a, b]: [SocketAddr; 2]) -> String {
        let to = |clusters: &[String]| {
            let split = clusters.iter().enumerate();
            let split = split.map(|(index, name)| format!("{{ cluster: {name}, weight: {} }}", 1 + index));
            format!("[{}]", split.collect::<Vec<_>>().join(", "))
        };
        let mut routes: Vec<String> = PATHS
            .iter()
            .zip(&self.routes)
            .filter_map(|(path, clusters)| {
                let clusters = to(clusters.as_ref()?);
                Some(format!("          - {{ match: {{ path: {{ exact: {path} }} }}, to: {clusters} }}\n"))
            })
            .collect();
        let middle = self.shuffled % routes.len().max(1);
        routes.rotate_left(middle);
        let mut clusters = String::new();
        for Cluster { name, both, timeout } in &self.clusters {
            let endpoints = if *both { format!("\"{a}\", \"{b}\"") } else { format!("\"{b}\"") };
            // Writing to a string can't fail.
            let _ =
                writeln!(clusters, "  {name}: {{ endpoints: [{endpoints}], connect_timeout: {timeout}s }}");
        }
        format!(
            "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nlisteners:\n  public:\n    address: \
             127.0.0.1:{}\n    virtual_hosts:\n      - name: test\n        hosts: [\"*\"]\n        routes:\n{}          - {{ \
             match: {{ path: {{ prefix: / }} }}, to: {} }}\nclusters:\n{clusters}",
            ports.edge,
            routes.concat(),
            to(&self.last)
        )
    }
}
