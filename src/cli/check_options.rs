//! What makes up a check, as options; from them the arguments of `check_create` and `check_update`.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::checks::definition::Overlap;
use crate::checks::schedule::Schedule;
use crate::cli::connection::Session;
use crate::cli::error::{CliError, unexpected};
use crate::cli::values::{self, Target};
use crate::names::{AdapterName, CheckName, PoolName, ProfileName};
use crate::protocol::Requirement;

/// The options that `check create` and `check set` share.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckOptions {
    /// Parameter KEY=VALUE; repeat for several. JSON where VALUE is an integer, boolean, list or object, else text
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::parameter, allow_hyphen_values = true)]
    param: Vec<(String, Value)>,
    /// All parameters as one JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json_object, conflicts_with = "param")]
    parameters: Option<Map<String, Value>>,
    /// Schedule: that of this profile
    #[arg(long, value_name = "NAME", group = "when")]
    profile: Option<ProfileName>,
    /// Schedule: crontab(5) text, such as "15 2 * * *"; six fields begin with seconds
    #[arg(long, value_name = "CRON", group = "when")]
    cron: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron", conflicts_with_all = ["every", "profile"])]
    zone: Option<String>,
    /// Schedule: an interval, such as 5m
    #[arg(long, value_name = "INTERVAL", group = "when")]
    every: Option<String>,
    /// For which nodes: all, node:NAME, pattern:GLOB, label:KEY=VALUE, aggregate:GLOB or zone:GLOB; repeat for several (all labels must match)
    #[arg(long, value_name = "TARGET", value_parser = values::target)]
    target: Vec<Target>,
    /// How long one batch may take, retries included: seconds, or 90s, 5m
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    timeout: Option<i64>,
    /// How often the adapter asks again within that time after a transport error, 0 to 10 [default: 2]
    #[arg(long, value_name = "N")]
    retries: Option<i64>,
    /// In which pool it counts, and whether the pool requires it; repeat for several
    #[arg(long, value_name = "POOL[=required|advisory]", value_parser = values::pool)]
    pool: Vec<(PoolName, Requirement)>,
    /// So many failures in a row make a node untrusted
    #[arg(long, value_name = "N")]
    fail_after: Option<u32>,
    /// So many passes bring it back
    #[arg(long, value_name = "N")]
    recover_after: Option<u32>,
    /// At least so long after the last failure
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    hold_down: Option<i64>,
    /// Most nodes in one batch, 1 to 200
    #[arg(long, value_name = "N")]
    batch_size: Option<i64>,
    /// What becomes of a node that is due while its last run is not over [default: skip]
    #[arg(long, value_name = "skip|queue", value_parser = values::overlap)]
    overlap: Option<Overlap>,
    /// Most batches of scheduled runs under way at a time, 1 to 1000; none lifts the limit
    #[arg(long, value_name = "N|none", value_parser = values::max_batches)]
    max_batches: Option<values::MaxBatches>,
    /// Run only where this check has passed; repeat for several, or none
    #[arg(long, value_name = "CHECK|none", value_parser = values::after)]
    after: Vec<values::After>,
    /// For people
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    description: Option<String>,
    /// Accept an adapter that has not announced itself
    #[arg(long)]
    allow_missing_adapter: bool,
}

impl CheckOptions {
    /// The schedule asked for, validated.
    fn schedule(&self) -> Result<Option<Value>, CliError> {
        if let Some(profile) = &self.profile {
            return Ok(Some(json!({ "profile": profile })));
        }
        inline_schedule(self.cron.as_deref(), self.zone.as_deref(), self.every.as_deref())
    }

