//! Who may connect: how many connections there are, from where, how fast they come, and how many have not said
//! anything yet. What is too much is refused at once and costs nothing more; its client tries again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::discovery::limits::Limits;
use crate::discovery::pace::Pace;

/// Addresses without a connection are forgotten when there are this many, at least.
const SWEEP: usize = 1024;
/// Refusals that are logged a second.
const LOGGED: u32 = 10;

/// The connections there are. Clones are the same.
#[derive(Debug, Clone)]
pub(in crate::discovery) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Arc<Limits>,
    state: Mutex<State>,
    refused: [AtomicU64; Refusal::ALL.len()],
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    pace: Pace,
    skipped: u64,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    silent: usize,
    addresses: HashMap<IpAddr, Address>,
    /// How many addresses make it worth to look for those to forget.
    sweep_at: usize,
}

#[derive(Debug)]
struct Address {
    open: usize,
    silent: usize,
    pace: Pace,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the reasons say it all")]
pub enum Refusal {
    Connections,
    Address,
    Rate,
    Silent,
    Handshake,
}

impl Refusal {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Connections, Self::Address, Self::Rate, Self::Silent, Self::Handshake];

    /// One word, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Rate => "rate",
            Self::Silent => "silent",
            Self::Handshake => "handshake",
        }
    }

    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Connections => "too many connections are open",
            Self::Address => "too many connections are open from this address",
            Self::Rate => "connections come too fast from this address",
            Self::Silent => "too many connections have sent no request yet",
            Self::Handshake => "the TLS handshake failed",
        }
    }
}

impl Admission {
    pub fn new(limits: Arc<Limits>) -> Self {
        let log = Log { pace: Pace::new(LOGGED, LOGGED), skipped: 0 };
        let (state, refused) = (Mutex::default(), Default::default());
        Self(Arc::new(Shared { limits, state, refused, log: Mutex::new(log) }))
    }

    /// Counts a connection until the result is dropped. `None` when it is refused, which is logged.
    pub(super) fn admit(&self, from: SocketAddr) -> Option<Admitted> {
        let admitted = self.try_admit(from.ip());
        admitted.inspect_err(|refusal| self.refuse(from, *refusal, refusal.reason())).ok()
    }

