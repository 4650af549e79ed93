//! What a connection serves: the gRPC services of its listener, and on the admins' also the pages a
//! monitoring system reads.

use super::{Identity, Peer};
use crate::metrics::Metrics;
use crate::web::SignIn;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

/// Answers requests of one listener.
pub trait Answer: Clone + Send + Sync + 'static {
    /// Answers one request; a failure is a response too.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + Send + 'static;
}

/// What `/metrics`, `/healthz` and `/readyz` say.
pub trait AdminPages: Send + Sync + 'static {
    /// Everything counted, in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Why the server is not ready, or nothing.
    fn not_ready(&self) -> Option<String>;
}

/// Decides whether a peer may make a call.
pub trait Gate: Send + Sync + 'static {
    /// The peer as the call sees it, by its certificate or by the bearer token it shows; the status
    /// that refuses it otherwise.
    fn admit(
        &self,
        path: String,
        peer: Peer,
        bearer: Option<String>,
    ) -> Pin<Box<dyn Future<Output = Result<Peer, Status>> + Send>>;
}

/// gRPC routes with the rules that hold for every call.
#[derive(Clone)]
pub struct Serve {
    routes: Kind,
    pages: Option<Arc<dyn AdminPages>>,
    sign_in: Option<SignIn>,
    metrics: Arc<Metrics>,
    unary_timeout: Duration,
    gate: Arc<dyn Gate>,
}

#[derive(Clone)]
enum Kind {
    Grpc(Routes),
    GrpcAndWeb(GrpcWebService<Routes>),
}

/// Calls whose answer only comes after a long stream of requests.
const UPLOADS: &[&str] = &["/ringward.v1.ReleaseService/Publish"];

/// Numbers the requests of this process, so that the lines of one can be found in the log.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

impl Serve {
    /// The agents' services.
    pub fn agents(
        routes: Routes,
        gate: Arc<dyn Gate>,
        metrics: Arc<Metrics>,
        unary_timeout: Duration,
    ) -> Self {
        Self {
            gate,
            routes: Kind::Grpc(routes.prepare()),
            pages: None,
            sign_in: None,
            metrics,
            unary_timeout,
        }
    }

    /// The admins' services, also as gRPC-web, and the pages.
    pub fn admins(
        routes: Routes,
        gate: Arc<dyn Gate>,
        pages: Arc<dyn AdminPages>,
        metrics: Arc<Metrics>,
        unary_timeout: Duration,
    ) -> Self {
        Self {
            gate,
            routes: Kind::GrpcAndWeb(GrpcWebLayer::new().layer(routes.prepare())),
            pages: Some(pages),
            sign_in: None,
            metrics,
            unary_timeout,
        }
    }

    /// The same, where people may also sign in.
    #[must_use]
    pub fn with_sign_in(self, sign_in: SignIn) -> Self {
        Self {
            sign_in: Some(sign_in),
            ..self
        }
    }

    fn page(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let pages = self.pages.as_ref()?;
        if request.method() != Method::GET {
            return None;
        }
        let (status, text) = match request.uri().path() {
            "/metrics" => (StatusCode::OK, pages.metrics()),
            "/healthz" => (StatusCode::OK, "alive\n".to_owned()),
            "/readyz" => match pages.not_ready() {
                None => (StatusCode::OK, "ready\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            _ => return crate::web::answer_page(request),
        };
        let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        Some(response)
    }

    /// Sets the peer that the gate admits; its refusal otherwise.
    async fn admit(&self, request: &mut Request<Incoming>) -> Result<(), Response<Body>> {
        let is_metrics = self.pages.is_some() && request.uri().path() == "/metrics";
        if request.method() != Method::POST && !is_metrics {
            return Ok(());
        }
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .map(str::to_owned)
            .filter(|_| self.pages.is_some());
        let path = request.uri().path().to_owned();
        let Some(mut peer) = request.extensions().get::<Peer>().cloned() else {
            return Ok(());
        };
        if let (Identity::None, Some(sign_in)) = (&peer.identity, &self.sign_in)
            && let Some(session) = sign_in.session(request.headers())
        {
            peer.identity = Identity::Admin(session.admin);
            peer.closing = session.ended;
        }
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        match self.gate.admit(path, peer, bearer).await {
            Ok(peer) => {
                if let (Identity::Admin(_), Some(vouched)) = (&peer.identity, &peer.vouched) {
                    vouched.cancel();
                }
                request.extensions_mut().insert(peer);
                Ok(())
            }
            Err(_) if is_metrics => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::FORBIDDEN;
                Err(response)
            }
            Err(status) => {
                let mut response: Response<Body> = status.into_http();
                // A gRPC-web client reads the answer by the kind that it sent.
                if let Some(kind) = kind {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                Err(response)
            }
        }
    }

    async fn call(mut self, mut request: Request<Incoming>, from: IpAddr) -> Response<Body> {
        if self.pages.is_some() && crate::web::is_cross_origin(&request) {
            return crate::web::refuse_cross_origin();
        }
        if let Some(sign_in) = &self.sign_in
            && is_without_certificate(&request)
        {
            request = match sign_in.answer(request, from).await {
                Ok(answered) => return answered,
                Err(request) => request,
            };
        }
        if let Err(refused) = self.admit(&mut request).await {
            return refused;
        }
        if let Some(page) = self.page(&request) {
            return page;
        }
        let is_upload = UPLOADS.contains(&request.uri().path());
        let request = request.map(Body::new);
        let answer: Pin<Box<dyn Future<Output = Response<Body>> + Send>> = match &mut self.routes {
            Kind::Grpc(routes) => {
                let future = routes.call(request);
                Box::pin(async move { infallible(future.await) })
            }
            Kind::GrpcAndWeb(web) => {
                let future = web.call(request);
                Box::pin(async move { infallible(future.await) })
            }
        };
        if is_upload {
            return answer.await;
        }
        match tokio::time::timeout(self.unary_timeout, answer).await {
            Ok(response) => response,
            Err(_) => {
                self.metrics.calls_timed_out.add_one();
                Status::deadline_exceeded(format!(
                    "the server did not answer within {} ms; it may be overloaded or its disk may \
                     be full: try again later",
                    self.unary_timeout.as_millis()
                ))
                .into_http()
            }
        }
    }
}

fn is_without_certificate(request: &Request<Incoming>) -> bool {
    let peer = request.extensions().get::<Peer>();
    peer.is_some_and(|peer| matches!(peer.identity, Identity::None))
}

fn infallible<T>(result: Result<T, std::convert::Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl Answer for Serve {
    fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: &Peer,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!("call", request = number);
        let path = request.uri().path().to_owned();
        let address = peer.address;
        request.extensions_mut().insert(peer.clone());
        let serve = self.clone();
        let started = Instant::now();
        async move {
            let response = serve.call(request, address.ip()).await;
            tracing::debug!(
                %address,
                path,
                status = response.status().as_u16(),
                grpc_status = response
                    .headers()
                    .get("grpc-status")
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or("0"),
                took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                "answered"
            );
            response
        }
        .instrument(span)
    }
}
