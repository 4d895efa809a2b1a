//! Writes documents into etcd: one transaction makes the prefix hold exactly these. Whether they are right is asked before.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::State;
use super::wire::{Compare, DeleteRangeRequest, LESS, MOD, Operation, PutRequest, RequestOp, TxnRequest};
use super::{EtcdError, read_within};
use crate::settings::etcd::Etcd as Settings;

/// Attempts, where others write at the same time.
const ATTEMPTS: usize = 8;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Of the transaction; of what was there, where nothing differed.
    pub revision: i64,
    /// Keys that are new or changed.
    pub put: usize,
    /// Keys that are gone.
    pub deleted: usize,
}

/// Replaces what is under the prefix by `documents`, by the part of their keys behind it. What is there already is not
/// written again.
///
/// # Errors
/// When etcd can't be asked or refuses, as it does with more than 128 changed keys or 1.5 MiB in a transaction; when others
/// write all the time.
pub async fn push(settings: &Settings, documents: &BTreeMap<String, String>) -> Result<Pushed, EtcdError> {
    let wanted: BTreeMap<String, &String> =
        documents.iter().map(|(name, text)| (format!("{}{name}", settings.etcd_prefix), text)).collect();
    let (connection, mut state) = read_within(settings, settings.etcd_start_timeout).await?;
    for _ in 0..ATTEMPTS {
        let operations = operations(&state, &wanted);
        let put = operations.iter().filter(|op| matches!(op.request, Some(Operation::Put(_)))).count();
        let pushed = |revision| Pushed { revision, put, deleted: operations.len() - put };
        if operations.is_empty() {
            return Ok(pushed(state.revision));
        }
        let range = connection.range();
        let unchanged = Compare {
            result: LESS,
            target: MOD,
            key: range.key,
            mod_revision: Some(state.revision + 1),
            range_end: range.range_end,
        };
        let request = TxnRequest { compare: vec![unchanged], success: operations.clone() };
        let answer = connection.write(request).await?;
        if answer.succeeded {
            return Ok(pushed(answer.header.map_or(0, |header| header.revision)));
        }
        state = connection.read(None).await?;
    }
    Err(EtcdError::Refused(format!("somebody else wrote between each of {ATTEMPTS} attempts")))
}

fn operations(state: &State, wanted: &BTreeMap<String, &String>) -> Vec<RequestOp> {
    let key = |key: &str| Bytes::copy_from_slice(key.as_bytes());
    let gone = state.documents.keys().filter(|known| !wanted.contains_key(*known));
    let deletes = gone.map(|gone| Operation::Delete(DeleteRangeRequest { key: key(gone) }));
    let puts = wanted.iter().filter(|(name, text)| {
        state.documents.get(*name).is_none_or(|document| document.value != text.as_bytes())
    });
    let puts = puts.map(|(name, text)| Operation::Put(PutRequest { key: key(name), value: key(text) }));
    deletes.chain(puts).map(|operation| RequestOp { request: Some(operation) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::etcd::state::Document;

    #[test]
    fn only_what_differs_is_written() {
        let document = |text: &'static str| Document { modified: 1, value: text.into() };
        let documents = [("/t/a", "1"), ("/t/b", "2"), ("/t/c", "3")];
        let documents = documents.map(|(key, text)| (key.to_owned(), document(text)));
        let state = State { cluster: 1, revision: 1, documents: documents.into() };
        let (two, four) = ("2".to_owned(), "4".to_owned());
        let wanted = BTreeMap::from([
            ("/t/b".to_owned(), &two),
            ("/t/c".to_owned(), &four),
            ("/t/d".to_owned(), &two),
        ]);
        let shown: Vec<String> = operations(&state, &wanted)
            .into_iter()
            .map(|operation| match operation.request.unwrap() {
                Operation::Delete(delete) => format!("-{}", String::from_utf8_lossy(&delete.key)),
                Operation::Put(put) => format!("+{}", String::from_utf8_lossy(&put.key)),
            })
            .collect();
        assert_eq!(shown, ["-/t/a", "+/t/c", "+/t/d"]);
    }
}
