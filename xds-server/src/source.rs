//! Where desired state comes from: YAML in files or in etcd, the files that it names, issuers' keys, the filters' modules and
//! the gRPC port's own certificate. What is read here is only text and JSON; what it means is said in `gateway`.

pub mod etcd;
pub mod file;
pub mod jwks;
pub mod key_store;
pub mod key_url;
mod links;
pub mod module;
pub mod port_tls;
pub mod referenced;
pub mod revocation_list;
pub mod watch;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::gateway::SourceFile;
use etcd::{Etcd, State};
use file::{FileSource, ReadError};

/// Where the YAML is.
#[derive(Clone)]
pub enum Source {
    /// A file or a folder.
    Files(FileSource),
    /// Keys under a prefix.
    Etcd(Etcd),
}

/// The YAML as it was at one moment: still to be judged.
pub struct Candidate {
    /// Its texts, unless they can't be read.
    pub texts: Result<Vec<SourceFile>, ReadError>,
    /// When that was.
    pub moment: Moment,
}

/// A moment in the history of a source. Files have none.
#[derive(Clone, Default)]
pub struct Moment(Option<Arc<State>>);

impl Source {
    /// The folder that relative paths in the YAML start from. For YAML in etcd, it is the working directory.
    pub fn base_dir(&self) -> &Path {
        match self {
            Self::Files(files) => files.base_dir(),
            Self::Etcd(_) => Path::new("."),
        }
    }

    /// What is to be watched on disk to hear of changes; those of etcd are told by [`changed`](Self::changed).
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Files(files) => Some(files.path()),
            Self::Etcd(_) => None,
        }
    }

    /// Where it is in etcd.
    pub fn etcd(&self) -> Option<&Etcd> {
        match self {
            Self::Files(_) => None,
            Self::Etcd(etcd) => Some(etcd),
        }
    }

    /// Waits for a change that no file shows. Cancel-safe.
    pub async fn changed(&self) {
        match self {
            Self::Files(_) => std::future::pending().await,
            Self::Etcd(etcd) => etcd.changed().await,
        }
    }

    /// What there is now. Blocks.
    pub fn newest(&self) -> Candidate {
        match self {
            Self::Files(files) => Candidate { texts: files.read(), moment: Moment::default() },
            Self::Etcd(etcd) => Candidate::of(etcd.newest()),
        }
    }

    /// What there was before a moment whose YAML turned out to be wrong, if that is newer than the revision `floor`.
    pub async fn before(&self, moment: &Moment, floor: i64) -> Option<Candidate> {
        let (etcd, state) = (self.etcd()?, moment.0.as_ref()?);
        etcd.before(state, floor).await.map(Candidate::of)
    }

    /// What was kept on disk by an earlier run. Files are there themselves.
    pub fn kept(&self) -> Option<Candidate> {
        self.etcd()?.kept().map(Candidate::of)
    }

    /// What there was at that moment, and so all before it, was judged, and is on its way if it is right.
    pub fn judged(&self, moment: &Moment) {
        if let (Some(etcd), Some(state)) = (self.etcd(), &moment.0) {
            etcd.judged(state);
        }
    }

    /// What there was at that moment is to be served after a restart, too. Blocks.
    pub fn keep(&self, moment: &Moment) {
        if let (Some(etcd), Some(state)) = (self.etcd(), &moment.0) {
            etcd.keep(state);
        }
    }
}

/// As operators wrote it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => files.path().display().fmt(f),
            Self::Etcd(etcd) => etcd.settings().fmt(f),
        }
    }
}

impl Candidate {
    fn of(state: Arc<State>) -> Self {
        Self { texts: state.files(), moment: Moment(Some(state)) }
    }
}

impl Moment {
    /// etcd's revision.
    pub fn revision(&self) -> Option<i64> {
        self.0.as_ref().map(|state| state.revision)
    }
}