    /// Counts a refusal, and logs it: when there are many, some of them.
    pub(super) fn refuse(&self, peer: SocketAddr, refusal: Refusal, reason: &str) {
        self.0.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        match log.pace.try_take() {
            true => {
                let unlogged = std::mem::take(&mut log.skipped);
                tracing::warn!(%peer, reason, unlogged, "connection refused");
            }
            false => log.skipped += 1,
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// How often each refusal was given since the start.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL
            .into_iter()
            .map(|refusal| (refusal, self.0.refused[refusal as usize].load(Ordering::Relaxed)))
    }

    fn try_admit(&self, from: IpAddr) -> Result<Admitted, Refusal> {
        let limits = &self.0.limits;
        let mut state = self.lock();
        state.forget_idle();
        let key = network(from);
        let address = state.addresses.entry(key).or_insert_with(|| Address {
            open: 0,
            silent: 0,
            pace: Pace::new(limits.connections_per_second_per_address, limits.connection_burst_per_address),
        });
        if !address.pace.try_take() {
            return Err(Refusal::Rate);
        }
        if address.open >= limits.connections_per_address {
            return Err(Refusal::Address);
        }
        // One address may not keep all others from being heard.
        let silent_there = address.silent >= limits.silent_connections.div_ceil(2);
        let (open, silent) = (state.open, state.silent);
        if open >= limits.connections {
            return Err(Refusal::Connections);
        }
        if silent_there || silent >= limits.silent_connections {
            return Err(Refusal::Silent);
        }
        state.count(key, |open, silent| {
            *open += 1;
            *silent += 1;
        });
        Ok(Admitted { admission: self.clone(), key, silent: true })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, key: IpAddr, change: impl Fn(&mut usize, &mut usize)) {
        change(&mut self.open, &mut self.silent);
        if let Some(address) = self.addresses.get_mut(&key) {
            change(&mut address.open, &mut address.silent);
        }
    }

    /// What is left are addresses with a connection, and those that had one in the last seconds.
    fn forget_idle(&mut self) {
        if self.addresses.len() >= self.sweep_at.max(SWEEP) {
            self.addresses.retain(|_, address| address.open > 0 || !address.pace.is_full());
            self.sweep_at = self.addresses.len() * 2;
        }
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    key: IpAddr,
    silent: bool,
}

impl Admitted {
    /// It has sent its first request.
    pub fn spoke(&mut self) {
        if std::mem::take(&mut self.silent) {
            self.admission.lock().count(self.key, |_, silent| *silent = silent.saturating_sub(1));
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.spoke();
        self.admission.lock().count(self.key, |open, _| *open = open.saturating_sub(1));
    }
}

/// Whose address it is: IPv6 hosts choose among the 2⁶⁴ of their network (RFC 4291, section 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(limits: Limits) -> Admission {
        Admission::new(Arc::new(limits))
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_once_its_connection_ends() {
        let admission = admission(Limits { connections: 2, ..Limits::default() });
        let first = admission.try_admit(address(1)).unwrap();
        let _second = admission.try_admit(address(2)).unwrap();
        assert_eq!(admission.try_admit(address(3)).unwrap_err(), Refusal::Connections);
        drop(first);
        assert!(admission.try_admit(address(3)).is_ok());
        assert_eq!(admission.open(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_counted_by_why() {
        let admission = admission(Limits { connections: 0, ..Limits::default() });
        for _ in 0..100 {
            assert!(admission.admit(SocketAddr::from(([10, 0, 0, 1], 1))).is_none());
        }
        let counted: Vec<_> = admission.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Refusal::Connections, 100)]);
        assert_eq!(admission.0.log.lock().unwrap().skipped, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_takes_no_place_of_others() {
        let limits = Limits { connections_per_address: 2, silent_connections: 4, ..Limits::default() };
        let admission = admission(limits);
        let mut held: Vec<Admitted> = (0..2).map(|_| admission.try_admit(address(1)).unwrap()).collect();
        assert_eq!(admission.try_admit(address(1)).unwrap_err(), Refusal::Address);
        held.push(admission.try_admit(address(2)).unwrap());
        let v6 = |text: &str| admission.try_admit(text.parse().unwrap());
        held.push(v6("2001:db8::1").unwrap());
        held.iter_mut().for_each(Admitted::spoke);
        held.push(v6("2001:db8::2").unwrap());
        assert_eq!(v6("2001:db8::3:4").unwrap_err(), Refusal::Address);
        assert!(v6("2001:db8:0:1::1").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_are_few_and_of_one_address_half_of_them() {
        let admission = admission(Limits { silent_connections: 4, ..Limits::default() });
        let mut held: Vec<Admitted> = (0..2).map(|_| admission.try_admit(address(1)).unwrap()).collect();
        assert_eq!(admission.try_admit(address(1)).unwrap_err(), Refusal::Silent);
        held.extend((0..2).map(|_| admission.try_admit(address(2)).unwrap()));
        assert_eq!(admission.try_admit(address(3)).unwrap_err(), Refusal::Silent);
        held[0].spoke();
        assert!(admission.try_admit(address(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_one_address_come_at_their_rate() {
        let limits = Limits {
            connections_per_second_per_address: 10,
            connection_burst_per_address: 3,
            ..Limits::default()
        };
        let admission = admission(limits);
        for _ in 0..3 {
            drop(admission.try_admit(address(1)).unwrap());
        }
        assert_eq!(admission.try_admit(address(1)).unwrap_err(), Refusal::Rate);
        assert!(admission.try_admit(address(2)).is_ok());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(admission.try_admit(address(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_are_gone_are_forgotten() {
        let admission = admission(Limits::default());
        let _stays = admission.try_admit(address(1)).unwrap();
        for n in 0..3 * SWEEP as u32 {
            drop(admission.try_admit(Ipv6Addr::from(u128::from(n) << 64).into()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(admission.lock().addresses.len() <= SWEEP);
        assert!(admission.lock().addresses.contains_key(&address(1)));
    }
}
