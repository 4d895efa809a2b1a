//! Facts of leases, and the bound: a simulated service, and workers that lose calls, answers and their lives.

use proptest::prelude::*;

use super::*;
use crate::quota::{Debit, Limit, Micros};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const START: u64 = 1_800_000_000 * SECOND;
const TIMEOUT: u64 = SECOND / 2;

fn terms(rate: u64, burst: u64) -> Arc<Terms> {
    Arc::new(Terms { policy: "p".into(), token: SECOND.div_ceil(rate), burst, cost: 1, lease: 2 * SECOND })
}

fn granted(tokens: u64) -> Answer {
    Answer::Granted { tokens, remaining: 0 }
}

/// A worker that has asked for a key and was granted so many tokens.
fn leased(terms: &Arc<Terms>, tokens: u64) -> Leases {
    let mut leases = Leases::new(100, 7);
    assert_eq!(leases.take(b"k", terms, START), Taken::Wait);
    let refill = leases.refill(START, TIMEOUT).unwrap();
    leases.answered(refill.id, &[granted(tokens)], START);
    leases
}

fn allowed(taken: &Taken) -> bool {
    matches!(taken, Taken::Token(_))
}

#[test]
fn requests_are_decided_from_the_lease_and_one_call_serves_all_keys() {
    let terms = terms(1_000, 1_000);
    let mut leases = Leases::new(100, 7);
    for key in [b"a", b"b"] {
        assert_eq!(leases.take(key, &terms, START), Taken::Wait);
    }
    let refill = leases.refill(START, TIMEOUT).unwrap();
    assert_eq!(refill.asks.len(), 2);
    assert!(refill.asks.iter().all(|ask| ask.tokens == 9), "those that wait, and a few");
    assert_eq!(leases.refill(START, TIMEOUT), None, "asked once");
    leases.answered(refill.id, &[granted(9), granted(9)], START + 2 * MS);
    let taken: Vec<bool> = (0..12).map(|_| allowed(&leases.take(b"a", &terms, START + 3 * MS))).collect();
    assert_eq!(taken.iter().filter(|allowed| **allowed).count(), 9);
}

#[test]
fn a_lease_is_asked_for_again_before_it_is_used_up() {
    let terms = terms(1_000, 1_000);
    let mut leases = leased(&terms, 100);
    for step in 0..74 {
        assert!(allowed(&leases.take(b"k", &terms, START + step * 10 * MS)));
        assert!(!leases.is_due(), "{step}");
    }
    leases.take(b"k", &terms, START + 740 * MS);
    assert!(leases.is_due(), "a quarter is left");
    let refill = leases.refill(START + 741 * MS, TIMEOUT).unwrap();
    // 75 in 741 ms are 101 in a second, and 25 are still there.
    assert_eq!(refill.asks[0].tokens, 76);
}

#[test]
fn a_key_that_got_too_little_is_over_its_limit_without_calls() {
    let terms = terms(10, 10);
    let mut leases = leased(&terms, 1);
    assert!(allowed(&leases.take(b"k", &terms, START)));
    assert_eq!(leases.take(b"k", &terms, START + MS), Taken::Wait);
    let refill = leases.refill(START + MS, TIMEOUT).unwrap();
    leases.answered(refill.id, &[Answer::Over(Duration::from_millis(700))], START + 2 * MS);
    for at in [2, 300, 701] {
        let Taken::Over(outcome) = leases.take(b"k", &terms, START + at * MS) else { panic!("at {at}") };
        assert_eq!(outcome.retry_after, Duration::from_millis(702 - at));
        assert!(!leases.is_due());
    }
    assert_eq!(leases.take(b"k", &terms, START + 703 * MS), Taken::Wait);
}

#[test]
fn what_is_left_when_a_lease_is_over_goes_back_once() {
    let terms = terms(1_000, 1_000);
    let mut leases = leased(&terms, 100);
    leases.take(b"k", &terms, START + MS);
    let over = START + terms.lease;
    let refill = leases.refill(over, TIMEOUT).unwrap();
    assert_eq!(refill.returns.iter().map(|tokens| tokens.tokens).collect::<Vec<_>>(), [99]);
    assert!(refill.asks.is_empty());
    leases.failed(refill.id, over);
    assert_eq!(leases.refill(over + 10 * SECOND, TIMEOUT), None, "it may have been given back: never twice");
    assert_eq!(leases.held(over), 0);
    assert!(leases.is_idle(), "a key that nobody uses is forgotten");
}

