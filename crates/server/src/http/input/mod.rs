//! Reading requests: bodies field by field, queries parameter by parameter.
//!
//! Owns validation, and that a client learns of all its mistakes at once. Knows no route.

mod body;
mod fields;
mod query;

pub(crate) use body::Body;
pub(crate) use fields::Fields;
pub(crate) use query::Query;
