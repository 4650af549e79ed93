//! Signing in with a password or a one-time word, and the cookie that stands for it afterwards.

use super::session::{SESSION_LIFE_MS, Session, Sessions};
use super::{header_text, json, login, text};
use crate::accounts::{AccountError, Accounts};
use crate::clock::unix_ms;
use crate::data_dir::DataDir;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tonic::body::Body;

/// Bytes of a login.
const LOGIN_BYTES_MAX: usize = 1024;

/// What a browser sends to sign in.
#[derive(serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Login {
    Word { token: String },
    Password { name: String, password: String },
}

/// The ways in, and who came by them: one for all listeners of a server.
pub struct Ways {
    /// Words wait there.
    pub data: DataDir,
    /// Passwords are known here.
    pub accounts: Arc<Accounts>,
    /// Who is signed in.
    pub sessions: Arc<Sessions>,
}

/// Signing in on one listener.
#[derive(Clone)]
pub struct SignIn {
    ways: Arc<Ways>,
    cookie: Arc<str>,
    secure: bool,
}

impl SignIn {
    /// On the plain listener of loopback. Cookies do not know ports: with one name for all, two
    /// servers on one machine would sign each other's people out.
    pub fn plain(ways: Arc<Ways>, at: SocketAddr) -> Self {
        Self {
            ways,
            cookie: format!("ringward_{}", at.port()).into(),
            secure: false,
        }
    }

    /// On a listener with TLS. The prefix makes browsers keep the cookie to this very host and to TLS.
    pub fn over_tls(ways: Arc<Ways>, at: SocketAddr) -> Self {
        Self {
            ways,
            cookie: format!("__Host-ringward_{}", at.port()).into(),
            secure: true,
        }
    }

    /// Answers `/login`, `/logout` and `/session`; gives back what is none of them.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
    ) -> Result<Response<Body>, Request<Incoming>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/session") => Ok(self.who(request.headers())),
            // A form or a script of another page cannot send this kind without asking first, and
            // nobody here answers such a question.
            (&Method::POST, "/login") if is_json(&request) => Ok(self.login(request, from).await),
            (&Method::POST, "/logout") if is_json(&request) => Ok(self.logout(request.headers())),
            _ => Err(request),
        }
    }

    /// Who signed in, by the cookie.
    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        self.ways.sessions.find(&self.secret(headers)?, unix_ms())
    }

    fn who(&self, headers: &HeaderMap) -> Response<Body> {
        match self.session(headers) {
            Some(session) => json(
                StatusCode::OK,
                &serde_json::json!({
                    "actor": session.admin.name,
                    "by": "login",
                    "expires_unix_ms": session.expires_unix_ms,
                }),
            ),
            // No error: a browser would put one into its console for a question that was fair.
            None => json(StatusCode::OK, &serde_json::Value::Null),
        }
    }

    async fn login(&self, request: Request<Incoming>, from: IpAddr) -> Response<Body> {
        let body = Limited::new(request.into_body(), LOGIN_BYTES_MAX);
        let Ok(body) = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
        else {
            return text(StatusCode::BAD_REQUEST, "the login cannot be read\n");
        };
        let admin = match serde_json::from_slice::<Login>(&body) {
            // Words are for whoever sits at the server's own machine.
            Ok(Login::Word { token }) if !self.secure => self.by_word(token).await,
            Ok(Login::Password { name, password }) => self.by_password(name, password, from).await,
            _ => Err(text(
                StatusCode::BAD_REQUEST,
                "a login is {\"name\": …, \"password\": …}\n",
            )),
        };
        let admin = match admin {
            Ok(admin) => admin,
            Err(refused) => return refused,
        };
        tracing::info!(actor = admin, "signed in to the dashboard");
        let secret = self.ways.sessions.open(admin.clone(), unix_ms());
        let mut response = json(StatusCode::OK, &serde_json::json!({ "actor": admin }));
        self.set_cookie(&mut response, &secret, SESSION_LIFE_MS / 1_000);
        response
    }

    async fn by_word(&self, word: String) -> Result<String, Response<Body>> {
        let data = self.ways.data.clone();
        let taken = tokio::task::spawn_blocking(move || login::take(&data, &word, unix_ms()));
        let Some(admin) = taken.await.ok().flatten() else {
            tracing::warn!("a login with a word that is not good was refused");
            return Err(text(
                StatusCode::FORBIDDEN,
                "This word is not good: used, older than two minutes, or mistyped. Ask for another \
                 with `ringward-server login`.\n",
            ));
        };
        let how = "a one-time word of the server's machine".to_owned();
        let accounts = &self.ways.accounts;
        let noted = accounts.note_session("session open", &admin, how).await;
        noted.map_err(|error| unreadable(&error))?;
        Ok(admin)
    }

    /// Wrong names, wrong passwords and names without one are answered alike.
    async fn by_password(
        &self,
        name: String,
        password: String,
        from: IpAddr,
    ) -> Result<String, Response<Body>> {
        match self.ways.accounts.sign_in(&name, password, from).await {
            Ok(()) => Ok(name),
            Err(AccountError::TooMany) => {
                tracing::warn!(%from, "too many logins with a password: refused unread");
                let words = "Too many were tried: wait a quarter of an hour, or use a word of \
                    `ringward-server login`.\n";
                Err(text(StatusCode::TOO_MANY_REQUESTS, words))
            }
            Err(AccountError::Wrong) => {
                tracing::warn!(%from, "a login with a wrong name or password was refused");
                let words = "Name or password is wrong.\n";
                Err(text(StatusCode::FORBIDDEN, words))
            }
            Err(error) => Err(unreadable(&error)),
        }
    }

    fn logout(&self, headers: &HeaderMap) -> Response<Body> {
        if let Some(secret) = self.secret(headers) {
            self.ways.sessions.close(&secret);
        }
        let mut response = json(StatusCode::OK, &serde_json::Value::Null);
        self.set_cookie(&mut response, "", 0);
        response
    }

    fn secret(&self, headers: &HeaderMap) -> Option<String> {
        let all = headers.get_all(header::COOKIE).iter();
        all.filter_map(|value| value.to_str().ok())
            .flat_map(|pairs| pairs.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == &*self.cookie)
            .map(|(_, value)| value.to_owned())
    }

    fn set_cookie(&self, response: &mut Response<Body>, secret: &str, age_s: u64) {
        let secure = if self.secure { "; Secure" } else { "" };
        let cookie = format!(
            "{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}",
            self.cookie
        );
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }
}

fn unreadable(error: &AccountError) -> Response<Body> {
    tracing::error!(%error, "nobody can be signed in");
    let words = "Nobody can be signed in at this moment: try again.\n";
    text(StatusCode::SERVICE_UNAVAILABLE, words)
}

fn is_json(request: &Request<Incoming>) -> bool {
    header_text(request, &header::CONTENT_TYPE)
        .is_some_and(|value| value.starts_with("application/json"))
}