#[test]
fn a_clock_that_jumps_ends_leases_and_locks_nobody_out() {
    let terms = terms(1_000, 1_000);
    let mut leases = leased(&terms, 100);
    let back = START - 3_600 * SECOND;
    assert_eq!(leases.take(b"k", &terms, back), Taken::Wait, "a lease from the future is no lease");
    let refill = leases.refill(back, TIMEOUT).unwrap();
    assert_eq!(refill.returns.len(), 1);
    leases.answered(
        refill.id,
        &[Answer::Granted { tokens: 1, remaining: 0 }, Answer::Over(Duration::ZERO)],
        back,
    );
    assert!(matches!(leases.take(b"k", &terms, back), Taken::Over(_)));
    assert_eq!(leases.take(b"k", &terms, back - 3_600 * SECOND), Taken::Wait);
}

#[test]
fn while_the_service_is_away_nobody_waits_and_leases_last() {
    let terms = terms(1_000, 1_000);
    let mut leases = leased(&terms, 2);
    leases.take(b"other", &terms, START);
    let refill = leases.refill(START, TIMEOUT).unwrap();
    leases.failed(refill.id, START + MS);
    assert!(allowed(&leases.take(b"k", &terms, START + 2 * MS)));
    assert_eq!(leases.take(b"other", &terms, START + 2 * MS), Taken::Away);
    assert_eq!(leases.refill(START + 3 * MS, TIMEOUT), None, "it is left in peace for a while");
    let later = START + 250 * MS;
    assert_eq!(
        leases.take(b"other", &terms, later),
        Taken::Away,
        "nobody waits until it is known to be back"
    );
    let refill = leases.refill(later, TIMEOUT).unwrap();
    leases.answered(refill.id, &[granted(5)], later);
    assert!(allowed(&leases.take(b"other", &terms, later)));
}

#[test]
fn a_call_that_nobody_answers_has_failed() {
    let terms = terms(1_000, 1_000);
    let mut leases = Leases::new(100, 7);
    leases.take(b"k", &terms, START);
    let refill = leases.refill(START, TIMEOUT).unwrap();
    assert_eq!(leases.refill(START + TIMEOUT + 1, TIMEOUT), None);
    leases.answered(refill.id, &[granted(9)], START + TIMEOUT + 2);
    assert_eq!(leases.held(START + TIMEOUT + 2), 0, "a late answer grants nothing");
    assert_eq!(leases.take(b"k", &terms, START + TIMEOUT + 2), Taken::Away);
}

#[test]
fn a_limit_that_the_service_does_not_know_is_not_asked_for_all_the_time() {
    let terms = terms(1_000, 1_000);
    let mut leases = Leases::new(100, 7);
    leases.take(b"k", &terms, START);
    let refill = leases.refill(START, TIMEOUT).unwrap();
    leases.answered(refill.id, &[Answer::Unknown], START);
    assert_eq!(leases.take(b"k", &terms, START + MS), Taken::Away);
    assert_eq!(leases.take(b"k", &terms, START + 2 * SECOND), Taken::Wait);
}

#[test]
fn requests_take_what_they_cost_or_nothing_and_put_it_back() {
    let terms = Arc::new(Terms { cost: 4, ..Terms::clone(&terms(1_000, 1_000)) });
    let mut leases = leased(&terms, 10);
    for _ in 0..20 {
        assert!(allowed(&leases.take(b"k", &terms, START)));
        leases.put_back(b"k", START);
    }
    let taken: Vec<bool> = (0..4).map(|_| allowed(&leases.take(b"k", &terms, START))).collect();
    assert_eq!((taken, leases.held(START)), (vec![true, true, false, false], 2));
    leases.put_back(b"k", START);
    let over = START + terms.lease;
    let refill = leases.refill(over, TIMEOUT).unwrap();
    assert_eq!(refill.returns.iter().map(|tokens| tokens.tokens).sum::<u64>(), 6, "no lease lasts longer");
}

