//! [`Catalogue`] on SQLite.

use async_trait::async_trait;

use super::{SqliteStore, failed, read, read_time};
use crate::catalogue::Api;
use crate::id::{AccountId, ApiId};
use crate::page::PageRequest;
use crate::store::{Catalogue, Error, Removal, Result};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    owner_id: String,
    name: String,
    title: String,
    description: String,
    base_path: String,
    published_at: i64,
}

impl Row {
    fn read(self) -> Result<Api> {
        Ok(Api {
            id: read(&self.id)?,
            owner: read(&self.owner_id)?,
            name: self.name,
            title: self.title,
            description: self.description,
            base_path: self.base_path,
            published_at: read_time(self.published_at)?,
        })
    }
}

#[async_trait]
impl Catalogue for SqliteStore {
    async fn insert(&self, api: &Api, most: u32) -> Result<()> {
        let insert = "INSERT INTO apis (id, owner_id, name, title, description, base_path, published_at) \
                      SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 \
                      WHERE ?8 > (SELECT count(*) FROM apis WHERE owner_id = ?2)";
        let inserted = sqlx::query(insert)
            .bind(api.id.to_string())
            .bind(api.owner.to_string())
            .bind(&api.name)
            .bind(&api.title)
            .bind(&api.description)
            .bind(&api.base_path)
            .bind(api.published_at.unix_timestamp())
            .bind(most)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        if inserted.rows_affected() == 0 { Err(Error::Full("apis")) } else { Ok(()) }
    }

    async fn by_id(&self, id: ApiId) -> Result<Option<Api>> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM apis WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(Row::read).transpose()
    }

    async fn list(&self, page: &PageRequest<ApiId>) -> Result<Vec<Api>> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM apis WHERE id > ? ORDER BY id LIMIT ?")
            .bind(page.after.map(|id| id.to_string()).unwrap_or_default())
            .bind(page.limit + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.into_iter().map(Row::read).collect()
    }

    async fn remove(&self, owner: AccountId, id: ApiId) -> Result<Removal> {
        let removed = sqlx::query("DELETE FROM apis WHERE id = ? AND owner_id = ?")
            .bind(id.to_string())
            .bind(owner.to_string())
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        if removed.rows_affected() > 0 {
            return Ok(Removal::Removed);
        }
        let left = Catalogue::by_id(self, id).await?;
        Ok(if left.is_some() { Removal::NotOwner } else { Removal::Unknown })
    }
}
