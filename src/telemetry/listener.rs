//! The HTTP listener: `/metrics` for Prometheus, and `/healthz`, `/livez`, `/readyz` for whatever watches a service.
//!
//! hyper itself, which is in the tree for requests to verifiers: two texts on five paths need no framework, and the listener of
//! the metrics library serves nothing beside its metrics. Every connection is for one request, within a time limit, and
//! there are few at once, so that nobody who reaches the port can keep anything busy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::health::Health;

/// Connections at once; more wait in the system's queue.
const CONNECTIONS: usize = 16;
/// How long one connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the metrics library tidies up.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The listener, bound.
pub struct Listener {
    socket: TcpListener,
    served: Arc<Served>,
}

struct Served {
    figures: PrometheusHandle,
    health: Health,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// When it is not free, or not ours.
    pub async fn bind(address: SocketAddr, figures: PrometheusHandle, health: Health) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self { socket, served: Arc::new(Served { figures, health }) })
    }

    /// The address bound, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers for ever.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut upkeep = tokio::time::interval(UPKEEP_EVERY);
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = upkeep.tick() => {
                    self.served.figures.run_upkeep();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    let served = self.served.clone();
                    tokio::spawn(async move {
                        // Whoever asked has gone, or dawdles: nobody's loss but theirs.
                        let _ = tokio::time::timeout(PATIENCE, converse(stream, served)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "[metrics] a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, served: Arc<Served>) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = served.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

impl Served {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned());
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        // Also brings the figures of the loops up to date.
        let report = self.health.report();
        let well = match path {
            "/metrics" => return text(StatusCode::OK, self.figures.render()),
            "/healthz" => report.live && report.ready,
            "/livez" => report.live,
            "/readyz" => report.ready,
            _ => return text(StatusCode::NOT_FOUND, "see /metrics, /healthz, /livez, /readyz\n".to_owned()),
        };
        let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut told = text(status, format!("{:#}\n", report.details));
        told.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        told
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response.headers_mut().insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::telemetry::health::Standing;

    async fn listening(health: &Health) -> SocketAddr {
        let figures = PrometheusBuilder::new().build_recorder().handle();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), figures, health.clone()).await.unwrap();
        let address = listener.address().unwrap();
        tokio::spawn(listener.serve());
        address
    }

    async fn said(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn status(address: SocketAddr, path: &str) -> u16 {
        let answer = said(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn live_and_ready_are_told_apart() {
        let health = Health::default();
        let role = health.role("pool");
        role.stands(Standing::Active);
        let address = listening(&health).await;
        for path in ["/healthz", "/livez", "/readyz", "/metrics"] {
            assert_eq!(status(address, path).await, 200, "{path}");
        }
        role.needs("broker", || Some("away".to_owned()));
        assert_eq!(status(address, "/livez").await, 200);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(address, path).await, 503, "{path}");
        }
        let told = said(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let body: serde_json::Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["roles"]["pool"]["needs"]["broker"], "away");
        assert_eq!(body["faults"][0], "role pool: broker: away");
    }

    #[tokio::test]
    async fn what_is_not_a_question_is_refused_and_a_silent_caller_keeps_nobody_waiting() {
        let health = Health::default();
        let address = listening(&health).await;
        let _silent: Vec<TcpStream> =
            futures_util::future::try_join_all((0..CONNECTIONS - 1).map(|_| TcpStream::connect(address)))
                .await
                .unwrap();
        assert_eq!(status(address, "/nothing").await, 404);
        let posted = said(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
        assert!(said(address, "rubbish\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }
}