#[test]
fn tokens_too_few_for_a_request_go_back_at_once() {
    let terms = Arc::new(Terms { cost: 4, ..Terms::clone(&terms(1, 10)) });
    let mut leases = leased(&terms, 3);
    assert!(matches!(leases.take(b"k", &terms, START), Taken::Over(_)));
    let refill = leases.refill(START + MS, TIMEOUT).unwrap();
    assert_eq!(refill.returns.iter().map(|tokens| tokens.tokens).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_million_keys_take_bounded_memory_and_what_they_held_goes_back() {
    let terms = terms(1_000, 1_000);
    let mut leases = Leases::new(1_000, 7);
    let mut back = 0;
    for key in 0..1_000_000_u32 {
        let now = START + u64::from(key) * 1_000;
        leases.take(&key.to_le_bytes(), &terms, now);
        if key % 100 == 99 {
            let refill = leases.refill(now, TIMEOUT).unwrap();
            back += refill.returns.iter().map(|tokens| tokens.tokens).sum::<u64>();
            let answers: Vec<Answer> =
                (0..refill.returns.len() + refill.asks.len()).map(|_| granted(1)).collect();
            leases.answered(refill.id, &answers, now);
        }
        assert!(leases.len() <= 2_000);
    }
    assert!(back > 990_000, "{back}");
}

/// Tokens that are to be given back: until they are, others may be granted what the bucket refilled meanwhile.
fn going_back(leases: &Leases) -> u64 {
    let left = leases.young.iter().chain(&leases.old).map(|entry| entry.left);
    left.chain(leases.returns.iter().map(|tokens| tokens.tokens)).sum()
}

/// The whole: a service with one bucket, and workers.
struct World {
    limit: Limit,
    state: Micros,
    now: u64,
    terms: Arc<Terms>,
    workers: Vec<Leases>,
    /// Calls on their way, to which worker, with what the service granted.
    answers: Vec<(usize, u64, Vec<Answer>, u64)>,
    /// When each token was used.
    admitted: Vec<u64>,
    /// At each moment: time, admitted so far, tokens of leases that are not over, or not given back yet.
    history: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Request(usize),
    /// A request that another limit refuses, so that it puts back what it took.
    Refused(usize),
    Call(usize),
    /// The answer to the oldest call arrives.
    Answer,
    /// It does not.
    LoseAnswer,
    /// A call never reaches the service.
    LoseCall(usize),
    Kill(usize),
}

impl World {
    fn new(rate: u64, (burst, cost): (u64, u64), workers: usize, lease: u64) -> Self {
        let terms = Terms { policy: "p".into(), token: SECOND.div_ceil(rate), burst, cost, lease };
        Self {
            limit: Limit::new(rate, Duration::from_secs(1), burst).unwrap(),
            state: Micros::default(),
            now: START,
            terms: Arc::new(terms),
            workers: (0..workers).map(|seed| Leases::new(10, seed as u64)).collect(),
            answers: Vec::new(),
            admitted: Vec::new(),
            history: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        let (now, count) = (self.now, self.workers.len());
        match step {
            Step::Wait(time) => self.now += time,
            Step::Request(worker) => {
                let terms = Arc::clone(&self.terms);
                if allowed(&self.workers[worker % count].take(b"k", &terms, now)) {
                    self.admitted.extend((0..self.terms.cost).map(|_| now));
                }
            }
            Step::Refused(worker) => {
                let terms = Arc::clone(&self.terms);
                if allowed(&self.workers[worker % count].take(b"k", &terms, now)) {
                    self.workers[worker % count].put_back(b"k", now);
                }
            }
            Step::Call(worker) => {
                let worker = worker % count;
                if let Some(refill) = self.workers[worker].refill(now, TIMEOUT) {
                    let (answers, tokens) = self.serve(&refill);
                    self.answers.push((worker, refill.id, answers, tokens));
                }
            }
            Step::LoseCall(worker) => {
                let worker = worker % count;
                if let Some(refill) = self.workers[worker].refill(now, TIMEOUT) {
                    self.workers[worker].failed(refill.id, now);
                }
            }
            Step::Answer | Step::LoseAnswer if self.answers.is_empty() => {}
            Step::Answer => {
                let (worker, id, answers, _) = self.answers.remove(0);
                self.workers[worker].answered(id, &answers, now);
            }
            Step::LoseAnswer => {
                let (worker, id, ..) = self.answers.remove(0);
                self.workers[worker].failed(id, now);
            }
            Step::Kill(worker) => {
                let worker = worker % count;
                self.workers[worker] = Leases::new(10, now);
                self.answers.retain(|answer| answer.0 != worker);
            }
        }
        let now = self.now;
        let held: u64 = self.workers.iter_mut().map(|worker| worker.held(now) + going_back(worker)).sum();
        // One that arrives when it is over is given back.
        let travelling: u64 = self.answers.iter().map(|answer| answer.3).sum();
        self.history.push((now, self.admitted.len() as u64, held + travelling));
    }

    /// What the service does with a call: debits, then grants.
    fn serve(&mut self, refill: &Refill) -> (Vec<Answer>, u64) {
        let micros = self.now / 1_000;
        let (mut answers, mut tokens) = (Vec::new(), 0);
        for back in &refill.returns {
            self.state = self.limit.credit(self.state, micros, back.tokens);
            answers.push(Answer::Unknown);
        }
        for ask in &refill.asks {
            let (taken, state) = self.limit.debit(self.state, micros, ask.tokens, Debit::UpTo);
            self.state = state;
            tokens += taken;
            answers.push(match taken {
                0 => Answer::Over(self.limit.standing(state, micros).retry_after),
                _ => Answer::Granted { tokens: taken, remaining: 0 },
            });
        }
        (answers, tokens)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = 0..4_usize;
    let step = prop_oneof![
        3 => (0..40_000_000_u64).prop_map(Step::Wait),
        1 => (0..3_000_000_000_u64).prop_map(Step::Wait),
        12 => worker.clone().prop_map(Step::Request),
        4 => worker.clone().prop_map(Step::Refused),
        5 => worker.clone().prop_map(Step::Call),
        5 => Just(Step::Answer),
        1 => Just(Step::LoseAnswer),
        1 => worker.clone().prop_map(Step::LoseCall),
        1 => worker.prop_map(Step::Kill),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn all_workers_together_keep_the_bound_in_every_window(
        rate in 1..500_u64, burst in 1..200_u64, cost in 1..9_u64, workers in 1..5_usize, lease_ms in 100..3_000_u64,
        steps in steps(),
    ) {
        let mut world = World::new(rate, (burst, cost.min(burst)), workers, lease_ms * MS);
        for step in steps {
            world.step(step);
        }
        let refilled = |time: u64| (u128::from(time / 1_000 + 1) * u128::from(rate) / 1_000_000) as u64;
        let cold = world.admitted.len() as u64;
        prop_assert!(cold <= burst + refilled(world.now - START), "{cold} from a cold start");
        for (index, (from, before, leased)) in world.history.iter().enumerate() {
            for (to, after, _) in &world.history[index..] {
                let most = burst + refilled(to - from) + leased;
                prop_assert!(after - before <= most, "{} between {from} and {to}, {leased} leased", after - before);
            }
        }
    }
}

#[test]
fn one_worker_gets_what_the_limit_gives() {
    for rate in [20, 300, 2_000] {
        // A client that always wants more: over ten seconds it gets the burst and the rate, but for what a poll misses.
        let mut world = World::new(rate, (rate, 1), 1, 2 * SECOND);
        for _ in 0..10_000 {
            for _ in 0..(rate / 500 + 2) {
                world.step(Step::Request(0));
            }
            world.step(Step::Call(0));
            world.step(Step::Answer);
            world.step(Step::Wait(MS));
        }
        let admitted = world.admitted.len() as f64 / (11.0 * rate as f64);
        assert!(admitted > 0.95 && admitted <= 1.0, "{admitted} of {rate}/s");
    }
}
