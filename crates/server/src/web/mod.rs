//! The page: one static shell, one script, one style sheet, all inside the program.
//!
//! Owns the files and their headers. They hold no data: the script asks for it, with the session's
//! cookie. No inline script or style, so that the strict policy of the facade holds.

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("app.js");
const STYLE: &str = include_str!("app.css");

/// `GET /`.
pub(crate) async fn page() -> HttpResponse {
    file("text/html; charset=utf-8", PAGE)
}

/// `GET /assets/app.js`.
pub(crate) async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /assets/app.css`.
pub(crate) async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", STYLE)
}

/// Never an older version than the server's own.
fn file(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, kind))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(text)
}
