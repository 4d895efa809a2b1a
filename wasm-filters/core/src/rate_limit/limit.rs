//! One limit of a policy, compiled: its key, and the buckets that requests are counted in, by their plan.

use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_config::{self as config, GlobalLimit, PlanSource};

use super::fields::Fields;
use super::global::Global;
use super::key::{self, KeySource, Part};
use crate::ConfigError;
use crate::bucket::Bucket;
use crate::quota::MAX_TOKENS;

const MORE_THAN_GRANTED: u64 = MAX_TOKENS + 1;

/// One limit of a policy.
#[derive(Debug)]
pub(super) struct Limit {
    parts: Vec<Part>,
    pub cost: u64,
    pub shadow: bool,
    /// Of whoever has no plan of its own.
    own: Rate,
    plans: Option<Plans>,
}

/// How fast a bucket refills, how much it holds, and how a client is told.
#[derive(Debug)]
pub(super) struct Rate {
    name: String,
    /// Of a limit that is shared: what this Envoy counts in while nobody can say.
    pub bucket: Bucket,
    pub global: Option<Global>,
    pub fields: Rc<Fields>,
}

/// What differs by plan.
#[derive(Debug)]
struct Plans {
    by: PlanSource,
    /// In the order of their names.
    rates: Vec<(Vec<u8>, Rate)>,
}

/// Which bucket a request is counted in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub bytes: Vec<u8>,
    /// Which of the limit's plans; none of them where it is `None`.
    plan: Option<usize>,
}

impl Limit {
    pub fn new(config: &config::Limit, path: &str) -> Result<Self, ConfigError> {
        let wrong = |place: String| {
            move |(field, reason): (&str, String)| ConfigError::new(format!("{place}.{field}"), reason)
        };
        let parts = config.key.iter().enumerate().map(|(index, part)| {
            let place = format!("{path}.key[{index}]");
            Part::new(part).map_err(wrong(place))
        });
        let parts = parts.collect::<Result<_, _>>()?;
        let refuse = |reason: &str| Err(ConfigError::new(format!("{path}.cost"), reason));
        match config.cost {
            0 => return refuse("is 0"),
            cost if config.burst > 0 && cost > config.burst => {
                return refuse("is more than the bucket ever holds, so no request could pass");
            }
            MORE_THAN_GRANTED.. if config.global.is_some() => {
                return refuse("is more than a shared bucket grants");
            }
            _ => {}
        }
        let rate = config::PlanLimit {
            name: config.name.clone(),
            limit: config.limit,
            period_ms: config.period_ms,
            burst: config.burst,
        };
        let own = Rate::new(&rate, config.cost, config.global.as_ref(), path)?;
        let plans = config.plans.as_ref().map(|plans| {
            let by = key::plan_source(&plans.by).map_err(wrong(format!("{path}.plans.by")))?;
            // A `BTreeMap` gives them in the order of their bytes.
            let rates = plans.limits.iter().map(|(plan, rate)| {
                let path = format!("{path}.plans.limits.{plan}");
                let rate = Rate::new(rate, config.cost, config.global.as_ref(), &path)?;
                Ok((plan.clone().into_bytes(), rate))
            });
            Ok(Plans { by, rates: rates.collect::<Result<_, ConfigError>>()? })
        });
        Ok(Self { parts, cost: config.cost, shadow: config.shadow, own, plans: plans.transpose()? })
    }

    /// The bucket of a request.
    pub fn key(&self, request: &dyn KeySource) -> Key {
        let plan = self.plans.as_ref().and_then(|plans| plans.of(request));
        Key { bytes: key::key(&self.rate(plan).name, &self.parts, request), plan }
    }

    /// What holds for a bucket.
    pub fn rate_of(&self, key: &Key) -> &Rate {
        self.rate(key.plan)
    }

    fn rate(&self, plan: Option<usize>) -> &Rate {
        let plans = self.plans.as_ref().map_or(&[][..], |plans| &plans.rates);
        plan.and_then(|plan| plans.get(plan)).map_or(&self.own, |(_, rate)| rate)
    }
}

impl Plans {
    fn of(&self, request: &dyn KeySource) -> Option<usize> {
        let plan = key::plan(&self.by, request)?;
        self.rates.binary_search_by(|(name, _)| name.as_slice().cmp(&plan)).ok()
    }
}

impl Rate {
    /// `rate` of a limit whose requests take `cost`.
    fn new(
        rate: &config::PlanLimit,
        cost: u64,
        global: Option<&GlobalLimit>,
        path: &str,
    ) -> Result<Self, ConfigError> {
        let refuse = |field: &str, reason: &str| Err(ConfigError::new(format!("{path}.{field}"), reason));
        for (field, value) in [("limit", rate.limit), ("period_ms", rate.period_ms), ("burst", rate.burst)] {
            if value == 0 {
                return refuse(field, "is 0");
            }
        }
        if cost > rate.burst {
            return refuse("burst", "is less than a request costs, so none could pass");
        }
        let period = Duration::from_millis(rate.period_ms);
        let Some(bucket) = Bucket::new(rate.limit, period, rate.burst) else {
            return refuse("limit", "makes no bucket");
        };
        let (global, bucket) = match global {
            None => (None, bucket),
            Some(global) => match Global::new(rate, cost, global) {
                Some((global, share)) => (Some(global), share),
                None => return refuse("limit", "makes no bucket that can be shared"),
            },
        };
        let fields = Rc::new(Fields::new(&rate.name, rate.limit, period));
        Ok(Self { name: rate.name.clone(), bucket, global, fields })
    }
}
