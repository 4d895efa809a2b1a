//! A look at the source: the newest configuration that is right, and what is wrong with the newest of all.
//!
//! Files are as they are. etcd has a history, and there a wrong transaction may stand behind a right one that a server has
//! not seen: since it was busy with the one before, or has just started. So it looks back, until something is right. All
//! replicas end at the same configuration, however late they look.

use std::sync::Arc;

use super::{ConfigError, judge};
use crate::gateway::ReferencedFiles;
use crate::rollout::Desired;
use crate::source::file::ReadError;
use crate::source::{Candidate, Moment, Source};

/// Moments looked back at most. An operator who is wrong more often than that in a row has a server that starts later.
const MAX_BACK: usize = 64;

/// Something that can be served, and what is wrong with what is newer.
pub struct First {
    pub(super) desired: Desired,
    pub(super) moment: Moment,
    pub(super) newest: Moment,
    pub(super) error: Option<ConfigError>,
}

/// The newest configuration that can be served: where etcd's is wrong, the one before it, or the one kept on disk.
///
/// # Errors
/// Why the newest can't be served, if none can.
pub async fn first(source: &Source) -> Result<First, ConfigError> {
    let nothing = Arc::default();
    let floor = source.kept().and_then(|kept| kept.moment.revision()).unwrap_or(0);
    let Looked { newest, mut found, error } = look_from(source, &nothing, floor).await;
    if let (None, Some(kept)) = (&found, source.kept()) {
        let (moment, judged) = judged(source, Some(kept), &nothing).await;
        found = judged.ok().map(|desired| (desired, moment));
    }
    match (found, error) {
        (Some((desired, moment)), error) => {
            // At once, as for every later one: the next start may find no etcd.
            let (kept, at) = (source.clone(), moment.clone());
            drop(tokio::task::spawn_blocking(move || kept.keep(&at)).await);
            Ok(First { desired, moment, newest, error })
        }
        (None, error) => Err(error.unwrap_or(ConfigError::Read(ReadError::NoKeys))),
    }
}

/// What came of a look.
pub(super) struct Looked {
    /// What there was.
    pub newest: Moment,
    /// The newest that is right.
    pub found: Option<(Desired, Moment)>,
    /// What is wrong with the newest of all.
    pub error: Option<ConfigError>,
}

/// Looks at what there is now, and where that is wrong at what there was before, down to the revision `floor`, which is
/// served already.
pub(super) async fn look(source: &Source, current: &Desired, floor: i64) -> Looked {
    look_from(source, &Arc::new(current.files.clone()), floor).await
}

async fn look_from(source: &Source, files: &Arc<ReferencedFiles>, floor: i64) -> Looked {
    let (mut moment, mut outcome) = judged(source, None, files).await;
    let mut looked = Looked { newest: moment.clone(), found: None, error: None };
    for _ in 0..MAX_BACK {
        match outcome {
            Ok(desired) => {
                looked.found = Some((desired, moment));
                break;
            }
            Err(error) => looked.error = looked.error.or(Some(error)),
        }
        let Some(before) = source.before(&moment, floor).await else { break };
        (moment, outcome) = judged(source, Some(before), files).await;
    }
    looked
}

/// Judges a candidate, or the newest. The files may be on a slow disk, and many.
async fn judged(
    source: &Source,
    candidate: Option<Candidate>,
    files: &Arc<ReferencedFiles>,
) -> (Moment, Result<Desired, ConfigError>) {
    let (source, files) = (source.clone(), Arc::clone(files));
    let judged = tokio::task::spawn_blocking(move || {
        let Candidate { texts, moment } = candidate.unwrap_or_else(|| source.newest());
        (moment, judge(texts, source.base_dir(), &files))
    });
    judged.await.unwrap_or_else(|_| (Moment::default(), Err(ReadError::GaveUp.into())))
}
