//! [`Sessions`] on SQLite.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::{SqliteStore, failed, read};
use crate::id::{AccountId, SessionId};
use crate::secret::Sha256Hex;
use crate::store::{Result, Rotation, Sessions, StoredRefreshToken};

#[async_trait]
impl Sessions for SqliteStore {
    async fn start(
        &self,
        session: SessionId,
        account: AccountId,
        first: &StoredRefreshToken,
        now: OffsetDateTime,
    ) -> Result<()> {
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query(
            "DELETE FROM sessions WHERE account_id = ?1 AND NOT EXISTS \
             (SELECT 1 FROM refresh_tokens t WHERE t.session_id = sessions.id AND t.expires_at > ?2)",
        )
        .bind(account.to_string())
        .bind(now.unix_timestamp())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("INSERT INTO sessions (id, account_id, started_at) VALUES (?, ?, ?)")
            .bind(session.to_string())
            .bind(account.to_string())
            .bind(now.unix_timestamp())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        insert_token(&mut transaction, &session.to_string(), first).await?;
        transaction.commit().await.map_err(failed)
    }

    async fn rotate(
        &self,
        presented: &Sha256Hex,
        next: &StoredRefreshToken,
        now: OffsetDateTime,
    ) -> Result<Rotation> {
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let used: Option<(String,)> = sqlx::query_as(
            "UPDATE refresh_tokens SET used_at = ?2 \
             WHERE sha256 = ?1 AND used_at IS NULL AND expires_at > ?2 \
             AND session_id IN (SELECT id FROM sessions WHERE revoked_at IS NULL) RETURNING session_id",
        )
        .bind(presented.to_string())
        .bind(now.unix_timestamp())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let rotation = match used {
            Some((session,)) => {
                insert_token(&mut transaction, &session, next).await?;
                let (account,): (String,) = sqlx::query_as("SELECT account_id FROM sessions WHERE id = ?")
                    .bind(&session)
                    .fetch_one(&mut *transaction)
                    .await
                    .map_err(failed)?;
                Rotation::Rotated(read(&account)?, read(&session)?)
            }
            None => {
                let reused = revoke(&mut transaction, presented, now, "AND used_at IS NOT NULL").await?;
                reused.map_or(Rotation::Refused, |(account, session)| Rotation::Reused(account, session))
            }
        };
        transaction.commit().await.map_err(failed)?;
        Ok(rotation)
    }

    async fn end(&self, token: &Sha256Hex, now: OffsetDateTime) -> Result<Option<(AccountId, SessionId)>> {
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        revoke(&mut connection, token, now, "").await
    }
}

async fn insert_token(
    connection: &mut SqliteConnection,
    session: &str,
    token: &StoredRefreshToken,
) -> Result<()> {
    sqlx::query("INSERT INTO refresh_tokens (sha256, session_id, expires_at) VALUES (?, ?, ?)")
        .bind(token.digest.to_string())
        .bind(session)
        .bind(token.expires_at.unix_timestamp())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Revokes the token's session where it is not revoked yet; `condition` narrows by the token.
async fn revoke(
    connection: &mut SqliteConnection,
    token: &Sha256Hex,
    now: OffsetDateTime,
    condition: &'static str,
) -> Result<Option<(AccountId, SessionId)>> {
    let update = format!(
        "UPDATE sessions SET revoked_at = ?2 WHERE revoked_at IS NULL \
         AND id = (SELECT session_id FROM refresh_tokens WHERE sha256 = ?1 {condition}) \
         RETURNING account_id, id"
    );
    let revoked: Option<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(update))
        .bind(token.to_string())
        .bind(now.unix_timestamp())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    revoked.map(|(account, session)| Ok((read(&account)?, read(&session)?))).transpose()
}
