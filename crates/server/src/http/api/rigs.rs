//! A rig's own settings and its breaker.

use actix_web::HttpResponse;
use rig::{Input, Policy};
use serde_json::{Map, Value, json};

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    input::{Body, Fields},
    view,
};

/// `GET R/breaker`.
pub(crate) async fn breaker(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let shown = ctx
        .rig()?
        .look(|rig, _| view::breaker(&rig.record().breaker))
        .await?;
    Ok(answer::ok(shown))
}

/// `POST R/breaker/reset`: tried again at once, closed by the model's output alone.
pub(crate) async fn reset_breaker(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    body.fields_or_none()?;
    let by = ctx.who();
    ctx.rig()?.tell(Input::ResetBreaker { by }).await?;
    breaker(ctx).await
}

/// `GET R/policy`.
pub(crate) async fn policy(ctx: Ctx) -> Result<HttpResponse, Failure> {
    Ok(answer::ok(
        ctx.rig()?.look(|rig, _| rig.policy().clone()).await?,
    ))
}

/// `PUT R/policy`: the whole policy; fields that are left out get their defaults.
pub(crate) async fn set_policy(ctx: Ctx, body: Body) -> Result<HttpResponse, Failure> {
    let rig = ctx.rig()?;
    let policy = read_policy(body.fields()?)?;
    rig.tell(Input::SetPolicy(policy.clone())).await?;
    Ok(answer::ok(policy))
}

fn read_policy(mut fields: Fields) -> Result<Policy, Failure> {
    let defaults = json!(Policy::default());
    let known = defaults
        .as_object()
        .map(|map| map.keys().cloned().collect::<Vec<_>>());
    let mut given = Map::new();
    for name in known.unwrap_or_default() {
        let Some(value) = fields.take(&name) else {
            continue;
        };
        // Each field by itself, so that each wrong one is named.
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        match serde_json::from_value::<Policy>(alone) {
            Ok(_) => {
                given.insert(name, value);
            }
            Err(error) => fields.issue(&name, error.to_string()),
        }
    }
    let policy: Policy = serde_json::from_value(Value::Object(given)).unwrap_or_default();
    let checked = policy.validate();
    for error in checked.as_ref().err().into_iter().flatten() {
        fields.issue(error.field, format!("must be {}", error.rule));
    }
    fields.finish()?;
    checked.map_err(|_| Failure::internal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Policy, Failure> {
        read_policy(Fields::new(value.as_object().unwrap().clone()))
    }

    #[test]
    fn a_policy_is_whole_and_its_mistakes_are_named() {
        let policy = read(&json!({"attempts_max": 3, "unknown": true})).unwrap();
        assert_eq!(
            policy,
            Policy {
                attempts_max: 3,
                ..Policy::default()
            }
        );
        let bad = json!({"attempts_max": "x", "lease_ms": -5, "backoff_ms": []});
        let failure = read(&bad).unwrap_err();
        let shown = format!("{failure:?}");
        for field in ["attempts_max", "lease_ms", "backoff_ms"] {
            assert!(shown.contains(field), "{field}: {shown}");
        }
    }
}
