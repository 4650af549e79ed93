//! What a connection serves: the gRPC services of its listener, and on the admins' also the pages a
//! monitoring system reads.

use super::Peer;
use crate::metrics::Metrics;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::future::Future;
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

/// gRPC routes with the rules that hold for every call.
#[derive(Clone)]
pub struct Serve {
    routes: Kind,
    pages: Option<Arc<dyn AdminPages>>,
    metrics: Arc<Metrics>,
    unary_timeout: Duration,
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
    pub fn agents(routes: Routes, metrics: Arc<Metrics>, unary_timeout: Duration) -> Self {
        Self {
            routes: Kind::Grpc(routes.prepare()),
            pages: None,
            metrics,
            unary_timeout,
        }
    }

    /// The admins' services, also as gRPC-web, and the pages.
    pub fn admins(
        routes: Routes,
        pages: Arc<dyn AdminPages>,
        metrics: Arc<Metrics>,
        unary_timeout: Duration,
    ) -> Self {
        Self {
            routes: Kind::GrpcAndWeb(GrpcWebLayer::new().layer(routes.prepare())),
            pages: Some(pages),
            metrics,
            unary_timeout,
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

    async fn call(mut self, request: Request<Incoming>) -> Response<Body> {
        if let Some(page) = self.page(&request) {
            return page;
        }
        if self.pages.is_some() && crate::web::is_cross_origin(&request) {
            return crate::web::refuse_cross_origin();
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
            let response = serve.call(request).await;
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
