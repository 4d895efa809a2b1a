//! [`Revocations`] on SQLite.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{SqliteStore, failed, read, read_time};
use crate::id::{KeyId, SessionId};
use crate::store::{Result, Revocations};

#[async_trait]
impl Revocations for SqliteStore {
    async fn version(&self, keys_since: OffsetDateTime, sessions_since: OffsetDateTime) -> Result<String> {
        // What leaves the lists as time goes by is the oldest.
        let (version, oldest_key, oldest_session): (String, Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT version, (SELECT min(revoked_at) FROM api_keys WHERE revoked_at > ?), \
             (SELECT min(revoked_at) FROM sessions WHERE revoked_at > ?) FROM revocation_version",
        )
        .bind(keys_since.unix_timestamp())
        .bind(sessions_since.unix_timestamp())
        .fetch_one(&self.pool)
        .await
        .map_err(failed)?;
        Ok(format!("{version} {oldest_key:?} {oldest_session:?}"))
    }

    async fn revoked_keys(&self, since: OffsetDateTime) -> Result<Vec<(KeyId, OffsetDateTime)>> {
        revoked(self, "SELECT id, revoked_at FROM api_keys WHERE revoked_at > ?", since).await
    }

    async fn revoked_sessions(&self, since: OffsetDateTime) -> Result<Vec<(SessionId, OffsetDateTime)>> {
        revoked(self, "SELECT id, revoked_at FROM sessions WHERE revoked_at > ?", since).await
    }
}

async fn revoked<I: std::str::FromStr>(
    store: &SqliteStore,
    select: &'static str,
    since: OffsetDateTime,
) -> Result<Vec<(I, OffsetDateTime)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as(select).bind(since.unix_timestamp()).fetch_all(&store.pool).await.map_err(failed)?;
    rows.into_iter().map(|(id, at)| Ok((read(&id)?, read_time(at)?))).collect()
}
