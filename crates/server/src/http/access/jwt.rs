//! The tokens of agents: JWT, HS256 and nothing else.
//!
//! Owns what a token has to say and how long it may live. Whether its dispatch is current is asked
//! of the rig, in `admit`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// The longest that an agent's token may live.
pub const TOKEN_LIFE: Duration = Duration::from_hours(8);
/// Clocks of one machine; a little slack for a token minted elsewhere.
const LEEWAY_S: i64 = 30;

/// What a token says of its holder.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claims {
    pub(crate) agent_id: String,
    pub(crate) rig_id: String,
    pub(crate) town_id: String,
    pub(crate) user_id: String,
    #[serde(default)]
    pub(crate) dispatch_id: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

impl Claims {
    /// Its end: the earlier of `exp` and eight hours after `iat`. A token that bounds itself by
    /// neither is not accepted.
    fn is_alive(&self, now_s: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit exactly")]
        let (now, leeway, life) = (now_s as f64, LEEWAY_S as f64, TOKEN_LIFE.as_secs_f64());
        if self.iat.is_some_and(|iat| iat > now + leeway) {
            return false;
        }
        let by_age = self.iat.map(|iat| iat + life);
        let ends = match (self.exp, by_age) {
            (Some(exp), Some(by_age)) => exp.min(by_age),
            // Without its birth known, a token may not reach further than a fresh one would.
            (Some(exp), None) if exp <= now + life + leeway => exp,
            (None, Some(by_age)) => by_age,
            _ => return false,
        };
        now < ends + leeway
    }
}

/// Verifies tokens.
pub(crate) struct Signer {
    key: DecodingKey,
    validation: Validation,
}

impl Signer {
    pub(crate) fn new(secret: &SecretString) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked by `is_alive`, which also bounds the whole life.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        Self { key, validation }
    }

    /// The claims of a token that is ours and alive.
    pub(crate) fn verify(&self, token: &str, now_s: i64) -> Option<Claims> {
        let claims = decode::<Claims>(token, &self.key, &self.validation)
            .ok()?
            .claims;
        let named = [
            &claims.agent_id,
            &claims.rig_id,
            &claims.town_id,
            &claims.user_id,
        ];
        (named.iter().all(|id| !id.is_empty()) && claims.is_alive(now_s)).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW: i64 = 1_800_000_000;

    fn token(alg: Algorithm, secret: &str, times: &Value) -> String {
        let mut claims = json!({"agentId": "a", "rigId": "r", "townId": "t", "userId": "u"});
        for (key, value) in times.as_object().unwrap() {
            claims[key] = value.clone();
        }
        encode(
            &Header::new(alg),
            &claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
    }

    fn verified(times: &Value) -> bool {
        let signer = Signer::new(&SecretString::from(SECRET));
        signer
            .verify(&token(Algorithm::HS256, SECRET, times), NOW)
            .is_some()
    }

    #[test]
    fn a_token_lives_at_most_eight_hours() {
        let hour = 3_600;
        assert!(verified(&json!({"exp": NOW + hour})));
        assert!(verified(&json!({"iat": NOW - hour})));
        assert!(verified(&json!({"iat": NOW, "exp": NOW + 8 * hour})));
        assert!(!verified(&json!({})), "no end at all");
        assert!(!verified(&json!({"exp": NOW - 60})), "expired");
        assert!(!verified(&json!({"exp": NOW + 9 * hour})), "too long");
        assert!(
            !verified(&json!({"iat": NOW - 9 * hour, "exp": NOW + hour})),
            "too old"
        );
        assert!(
            !verified(&json!({"iat": NOW + hour, "exp": NOW + 2 * hour})),
            "not born yet"
        );
    }

    #[test]
    fn only_our_signature_in_hs256_counts() {
        let signer = Signer::new(&SecretString::from(SECRET));
        let times = json!({"exp": NOW + 60});
        let other = "ffffffffffffffffffffffffffffffff";
        assert!(
            signer
                .verify(&token(Algorithm::HS256, other, &times), NOW)
                .is_none()
        );
        assert!(
            signer
                .verify(&token(Algorithm::HS512, SECRET, &times), NOW)
                .is_none()
        );
        // {"alg":"none"} with the same claims and no signature.
        let good = token(Algorithm::HS256, SECRET, &times);
        let claims = good.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert!(signer.verify(&unsigned, NOW).is_none());
        assert!(signer.verify("", NOW).is_none());
    }

    #[test]
    fn every_identity_has_to_be_named() {
        let signer = Signer::new(&SecretString::from(SECRET));
        let nameless = json!({"exp": NOW + 60, "agentId": ""});
        assert!(
            signer
                .verify(&token(Algorithm::HS256, SECRET, &nameless), NOW)
                .is_none()
        );
    }
}
