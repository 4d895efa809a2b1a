//! Facts of the shared buckets.

use proptest::prelude::*;

use super::*;

const START: u64 = 1_800_000_000_000_000;
const DAY: u64 = 86_400;

fn limit(tokens: u64, seconds: u64, burst: u64) -> Limit {
    Limit::new(tokens, Duration::from_secs(seconds), burst).unwrap()
}

#[test]
fn the_burst_goes_at_once_then_the_rate() {
    let limit = limit(10, 1, 3);
    let (taken, state) = limit.debit(Micros::default(), START, 5, Debit::UpTo);
    assert_eq!(taken, 3);
    assert_eq!(limit.debit(state, START, 1, Debit::UpTo), (0, state), "a refusal costs nothing");
    let standing = limit.standing(state, START);
    assert_eq!((standing.remaining, standing.retry_after), (0, Duration::from_millis(100)));
    assert_eq!(standing.reset, Duration::from_millis(300));
    assert_eq!(limit.debit(state, START + 99_999, 1, Debit::UpTo).0, 0);
    assert_eq!(limit.debit(state, START + 100_000, 2, Debit::UpTo).0, 1);
}

#[test]
fn a_whole_debit_takes_all_or_nothing() {
    let limit = limit(10, 1, 3);
    assert_eq!(limit.debit(Micros::default(), START, 4, Debit::Whole).0, 0);
    assert_eq!(limit.debit(Micros::default(), START, 3, Debit::Whole).0, 3);
}

#[test]
fn what_is_put_back_can_be_taken_again_and_no_more() {
    let limit = limit(7, 60, 20);
    let (_, state) = limit.debit(Micros::default(), START, 20, Debit::UpTo);
    let state = limit.credit(state, START, 5);
    assert_eq!(limit.standing(state, START).remaining, 5);
    let (taken, state) = limit.debit(state, START, 20, Debit::UpTo);
    assert_eq!(taken, 5);
    let state = limit.credit(state, START, 1_000);
    assert_eq!(limit.standing(state, START).remaining, 20, "a bucket is never more than full");
}

#[test]
fn no_part_of_a_token_is_lost_over_a_month_of_debits() {
    // 3 tokens a microsecond-odd period: each debit leaves a remainder, and a month of them leaves no drift.
    for (tokens, seconds) in [(7, 3), (999_999_937, 1), (1_000_003, 30 * DAY), (1, 30 * DAY)] {
        let limit = limit(tokens, seconds, tokens);
        let (mut state, mut taken, mut now) = (Micros::default(), 0, START);
        (taken, state) = drain(&limit, state, now, taken);
        assert_eq!(taken, tokens, "the burst");
        let end = START + seconds * 1_000_000;
        for step in 1..=997 {
            now = START + (end - START) * step / 997;
            (taken, state) = drain(&limit, state, now, taken);
        }
        assert_eq!((now, taken), (end, 2 * tokens), "{tokens} in {seconds} s");
    }
}

fn drain(limit: &Limit, mut state: Micros, now: u64, mut taken: u64) -> (u64, Micros) {
    loop {
        let (got, next) = limit.debit(state, now, MAX_TOKENS, Debit::UpTo);
        (state, taken) = (next, taken + got);
        if got == 0 {
            return (taken, state);
        }
    }
}

#[test]
fn a_state_of_another_limit_does_not_lock_out() {
    let monthly = limit(1, 30 * DAY, 10);
    let (_, state) = monthly.debit(Micros::default(), START, 10, Debit::UpTo);
    let fast = limit(10, 1, 1);
    let (taken, _) = fast.debit(state, START, 1, Debit::UpTo);
    assert_eq!(taken, 0);
    let standing = fast.standing(state, START);
    assert_eq!(standing.retry_after, Duration::from_millis(100));
}

#[test]
fn limits_beyond_the_arithmetic_are_none() {
    for (tokens, seconds, burst) in
        [(0, 1, 1), (1, 0, 1), (1, 1, 0), (MAX_PER_PERIOD + 1, 1, 1), (1, 3650 * DAY, 11)]
    {
        assert!(
            Limit::new(tokens, Duration::from_secs(seconds), burst).is_none(),
            "{tokens} {seconds} {burst}"
        );
    }
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let period = prop_oneof![1..5_000_u64, Just(60_000), Just(3_600_000), Just(30 * DAY * 1_000)];
    (1..2_000_u64, period, 1..2_000_u64)
        .prop_filter_map("fits", |(tokens, ms, burst)| Limit::new(tokens, Duration::from_millis(ms), burst))
}

proptest! {
    #[test]
    fn never_more_than_the_burst_and_the_rate(
        limit in any_limit(),
        steps in proptest::collection::vec((0..40_000_000_u64, 0..300_u64, any::<bool>(), 0..50_u64), 1..300),
    ) {
        let (mut now, mut state, mut out) = (START, Micros::default(), 0_u128);
        for (step, tokens, whole, back) in steps {
            now += step;
            let how = if whole { Debit::Whole } else { Debit::UpTo };
            let (taken, next) = limit.debit(state, now, tokens, how);
            prop_assert!(taken <= tokens && (how == Debit::UpTo || taken == 0 || taken == tokens));
            out += u128::from(taken);
            // Only what was taken can come back.
            let back = u64::try_from(out).unwrap().min(back);
            state = limit.credit(next, now, back);
            out -= u128::from(back);
            let refilled = u128::from(now - START) * u128::from(limit.parts) / limit.in_parts(limit.cost);
            prop_assert!(out <= u128::from(limit.burst) + refilled);
        }
    }

    #[test]
    fn waiting_as_told_is_enough(limit in any_limit(), used in 0..3_000_u64) {
        let (_, state) = limit.debit(Micros::default(), START, used, Debit::UpTo);
        let standing = limit.standing(state, START);
        let later = START + u64::try_from(standing.retry_after.as_micros()).unwrap();
        prop_assert_eq!(limit.debit(state, later, 1, Debit::Whole).0, 1);
        let full = START + u64::try_from(standing.reset.as_micros()).unwrap();
        prop_assert_eq!(limit.standing(state, full).remaining, limit.burst);
    }

    #[test]
    fn any_numbers_are_survived(
        tokens in any::<u64>(), ms in any::<u64>(), burst in any::<u64>(),
        whole in any::<u64>(), parts in any::<u64>(), now in any::<u64>(), n in any::<u64>(),
    ) {
        if let Some(limit) = Limit::new(tokens, Duration::from_millis(ms), burst) {
            let (_, state) = limit.debit(Micros { whole, parts }, now, n, Debit::UpTo);
            let state = limit.credit(state, now, n);
            prop_assert!(limit.standing(state, now).remaining <= burst);
        }
    }
}
