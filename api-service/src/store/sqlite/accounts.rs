//! [`Accounts`] on SQLite.

use async_trait::async_trait;

use super::{SqliteStore, failed, read, read_time};
use crate::accounts::{Account, EmailAddress, PasswordHash};
use crate::id::AccountId;
use crate::store::{Accounts, Result};

#[async_trait]
impl Accounts for SqliteStore {
    async fn insert(&self, account: &Account, password: &PasswordHash) -> Result<()> {
        let insert = "INSERT INTO accounts (id, email, name, password_hash, registered_at) \
                      VALUES (?, ?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(account.id.to_string())
            .bind(account.email.as_str())
            .bind(account.name.as_deref())
            .bind(password.as_str())
            .bind(account.registered_at.unix_timestamp())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn by_id(&self, id: AccountId) -> Result<Option<Account>> {
        let row: Option<(String, Option<String>, i64)> =
            sqlx::query_as("SELECT email, name, registered_at FROM accounts WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
        let account = |(email, name, registered_at): (String, _, _)| {
            Ok(Account { id, email: read(&email)?, name, registered_at: read_time(registered_at)? })
        };
        row.map(account).transpose()
    }

    async fn credentials(&self, email: &EmailAddress) -> Result<Option<(AccountId, PasswordHash)>> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT id, password_hash FROM accounts WHERE email = ?")
                .bind(email.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
        row.map(|(id, hash)| Ok((read(&id)?, PasswordHash::stored(hash)))).transpose()
    }
}
