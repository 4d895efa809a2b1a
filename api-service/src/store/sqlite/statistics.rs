//! [`DailyStatistics`] on SQLite.

use async_trait::async_trait;

use super::{SqliteStore, failed, read};
use crate::page::PageRequest;
use crate::statistics::{DailyStatistics, DailyTotal, TotalKey, TotalsQuery, Usage};
use crate::store::{Error, Result};

#[async_trait]
impl DailyStatistics for SqliteStore {
    async fn record(&self, usage: &Usage) -> Result<()> {
        let insert = "INSERT INTO daily_statistics (consumer_id, day, api, route, status, requests) \
                      VALUES (?, ?, ?, ?, ?, ?) \
                      ON CONFLICT DO UPDATE SET requests = requests + excluded.requests";
        sqlx::query(insert)
            .bind(usage.consumer.to_string())
            .bind(usage.day.to_string())
            .bind(&usage.api)
            .bind(&usage.route)
            .bind(usage.status)
            .bind(i64::try_from(usage.requests).map_err(Error::backend)?)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn totals(&self, query: &TotalsQuery, page: &PageRequest<TotalKey>) -> Result<Vec<DailyTotal>> {
        let (day, api) = match &page.after {
            Some(after) => (after.day.to_string(), after.api.as_str()),
            None => (String::new(), ""),
        };
        let rows: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(
            "SELECT day, api, sum(requests), \
                    sum(CASE WHEN status BETWEEN 400 AND 499 THEN requests ELSE 0 END), \
                    sum(CASE WHEN status BETWEEN 500 AND 599 THEN requests ELSE 0 END) \
             FROM daily_statistics \
             WHERE consumer_id = ?1 AND day BETWEEN ?2 AND ?3 AND (?4 IS NULL OR api = ?4) \
                   AND (day, api) > (?5, ?6) \
             GROUP BY day, api ORDER BY day, api LIMIT ?7",
        )
        .bind(query.consumer.to_string())
        .bind(query.from.to_string())
        .bind(query.to.to_string())
        .bind(query.api.as_deref())
        .bind(day)
        .bind(api)
        .bind(page.limit + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        rows.into_iter().map(total).collect()
    }
}

fn total(
    (day, api, requests, client_errors, server_errors): (String, String, i64, i64, i64),
) -> Result<DailyTotal> {
    let count = |number: i64| u64::try_from(number).map_err(Error::backend);
    Ok(DailyTotal {
        day: read(&day)?,
        api,
        requests: count(requests)?,
        client_errors: count(client_errors)?,
        server_errors: count(server_errors)?,
    })
}
