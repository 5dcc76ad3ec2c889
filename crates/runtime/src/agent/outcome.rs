//! From what kilo reports to the rows of the class table.
//!
//! Owns this mapping and nothing else; pure.

use kilo::{ErrorKind, ExitInfo, SessionError, StartError, StartErrorKind};
use rig::{Class, Failure, Stage, Usage};

use crate::preflight::Price;

/// The failure that an error of a turn is.
pub(super) fn of_error(error: &SessionError) -> Failure {
    let class = match error.kind {
        ErrorKind::Credentials => Class::Credentials,
        ErrorKind::Billing => Class::Billing,
        ErrorKind::ModelNotFound => Class::ModelNotFound,
        ErrorKind::RateLimited => Class::RateLimited,
        ErrorKind::GatewayDown => Class::Gateway,
        // Malformed and cut streams, 400, and whatever else has no row of its own.
        ErrorKind::Other => Class::AgentFailed,
    };
    let retry_after_ms = error.retry_after_ms.and_then(|ms| i64::try_from(ms).ok());
    Failure {
        retry_after_ms,
        ..Failure::new(class, Stage::Turn, error.text.clone())
    }
}

/// The failure that a start of a server is.
pub(super) fn of_start(error: &StartError) -> Failure {
    let class = match &error.kind {
        StartErrorKind::Timeout => Class::StartTimeout,
        StartErrorKind::Spawn | StartErrorKind::UnsupportedVersion => Class::KiloMissing,
        StartErrorKind::Exited(_)
        | StartErrorKind::PrivateDir
        | StartErrorKind::ConfigRejected
        | StartErrorKind::Http => Class::Crash,
    };
    Failure::new(class, Stage::Server, error.to_string())
}

/// The failure that the death of the server under a session is.
pub(super) fn of_exit(exit: &ExitInfo, was_alone: bool) -> Failure {
    let (class, whose) = if was_alone {
        (Class::Crash, "kilo ended under this session")
    } else {
        (Class::Lost, "kilo ended under several sessions")
    };
    Failure::new(class, Stage::Turn, format!("{whose}: {}", words(exit)))
}

fn words(exit: &ExitInfo) -> String {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("killed by signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "it is gone".to_owned(),
    };
    match exit.stderr_tail.last() {
        Some(line) => format!("{how}; its last line: {line}"),
        None => how,
    }
}

/// The most that a step of a model is taken to have used when its gateway told nothing: a whole
/// context, and the longest answer that kilo asks for.
const UNKNOWN_INPUT_TOKENS: u64 = 200_000;
const UNKNOWN_OUTPUT_TOKENS: u64 = 32_000;
/// What a token is taken to cost, read and written, where the gateway names no price: as with the
/// dearest of the widely used models.
const UNKNOWN_USD: (f64, f64) = (15.0 / 1e6, 75.0 / 1e6);

/// Usage in the core's words. What the gateway did not tell is estimated from above, and said to
/// be: a budget that trusted silence would not be one.
pub(super) fn usage(usage: kilo::Usage, price: Price) -> Usage {
    let unknown = usage.unreported_steps;
    let context = price.context_tokens.unwrap_or(UNKNOWN_INPUT_TOKENS);
    let input_tokens = unknown.saturating_mul(context);
    let output_tokens = unknown.saturating_mul(UNKNOWN_OUTPUT_TOKENS);
    let per_token = price.per_token_usd.unwrap_or(UNKNOWN_USD);
    let has_tokens = usage.input > 0 || usage.output > 0;
    let unpriced = price.per_token_usd.is_none() && usage.cost == 0.0 && has_tokens;
    let mut cost_usd = usage.cost + cost_of(input_tokens, output_tokens, per_token);
    if unpriced {
        cost_usd += cost_of(usage.input, usage.output, per_token);
    }
    Usage {
        input_tokens: usage.input.saturating_add(input_tokens),
        output_tokens: usage.output.saturating_add(output_tokens),
        cost_usd,
        estimated: unknown > 0 || unpriced,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate; token counts are far below 2^52"
)]
fn cost_of(input_tokens: u64, output_tokens: u64, (read, written): (f64, f64)) -> f64 {
    input_tokens as f64 * read + output_tokens as f64 * written
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C11: a budget that trusted silence would not be one.
    #[test]
    fn what_a_gateway_does_not_tell_is_estimated_from_above() {
        let told = kilo::Usage {
            input: 1_000,
            output: 100,
            cost: 0.5,
            ..kilo::Usage::default()
        };
        let free = Price {
            per_token_usd: Some((0.0, 0.0)),
            context_tokens: Some(10_000),
        };
        let known = usage(told, free);
        assert!(!known.estimated);
        assert_eq!((known.tokens(), known.cost_usd), (1_100, 0.5));
        let told_nothing = usage(kilo::Usage { cost: 0.0, ..told }, free);
        assert!(!told_nothing.estimated, "a price of zero is a price");
        let unpriced = usage(kilo::Usage { cost: 0.0, ..told }, Price::default());
        assert!(
            unpriced.estimated && unpriced.cost_usd > 0.0,
            "{unpriced:?}"
        );
        let silent = kilo::Usage {
            unreported_steps: 2,
            ..told
        };
        let dear = usage(silent, Price::default());
        assert!(dear.estimated, "{dear:?}");
        assert_eq!(dear.input_tokens, 1_000 + 2 * UNKNOWN_INPUT_TOKENS);
        assert!(dear.cost_usd > known.cost_usd + 2.0, "{dear:?}");
        let cheap = usage(silent, free);
        assert_eq!((cheap.input_tokens, cheap.cost_usd), (21_000, 0.5));
        assert!(cheap.estimated);
    }
}
