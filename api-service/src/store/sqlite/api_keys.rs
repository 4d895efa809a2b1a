//! [`ApiKeys`] on SQLite.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{SqliteStore, failed, read, read_time};
use crate::api_keys::{ActiveKey, ApiKey};
use crate::id::{AccountId, KeyId};
use crate::page::PageRequest;
use crate::secret::Sha256Hex;
use crate::store::{ApiKeys, Error, Result};

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn insert(&self, key: &ApiKey, digest: &Sha256Hex, most: u32) -> Result<()> {
        let insert = "INSERT INTO api_keys (id, account_id, name, sha256, created_at) \
                      SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 > \
                      (SELECT count(*) FROM api_keys WHERE account_id = ?2 AND revoked_at IS NULL) \
                      AND ?6 * 10 > (SELECT count(*) FROM api_keys WHERE account_id = ?2 AND revoked_at > ?5 - 3600)";
        let inserted = sqlx::query(insert)
            .bind(key.id.to_string())
            .bind(key.owner.to_string())
            .bind(&key.name)
            .bind(digest.to_string())
            .bind(key.created_at.unix_timestamp())
            .bind(most)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        if inserted.rows_affected() == 0 { Err(Error::Full("keys")) } else { Ok(()) }
    }

    async fn list(&self, owner: AccountId, page: &PageRequest<KeyId>) -> Result<Vec<ApiKey>> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT id, name, created_at FROM api_keys \
             WHERE account_id = ? AND id > ? AND revoked_at IS NULL ORDER BY id LIMIT ?",
        )
        .bind(owner.to_string())
        .bind(page.after.map(|id| id.to_string()).unwrap_or_default())
        .bind(page.limit + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let key = |(id, name, created_at): (String, _, _)| {
            Ok(ApiKey { id: read(&id)?, owner, name, created_at: read_time(created_at)? })
        };
        rows.into_iter().map(key).collect()
    }

    async fn revoke(&self, owner: AccountId, id: KeyId, at: OffsetDateTime) -> Result<Option<Sha256Hex>> {
        let digest: Option<(String,)> = sqlx::query_as(
            "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND account_id = ? AND revoked_at IS NULL \
             RETURNING sha256",
        )
        .bind(at.unix_timestamp())
        .bind(id.to_string())
        .bind(owner.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        digest.map(|(digest,)| read(&digest)).transpose()
    }

    async fn active(&self, digest: &Sha256Hex) -> Result<Option<ActiveKey>> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT account_id, id FROM api_keys WHERE sha256 = ? AND revoked_at IS NULL")
                .bind(digest.to_string())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
        row.map(|(owner, id)| Ok(ActiveKey { owner: read(&owner)?, id: read(&id)? })).transpose()
    }
}
