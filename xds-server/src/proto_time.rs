//! Durations and times as protobuf has them. Nothing else of protobuf.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_types::pb::google::protobuf;

/// A duration for the wire; longer than protobuf's `i64` seconds is cut.
pub(crate) fn duration(duration: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A duration off the wire; what is negative or no duration is none.
pub(crate) fn read_duration(duration: protobuf::Duration) -> Duration {
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    let nanos = u32::try_from(duration.nanos).unwrap_or_default();
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()))
}

/// A time for the wire; before 1970 is 1970.
pub(crate) fn timestamp(time: SystemTime) -> protobuf::Timestamp {
    let since = duration(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    protobuf::Timestamp { seconds: since.seconds, nanos: since.nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_back_and_what_is_no_duration_is_none() {
        let some = Duration::new(3, 500_000_000);
        assert_eq!(read_duration(duration(some)), some);
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, i32::MIN)] {
            assert_eq!(read_duration(protobuf::Duration { seconds, nanos }), Duration::ZERO);
        }
        let long = read_duration(protobuf::Duration { seconds: i64::MAX, nanos: i32::MAX });
        assert!(long.as_secs() >= i64::MAX as u64);
    }
}
