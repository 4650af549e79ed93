//! The built page, inside the program. A server built without it says how to build it.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;
use tonic::body::Body;

/// Sent with every answer a browser may show; one line each, `name: value`. The browser tests serve
/// the page with these very lines.
const HEADERS: &str = include_str!("headers.txt");
/// Shown where the page is not in the program. No script, no style: the policy forbids both inline.
const UNBUILT: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<title>Ringward</title></head><body><h1>Ringward</h1>\
<p>The server runs. This build carries no dashboard: it was built without Node.js.</p>\
<p>To have it, install Node.js 20.19 or newer, then run <code>cargo xtask dashboard</code> and build \
the server again. Everything the dashboard does, <code>ringwardctl</code> does too.</p></body></html>";

#[derive(RustEmbed)]
#[folder = "../dashboard/dist"]
struct Dist;

/// The file at a path; the page itself for each path that is one of its addresses.
pub(super) fn answer(path: &str) -> Response<Body> {
    let name = path.trim_start_matches('/');
    if let Some(file) = Dist::get(name).filter(|_| is_file(name)) {
        return found(name, file);
    }
    if !is_address(path) {
        return super::text(StatusCode::NOT_FOUND, "nothing is here\n");
    }
    match Dist::get("index.html") {
        Some(file) => found("index.html", file),
        None => body(
            "text/html; charset=utf-8",
            Bytes::from_static(UNBUILT.as_bytes()),
        ),
    }
}

/// The page itself is answered at its addresses; what begins with a dot only keeps the folder.
fn is_file(name: &str) -> bool {
    name != "index.html" && !name.starts_with('.')
}

/// Addresses of the page, as it routes them itself.
fn is_address(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next();
    matches!(
        first,
        Some(
            "" | "index.html"
                | "rollouts"
                | "fleet"
                | "hosts"
                | "releases"
                | "audit"
                | "incidents"
                | "orders"
        )
    )
}

fn found(name: &str, file: EmbeddedFile) -> Response<Body> {
    let bytes = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let mut response = body(kind(name), bytes);
    if name.starts_with("assets/") {
        // Their names carry a hash of their content.
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        );
    }
    response
}

fn body(kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(bytes)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    secure(headers);
    response
}

/// The headers that keep a page to itself.
pub(super) fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS.lines().filter_map(|line| line.split_once(": ")) {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_page_answers_html_under_a_strict_policy() {
        for path in ["/", "/rollouts/r-0000000000000001", "/fleet", "/releases"] {
            let response = answer(path);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap_or_default();
            assert!(policy.contains("default-src 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert!(!policy.contains("http"), "{policy}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
    }

    #[test]
    fn what_is_not_there_is_not_answered_by_the_page() {
        for path in [
            "/assets/none.js",
            "/ringward.v1.FleetService/Status",
            "/.keep",
            "/../x",
        ] {
            assert_eq!(answer(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
