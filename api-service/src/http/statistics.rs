//! `/v1/statistics`: what the caller used, by day.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::extract::{Json, Query};
use super::identity::Caller;
use super::problem::Problem;
use super::views::PageView;
use crate::page::PageRequest;
use crate::statistics::{DailyTotal, UsageReport};

/// Calls to count.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUsage {
    /// Name of the API.
    #[schema(min_length = 1, max_length = 100)]
    api: String,
    /// Name of the route.
    #[schema(max_length = 100)]
    route: Option<String>,
    /// HTTP status they were answered with.
    #[schema(minimum = 100, maximum = 599)]
    status: u16,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000)]
    count: u64,
    /// `YYYY-MM-DD` in UTC; today where absent.
    #[schema(format = Date)]
    day: Option<String>,
}

/// Which totals.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TotalsParams {
    /// First day, `YYYY-MM-DD`; 29 days before `to` where absent.
    from: Option<String>,
    /// Last day; today where absent.
    to: Option<String>,
    /// Of this API only.
    api: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Calls of one API on one day.
#[derive(Serialize, ToSchema)]
pub struct TotalView {
    #[schema(format = Date)]
    day: String,
    api: String,
    /// All of them.
    requests: u64,
    /// Answered 4xx.
    client_errors: u64,
    /// Answered 5xx.
    server_errors: u64,
}

impl From<DailyTotal> for TotalView {
    fn from(total: DailyTotal) -> Self {
        Self {
            day: total.day.to_string(),
            api: total.api,
            requests: total.requests,
            client_errors: total.client_errors,
            server_errors: total.server_errors,
        }
    }
}

/// Count calls of the caller
#[utoipa::path(
    post, path = "/v1/statistics", tag = "statistics",
    security(("access_token" = []), ("api_key" = [])),
    request_body = NewUsage,
    responses((status = 204, description = "Counted")),
)]
pub async fn record(
    State(app): State<Shared>,
    Caller(caller): Caller,
    Json(new): Json<NewUsage>,
) -> Result<StatusCode, Problem> {
    let report = UsageReport {
        api: &new.api,
        route: new.route.as_deref(),
        status: new.status,
        requests: new.count,
        day: new.day.as_deref(),
    };
    app.statistics.record(caller, report).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Daily totals of the caller, by day and API
#[utoipa::path(
    get, path = "/v1/statistics", tag = "statistics",
    security(("access_token" = []), ("api_key" = [])),
    params(TotalsParams),
    responses((status = 200, description = "A page of them", body = PageView<TotalView>)),
)]
pub async fn totals(
    State(app): State<Shared>,
    Caller(caller): Caller,
    Query(params): Query<TotalsParams>,
) -> Result<axum::Json<PageView<TotalView>>, Problem> {
    let page = PageRequest::parse(params.after.as_deref(), params.limit)?;
    let TotalsParams { from, to, api, .. } = &params;
    let totals = app.statistics.totals(caller, from.as_deref(), to.as_deref(), api.as_deref(), &page).await?;
    Ok(axum::Json(PageView::of(totals, TotalView::from)))
}
