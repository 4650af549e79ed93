//! The dashboard: its files on the admins' listener, and, for browsers without a certificate, a plain
//! listener that exists on loopback only and takes a session cookie.

mod assets;
mod listener;
mod login;
mod session;
mod sign_in;

pub use listener::{Dashboard, bind};
pub use login::{LoginWord, new_login_word};
pub use session::Sessions;
pub use sign_in::{SignIn, Ways};

use crate::listener::{Identity, Peer};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;

/// What a browser asks of an admin's listener: a file of the page, or who came with a certificate.
/// The files tell nobody anything, so whoever is not signed in gets them too.
///
/// Nothing here needs a check of the `Host` header: a name that is rebound to this address has no
/// certificate of ours, so the browser ends the handshake.
pub(crate) fn answer_page<B>(request: &Request<B>) -> Option<Response<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let peer = request.extensions().get::<Peer>()?;
    Some(match (request.uri().path(), &peer.identity) {
        ("/session", Identity::Admin(admin)) => json(
            StatusCode::OK,
            &serde_json::json!({ "actor": admin.name, "by": "certificate" }),
        ),
        (path, _) => assets::answer(path),
    })
}

/// Whether a page of another origin sent this request. Browsers name the origin of every POST; a
/// client certificate, like a cookie, goes along with requests that other pages cause.
pub(crate) fn is_cross_origin<B>(request: &Request<B>) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return false;
    };
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| header_text(request, &header::HOST));
    // No port of ours speaks both HTTP and HTTPS, so host and port tell the scheme too.
    let named = origin.to_str().ok().and_then(|text| text.split_once("://"));
    match (named, host) {
        (Some((_, origin)), Some(host)) => origin != host,
        _ => true,
    }
}

/// Refuses a request that another origin's page caused.
pub(crate) fn refuse_cross_origin() -> Response<Body> {
    text(
        StatusCode::FORBIDDEN,
        "another origin's page caused this request: refused\n",
    )
}

fn header_text<B>(request: &Request<B>, name: &header::HeaderName) -> Option<String> {
    request
        .headers()
        .get(name)?
        .to_str()
        .ok()
        .map(str::to_owned)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    plain(status, "application/json", value.to_string())
}

fn text(status: StatusCode, words: impl Into<String>) -> Response<Body> {
    plain(status, "text/plain; charset=utf-8", words.into())
}

fn plain(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    assets::secure(headers);
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn posted(origin: Option<&str>, host: &str) -> Request<()> {
        let mut request = Request::post("/x").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_of_another_origin_is_told_apart() {
        assert!(!is_cross_origin(&posted(None, "a:1")));
        assert!(!is_cross_origin(&posted(Some("https://a:1"), "a:1")));
        assert!(is_cross_origin(&posted(Some("https://b:1"), "a:1")));
        assert!(is_cross_origin(&posted(Some("https://a:2"), "a:1")));
        assert!(is_cross_origin(&posted(Some("null"), "a:1")));
    }
}
