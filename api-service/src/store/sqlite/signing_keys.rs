//! [`SigningKeys`] on SQLite. The keys are in the clear: who can read the file can sign. It is created
//! readable to its owner only.

use async_trait::async_trait;

use super::{SqliteStore, failed, read_time};
use crate::secret::Secret;
use crate::store::{Result, SigningKeys, StoredSigningKey};

#[async_trait]
impl SigningKeys for SqliteStore {
    async fn insert_first(&self, key: &StoredSigningKey) -> Result<()> {
        let insert = "INSERT INTO signing_keys (kid, pem, created_at) \
                      SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM signing_keys)";
        sqlx::query(insert)
            .bind(&key.kid)
            .bind(key.pem.expose())
            .bind(key.created_at.unix_timestamp())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn all(&self) -> Result<Vec<StoredSigningKey>> {
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as("SELECT kid, pem, created_at FROM signing_keys ORDER BY created_at DESC, kid")
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        let key = |(kid, pem, created_at): (_, String, _)| {
            Ok(StoredSigningKey { kid, pem: Secret::new(pem), created_at: read_time(created_at)? })
        };
        rows.into_iter().map(key).collect()
    }
}