    /// The members given, by the service's names.
    fn members(&self) -> Result<Map<String, Value>, CliError> {
        let mut members = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        put("schedule", self.schedule()?);
        put("targets", values::targets(&self.target).map(|targets| json!(targets)));
        put("timeout_s", self.timeout.map(Value::from));
        put("retries", self.retries.map(Value::from));
        put("pools", values::pools(&self.pool).map(|pools| json!(pools)));
        put("batch_size", self.batch_size.map(Value::from));
        put("overlap", self.overlap.map(|overlap| json!(overlap)));
        put("max_batches", self.max_batches.map(|values::MaxBatches(most)| json!(most)));
        put("after", values::all_of(&self.after).map(|after| json!(after)));
        put("description", self.description.clone().map(Value::from));
        put("allow_missing_adapter", self.allow_missing_adapter.then_some(json!(true)));
        put("parameters", self.parameters.clone().map(Value::from));
        Ok(members)
    }

    /// What is said about judgement.
    fn judgement(&self) -> Map<String, Value> {
        let given = [
            ("fail_after", self.fail_after.map(Value::from)),
            ("recover_after", self.recover_after.map(Value::from)),
            ("hold_down_ms", self.hold_down.map(|seconds| Value::from(seconds * 1000))),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The argument `check` of `check_create`.
    ///
    /// # Errors
    /// A schedule that is none.
    pub fn new_check(
        &self,
        name: &CheckName,
        adapter: &AdapterName,
        ttl: Option<i64>,
        disabled: bool,
    ) -> Result<Value, CliError> {
        let mut members = self.members()?;
        members.insert("name".to_owned(), json!(name));
        members.insert("adapter".to_owned(), json!(adapter));
        if !self.param.is_empty() {
            members.insert("parameters".to_owned(), Value::Object(self.param.iter().cloned().collect()));
        }
        let judgement = self.judgement();
        if !judgement.is_empty() {
            members.insert("judgement".to_owned(), Value::Object(judgement));
        }
        if let Some(ttl) = ttl {
            members.insert("ttl_s".to_owned(), json!(ttl));
        }
        if disabled {
            members.insert("enabled".to_owned(), json!(false));
        }
        if !members.contains_key("schedule") {
            return Err(CliError::local("a check needs a schedule").hint("give --profile, --cron or --every"));
        }
        Ok(Value::Object(members))
    }

    /// The argument `changes` of `check_update`. Parameters and judgement given one by one are added to those in force,
    /// for which the service is asked.
    ///
    /// # Errors
    /// A schedule that is none, or what the service says.
    pub async fn changes(
        &self,
        session: &Session,
        name: &CheckName,
        unset_param: &[String],
    ) -> Result<Map<String, Value>, CliError> {
        let mut members = self.members()?;
        let judgement = self.judgement();
        let some_parameters = !self.param.is_empty() || !unset_param.is_empty();
        if judgement.is_empty() && !some_parameters {
            return Ok(members);
        }
        let current = session.checks("check_show", json!({ "name": name })).await?;
        let in_force =
            |member: &str| current.get(member).and_then(Value::as_object).cloned().ok_or_else(|| unexpected(member));
        if !judgement.is_empty() {
            let mut next = in_force("judgement")?;
            next.extend(judgement);
            members.insert("judgement".to_owned(), Value::Object(next));
        }
        if some_parameters {
            let mut next = in_force("parameters")?;
            next.retain(|key, _| !unset_param.contains(key));
            next.extend(self.param.iter().cloned());
            members.insert("parameters".to_owned(), Value::Object(next));
        }
        Ok(members)
    }
}

/// A schedule of cron text or interval, validated.
///
/// # Errors
/// What is wrong with it.
pub fn inline_schedule(cron: Option<&str>, zone: Option<&str>, every: Option<&str>) -> Result<Option<Value>, CliError> {
    let schedule = match (cron, every) {
        (Some(cron), _) => Schedule::cron(cron, zone).map_err(|error| format!("--cron: {error}")),
        (None, Some(every)) => match Schedule::parse(every, None) {
            Ok(Schedule::Cron { .. }) => {
                Err("--every: write an interval such as 5m; cron text goes to --cron".to_owned())
            }
            parsed => parsed.map_err(|error| format!("--every: {error}")),
        },
        (None, None) => return Ok(None),
    };
    schedule.map(|schedule| Some(json!(schedule))).map_err(CliError::local)
}
