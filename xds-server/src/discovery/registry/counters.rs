//! Totals of what went over all streams, by type: plain atomics for whoever exports metrics.
//!
//! Types are counted under their short names, so that no peer can make up a label.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::discovery::session::Answer;
use crate::snapshot::TypeUrl;

/// The labels, in send order; the last counts every type without a short name.
const LABELS: [&str; 9] = ["CDS", "EDS", "SDS", "ECDS", "LDS", "RDS", "VHDS", "RTDS", "other"];

/// Totals by type since the start.
#[derive(Debug, Default)]
pub struct Counters {
    by_type: [Cells; LABELS.len()],
}

#[derive(Debug, Default)]
struct Cells {
    pushes: AtomicU64,
    acks: AtomicU64,
    nacks: AtomicU64,
}

/// The totals of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// `CDS`, `EDS`, …, `other`.
    pub type_name: &'static str,
    /// Responses handed to streams.
    pub pushes: u64,
    /// Responses accepted.
    pub acks: u64,
    /// Responses refused.
    pub nacks: u64,
}

impl Counters {
    /// One count a type, in send order; also types nothing was sent of.
    pub fn read(&self) -> impl Iterator<Item = Count> {
        LABELS.iter().zip(&self.by_type).map(|(type_name, cells)| Count {
            type_name,
            pushes: cells.pushes.load(Ordering::Relaxed),
            acks: cells.acks.load(Ordering::Relaxed),
            nacks: cells.nacks.load(Ordering::Relaxed),
        })
    }

    pub(super) fn push(&self, type_url: &TypeUrl) {
        self.cells(type_url).pushes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answer(&self, answer: &Answer) {
        let cell = match answer {
            Answer::Ack { type_url, .. } => &self.cells(type_url).acks,
            Answer::Nack { type_url, .. } => &self.cells(type_url).nacks,
        };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    fn cells(&self, type_url: &TypeUrl) -> &Cells {
        let label = type_url.short();
        let index = LABELS.iter().position(|known| *known == label).unwrap_or(LABELS.len() - 1);
        &self.by_type[index]
    }
}
