//! The gateway's credentials in the environment: are they there, and does the gateway take them?

use std::time::Duration;

use rig::Class;
use runtime::Environment;

use super::finding::Finding;

const DEADLINE: Duration = Duration::from_secs(5);
const EXPORT: &str = "export KILO_API_URL=https://api.kilo.ai KILOCODE_TOKEN=…";

pub(super) async fn check(offline: bool) -> Finding {
    let environment = Environment::from_process();
    if environment.token.is_none() {
        let text = "KILOCODE_TOKEN is not set; only rigs with a token of their own can work";
        return Finding::warn("login", text, EXPORT);
    }
    if offline {
        return Finding::ok("login", "KILOCODE_TOKEN is set; the gateway was not asked");
    }
    let asked = runtime::checkup::gateway(environment);
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(())) => Finding::ok("login", "the gateway takes the token"),
        Ok(Err(failure)) => {
            let fix = match failure.class {
                Class::Gateway => "curl -sS \"$KILO_API_URL/api/openrouter/models\" -o /dev/null",
                _ => EXPORT,
            };
            Finding::fail("login", failure.text, fix)
        }
        Err(_) => {
            let text = format!("the gateway did not answer within {} s", DEADLINE.as_secs());
            let fix = "curl -sS \"$KILO_API_URL/api/openrouter/models\" -o /dev/null";
            Finding::fail("login", text, fix)
        }
    }
}
