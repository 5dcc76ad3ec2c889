//! The numbers that a rig's and a town's owner may set.

use actix_web::HttpResponse;
use rig::{Input, Policy, PolicyError, town::TownPolicy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::{Body, Fields},
};

/// `GET R/policy`.
pub(crate) async fn of_rig(ctx: Ctx) -> Result<HttpResponse, Failure> {
    Ok(answer::ok(
        ctx.rig()?.look(|rig, _| rig.policy().clone()).await?,
    ))
}

/// `PUT R/policy`: the whole policy; fields that are left out get their defaults.
pub(crate) async fn set_of_rig(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let policy = read_of_rig(body.fields()?)?;
    rig.tell(Input::SetPolicy(policy.clone())).await?;
    Ok(answer::ok(policy))
}

/// `GET /api/towns/{t}/policy`.
pub(crate) async fn of_town(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let town = ctx.town().await?;
    let policy = town.look(|town, _| town.record().policy.clone()).await?;
    Ok(answer::ok(policy))
}

/// `PUT /api/towns/{t}/policy`: the whole policy; fields that are left out get their defaults.
pub(crate) async fn set_of_town(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let policy = read_of_town(body.fields()?)?;
    let town = ctx.town().await?;
    town.set_policy(policy.clone(), ctx.who()).await?;
    tracing::info!(by = %ctx.who(), "a town's policy was set");
    Ok(answer::ok(policy))
}

fn read_of_rig(mut fields: Fields) -> Result<Policy, Failure> {
    let policy: Policy = whole(&mut fields);
    checked(fields, policy.validate())
}

fn read_of_town(mut fields: Fields) -> Result<TownPolicy, Failure> {
    let day = fields.limit("day");
    let policy = TownPolicy {
        day,
        ..whole(&mut fields)
    };
    checked(fields, policy.validate())
}

/// Each field by itself, so that each wrong one is named.
fn whole<T: Serialize + DeserializeOwned + Default>(fields: &mut Fields) -> T {
    let defaults = json!(T::default());
    let names = defaults.as_object().map(|map| map.keys().cloned());
    let mut given = Map::new();
    for name in names.into_iter().flatten() {
        let Some(value) = fields.take(&name) else {
            continue;
        };
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        match serde_json::from_value::<T>(alone) {
            Ok(_) => {
                given.insert(name, value);
            }
            Err(error) => fields.issue(&name, error.to_string()),
        }
    }
    serde_json::from_value(Value::Object(given)).unwrap_or_default()
}

fn checked<T>(mut fields: Fields, policy: Result<T, Vec<PolicyError>>) -> Result<T, Failure> {
    for error in policy.as_ref().err().into_iter().flatten() {
        fields.issue(error.field, format!("must be {}", error.rule));
    }
    fields.finish()?;
    policy.map_err(|_| Failure::internal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn a_policy_is_whole_and_its_mistakes_are_named() {
        let given = json!({"attempts_max": 3, "unknown": true});
        let expected = Policy {
            attempts_max: 3,
            ..Policy::default()
        };
        assert_eq!(read_of_rig(fields(&given)).unwrap(), expected);
        let bad = json!({"attempts_max": "x", "lease_ms": -5, "backoff_ms": []});
        let failure = read_of_rig(fields(&bad)).unwrap_err();
        let shown = format!("{failure:?}");
        for field in ["attempts_max", "lease_ms", "backoff_ms"] {
            assert!(shown.contains(field), "{field}: {shown}");
        }
    }

    #[test]
    fn a_towns_policy_is_read_by_the_same_rules() {
        let given = json!({"slots_max": 2, "day": {"usd": 1.5}});
        let policy = read_of_town(fields(&given)).unwrap();
        assert_eq!((policy.slots_max, policy.day.usd), (2, Some(1.5)));
        assert_eq!(policy.cooldown_ms, TownPolicy::default().cooldown_ms);
        let bad = json!({"slots_max": 0, "check_ms": "x", "day": {"usd": -1, "tokens": 1.5}});
        let shown = format!("{:?}", read_of_town(fields(&bad)).unwrap_err());
        for field in ["slots_max", "check_ms", "day.usd", "day.tokens"] {
            assert!(shown.contains(&format!("\"{field}\"")), "{field}: {shown}");
        }
    }
}
