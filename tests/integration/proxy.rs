//! A TCP proxy in front of the broker that does what networks do: cut, freeze, pass one direction only, accept and say nothing, delay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spice::bus::{Bus, BusOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::lab::Lab;

/// What the network does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Bytes towards the broker pass.
    pub up: bool,
    /// Bytes from the broker pass.
    pub down: bool,
    /// New connections reach the broker; otherwise they are accepted and nothing ever comes.
    pub answers: bool,
    /// Each read is passed on so much later.
    pub delay: Duration,
    /// Connections that are older than the last cut are gone.
    cuts: u64,
}

/// See the module. Everything ends when it is dropped.
pub struct Proxy {
    pub port: u16,
    weather: watch::Sender<Weather>,
    open: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own, in front of `upstream` on this machine.
    pub async fn before(upstream: u16) -> Self {
        let fine = Weather { up: true, down: true, answers: true, delay: Duration::ZERO, cuts: 0 };
        let (weather, watch) = watch::channel(fine);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let upstream = SocketAddr::from(([127, 0, 0, 1], upstream));
                let (watch, counted) = (watch.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    connection(client, upstream, watch).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, weather, open, _task: AbortOnDropHandle::new(task) }
    }

    /// Nothing passes in either direction, and nothing closes.
    pub fn freeze(&self) {
        self.set(|weather| (weather.up, weather.down) = (false, false));
    }

    /// Nothing passes towards the broker.
    pub fn block_up(&self) {
        self.set(|weather| weather.up = false);
    }

    /// Nothing passes from the broker.
    pub fn block_down(&self) {
        self.set(|weather| weather.down = false);
    }

    /// New connections are accepted and never answered.
    pub fn mute(&self) {
        self.set(|weather| weather.answers = false);
    }

    /// Whatever passes, passes so much later.
    pub fn delay(&self, delay: Duration) {
        self.set(|weather| weather.delay = delay);
    }

    /// All is well again: what was held back is passed on. What was accepted and not answered stays without an answer.
    pub fn heal(&self) {
        self.set(|weather| {
            *weather = Weather { up: true, down: true, answers: true, delay: Duration::ZERO, ..*weather }
        });
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.set(|weather| weather.cuts += 1);
    }

    /// How many connections are open on our side.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The lab's transport URL through this proxy.
    pub fn transport_url(&self, lab: &Lab) -> String {
        lab.transport_url().replace(&format!(":{}/", lab.ports.amqp), &format!(":{}/", self.port))
    }

    /// The lab's options through this proxy, with a heartbeat interval in seconds.
    pub fn options(&self, lab: &Lab, heartbeat: u16) -> BusOptions {
        let mut options = lab.options();
        options.transport_url = self.transport_url(lab);
        options.rabbit.heartbeat_timeout_threshold = heartbeat;
        options
    }

    /// A member of the bus behind this proxy.
    pub fn bus(&self, lab: &Lab, name: &str, heartbeat: u16) -> Bus {
        Bus::start(self.options(lab, heartbeat), name).unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }
}

async fn connection(client: TcpStream, upstream: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let born = weather.borrow().cuts;
    let mut cut = weather.clone();
    let resets = client.set_zero_linger();
    let serving = async {
        if !weather.borrow_and_update().answers {
            return silence(client).await;
        }
        let Ok(broker) = TcpStream::connect(upstream).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        // The end of either direction is the end of both, as it is for AMQP.
        tokio::select! {
            () = pump(from_client, to_broker, weather.clone(), |weather| weather.up) => {}
            () = pump(from_broker, to_client, weather.clone(), |weather| weather.down) => {}
        }
    };
    resets.unwrap();
    tokio::select! {
        () = serving => {}
        _ = cut.wait_for(|weather| weather.cuts > born) => {}
    }
}

/// Takes what comes and says nothing, until the other side gives up.
async fn silence(mut client: TcpStream) {
    let mut buffer = [0; 1024];
    while matches!(client.read(&mut buffer).await, Ok(count) if count > 0) {}
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    passes: impl Fn(&Weather) -> bool,
) {
    let mut buffer = vec![0; 65536];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        let Ok(now) = weather.wait_for(&passes).await.map(|now| *now) else { return };
        tokio::time::sleep(now.delay).await;
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
