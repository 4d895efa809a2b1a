//! Every store in one SQLite database: what `api-service` runs on with nothing else installed.
//!
//! SQLite has one writer at a time. Each transaction here begins with its write, so none ever has to upgrade
//! a read lock, which is what makes SQLite answer "database is locked" in spite of the busy timeout.

mod accounts;
mod api_keys;
mod catalogue;
mod location;
mod revocations;
mod sessions;
mod signing_keys;
mod statistics;

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use time::OffsetDateTime;

use super::{Error, Health, Result, Unique};

pub use location::Location;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// All stores on one pool of connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the database, making it where there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be opened or is of a newer schema.
    pub async fn open(location: &Location) -> anyhow::Result<Self> {
        location.prepare().context("cannot create the database file")?;
        let mut pool = SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(3)).max_connections(8);
        if location.in_memory() {
            // The data lives as long as its connection: keep one, for ever.
            pool = pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        }
        let pool = pool.connect_with(location.options()).await.context("cannot open the database")?;
        MIGRATIONS.run(&pool).await.context("cannot migrate the database")?;
        Ok(Self { pool })
    }

    /// Waits for running statements, then closes every connection, so that SQLite tidies its files.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[async_trait]
impl Health for SqliteStore {
    async fn check(&self) -> Result<()> {
        // Of a table: `SELECT 1` succeeds without touching the database.
        sqlx::query("SELECT count(*) FROM signing_keys").execute(&self.pool).await.map_err(failed)?;
        Ok(())
    }
}

/// Errors by constraint: SQLite names no constraint, but says `UNIQUE constraint failed: accounts.email`.
fn failed(error: sqlx::Error) -> Error {
    if let sqlx::Error::Database(database) = &error {
        use sqlx::error::ErrorKind;
        let unique = [("accounts.email", Unique::AccountEmail), ("apis.name", Unique::ApiName)];
        let named = unique.iter().find(|(column, _)| database.message().ends_with(column));
        match (database.kind(), named) {
            (ErrorKind::UniqueViolation, Some((_, unique))) => return Error::Taken(*unique),
            (ErrorKind::ForeignKeyViolation, _) => return Error::NoAccount,
            _ => {}
        }
    }
    Error::backend(error)
}

/// Reads a column that we wrote; anything else in it is a fault of the database, not of the caller.
fn read<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::backend(format!("the database holds an odd value: {text:?}")))
}

fn read_time(seconds: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(Error::backend)
}
