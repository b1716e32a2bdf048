//! A broker that is a value: AMQP's meaning without its wire, and weather made by a seed. For simulations.
//!
//! Messages go through the real encoding of requests and the real dispatchers. A work queue keeps what it was given until it is acknowledged,
//! expires, or is put aside; requests are taken at most once; fanout reaches who listens now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::core::{Core, Origin};
use super::message::{decode_request, encode_request};
use super::service::{Delivery, Disposition, Listen};
use super::{
    Bus, BusError, BusOptions, Client, Connector, Inner, Publisher, Reply, Request, Target, connection, transport_url,
};
use crate::sim::{Dice, Life, note};

/// How often something goes wrong, in a thousand; and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub lost: u64,
    pub repeated: u64,
    pub unconfirmed: u64,
    pub slow: u64,
    pub slow_for_ms: u64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { lost: 0, repeated: 0, unconfirmed: 0, slow: 0, slow_for_ms: 1 };
}

/// A message that somebody may have recorded.
#[derive(Clone)]
pub(crate) struct Recorded {
    pub queue: String,
    pub topic: String,
    pub fanout: bool,
    pub work: bool,
    pub body: Arc<Map<String, Value>>,
}

/// Sees what happens on the bus.
pub(crate) trait Witness: Send {
    /// Work was done, and will be acknowledged.
    fn done(&self, topic: &str, message: &Map<String, Value>);
    /// A process begins to send something that nobody answers.
    fn says(&self, who: &str, method: &str, args: &Map<String, Value>);
    /// A process has received a publication or an answer.
    fn hears(&self, who: &str);
}

pub(crate) struct Broker {
    state: Mutex<State>,
    pub dice: Dice,
    witness: Mutex<Option<Box<dyn Witness>>>,
}

struct State {
    weather: Weather,
    next: u64,
    /// By routing key; a queue of work is there once somebody served it.
    queues: BTreeMap<String, Queue>,
    consumers: Vec<Arc<Consumer>>,
    recorded: Vec<Recorded>,
    dead: Vec<String>,
    panics: Vec<String>,
    down: bool,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Message>,
    held: BTreeMap<u64, (u64, Message)>,
}

#[derive(Clone)]
struct Message {
    body: Arc<Map<String, Value>>,
    fanout: bool,
    expires: Option<Instant>,
    redelivered: bool,
    reply: Option<Arc<Mutex<Option<oneshot::Sender<Reply>>>>>,
}

struct Consumer {
    number: u64,
    core: Arc<Core>,
    life: Life,
    room: usize,
    is_work: bool,
    queues: BTreeSet<String>,
}

impl Consumer {
    fn is_up(&self) -> bool {
        !self.life.is_dead() && !self.life.is_cut() && !self.core.stop.is_cancelled()
    }
}

/// A process on the simulated bus.
pub(crate) struct Member {
    broker: Arc<Broker>,
    life: Life,
}

impl Broker {
    pub(crate) fn new(dice: Dice) -> Arc<Self> {
        let state = State {
            weather: Weather::FAIR,
            next: 0,
            queues: BTreeMap::new(),
            consumers: Vec::new(),
            recorded: Vec::new(),
            dead: Vec::new(),
            panics: Vec::new(),
            down: false,
        };
        Arc::new(Self { state: Mutex::new(state), dice, witness: Mutex::default() })
    }

    /// A bus for the process `life`.
    pub(crate) fn join(self: &Arc<Self>, life: &Life) -> Bus {
        let (broker, dying): (Weak<Self>, u64) = (Arc::downgrade(self), life.number());
        life.on_death(move || {
            if let Some(broker) = broker.upgrade() {
                broker.forget(dying);
            }
        });
        Bus::simulated(Member { broker: self.clone(), life: life.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    pub(crate) fn set_witness(&self, witness: Box<dyn Witness>) {
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = Some(witness);
    }

    fn witnessed(&self, see: impl FnOnce(&dyn Witness)) {
        if let Some(witness) = self.witness.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
            see(witness);
        }
    }

    /// Forgets everybody: who serves knows the broker, and the broker knows who serves.
    pub(crate) fn close(&self) {
        let (consumers, queues) = {
            let mut state = self.state();
            (std::mem::take(&mut state.consumers), std::mem::take(&mut state.queues))
        };
        drop((consumers, queues));
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.state().down
    }

    /// Cuts a process off, or takes it back.
    pub(crate) fn cut(self: &Arc<Self>, life: &Life, cut: bool) {
        note(&format!("{} is {}", life.name(), if cut { "cut off" } else { "connected again" }));
        life.set_cut(cut);
        if cut {
            self.give_back(|consumer| consumer.life.number() == life.number());
        }
        self.pump_all();
    }

    /// The broker goes down, or comes up: requests and fanouts are gone, work is not.
    pub(crate) fn set_down(self: &Arc<Self>, down: bool) {
        note(if down { "the broker goes down" } else { "the broker is back" });
        self.state().down = down;
        if down {
            self.give_back(|_| true);
            let mut state = self.state();
            for (name, queue) in &mut state.queues {
                if !is_work(name) {
                    queue.ready.clear();
                }
            }
        }
        self.pump_all();
    }

    /// Publishes again what was recorded.
    pub(crate) fn replay(self: &Arc<Self>) {
        let recorded = {
            let state = self.state();
            let count = u64::try_from(state.recorded.len()).unwrap_or(0);
            let at = usize::try_from(self.dice.below(count)).unwrap_or(0);
            state.recorded.get(at).cloned()
        };
        if let Some(Recorded { queue, topic, fanout, body, work }) = recorded {
            let method = body.get("method").and_then(Value::as_str).unwrap_or_default();
            note(&format!("a recorded {method} is played again"));
            let message = Message { body, fanout, expires: None, redelivered: false, reply: None };
            match (fanout, work) {
                (true, _) => self.spread(&topic, &message),
                (false, true) if self.state().queues.contains_key(&queue) => self.enqueue(&queue, message),
                _ => {}
            }
        }
    }

    /// A recorded message of this method, drawn at random.
    pub(crate) fn recorded(&self, method: &str) -> Option<Arc<Map<String, Value>>> {
        let state = self.state();
        let is_it = |recorded: &&Recorded| recorded.body.get("method").and_then(Value::as_str) == Some(method);
        let all: Vec<&Recorded> = state.recorded.iter().filter(is_it).collect();
        let at = self.dice.below(u64::try_from(all.len()).unwrap_or(0));
        all.get(usize::try_from(at).unwrap_or(0)).map(|recorded| recorded.body.clone())
    }

    /// The messages that wait or are held, by queue of work; dead letters; panics.
    pub(crate) fn left(&self) -> (Vec<(String, usize)>, Vec<String>, Vec<String>) {
        let state = self.state();
        let waiting = state.queues.iter().filter(|(name, _)| is_work(name));
        let waiting = waiting.map(|(name, queue)| (name.clone(), queue.ready.len() + queue.held.len()));
        (waiting.filter(|(_, count)| *count > 0).collect(), state.dead.clone(), state.panics.clone())
    }

    fn id(&self) -> String {
        let mut state = self.state();
        state.next += 1;
        format!("{:032x}", state.next)
    }

    fn forget(self: &Arc<Self>, life: u64) {
        self.give_back(|consumer| consumer.life.number() == life);
        self.state().consumers.retain(|consumer| consumer.life.number() != life);
        let broker = self.clone();
        tokio::spawn(async move { broker.pump_all() });
    }

    /// What some consumers hold goes back to its queue.
    fn give_back(&self, whose: impl Fn(&Consumer) -> bool) {
        let mut state = self.state();
        let numbers: BTreeSet<u64> =
            state.consumers.iter().filter(|consumer| whose(consumer)).map(|consumer| consumer.number).collect();
        for queue in state.queues.values_mut() {
            let (back, held) =
                std::mem::take(&mut queue.held).into_iter().partition(|(_, (by, _))| numbers.contains(by));
            queue.held = held;
            for (_, (_, mut message)) in BTreeMap::<u64, (u64, Message)>::into_iter(back).rev() {
                message.redelivered = true;
                queue.ready.push_front(message);
            }
        }
    }

    fn enqueue(self: &Arc<Self>, queue: &str, message: Message) {
        self.state().queues.entry(queue.to_owned()).or_default().ready.push_back(message);
        self.pump(queue);
    }

    fn pump_all(self: &Arc<Self>) {
        let names: Vec<String> = self.state().queues.keys().cloned().collect();
        for name in names {
            self.pump(&name);
        }
    }

    fn pump(self: &Arc<Self>, name: &str) {
        loop {
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(queue) = state.queues.get_mut(name) else { return };
            queue.ready.retain(|message| message.expires.is_none_or(|at| at > Instant::now()));
            let free: Vec<&Arc<Consumer>> = state
                .consumers
                .iter()
                .filter(|consumer| consumer.is_up() && consumer.queues.contains(name))
                .filter(|consumer| queue.held.values().filter(|(by, _)| *by == consumer.number).count() < consumer.room)
                .collect();
            let chosen = self.dice.below(u64::try_from(free.len()).unwrap_or(1));
            let chosen = usize::try_from(chosen).ok().and_then(|at| free.get(at));
            if state.down || queue.ready.is_empty() {
                return;
            }
            let Some(consumer) = chosen.map(|consumer| Arc::clone(consumer)) else { return };
            let Some(message) = queue.ready.pop_front() else { return };
            state.next += 1;
            let token = state.next;
            queue.held.insert(token, (consumer.number, message.clone()));
            drop(guard);
            tokio::spawn(self.clone().carry(consumer, name.to_owned(), token, message));
        }
    }

    /// Takes a message off its queue; false if that is not this one's any more.
    fn acknowledge(&self, queue: &str, token: u64) -> bool {
        self.state().queues.get_mut(queue).is_some_and(|queue| queue.held.remove(&token).is_some())
    }

    fn is_held(&self, queue: &str, token: u64) -> bool {
        self.state().queues.get(queue).is_some_and(|queue| queue.held.contains_key(&token))
    }

    async fn carry(self: Arc<Self>, consumer: Arc<Consumer>, queue: String, token: u64, message: Message) {
        sleep(self.dice.millis(1, 6)).await;
        let mut redelivered = message.redelivered;
        loop {
            consumer.life.running().await;
            if !consumer.is_up() || !self.is_held(&queue, token) {
                return;
            }
            if !consumer.is_work {
                self.acknowledge(&queue, token);
            }
            let Ok(mut received) = decode_request((*message.body).clone()) else { return };
            received.request.msg_id = message.reply.is_some().then(|| received.request.msg_id.take()).flatten();
            let origin = if message.fanout { Origin::Fanout } else { Origin::Topic };
            let incoming = consumer.core.incoming(received, origin, redelivered);
            let topic = consumer.core.service.topic.clone();
            let disposition = consumer.core.dispatch(incoming).await;
            match disposition {
                None => {
                    self.state().panics.push(topic);
                    self.acknowledge(&queue, token);
                    return;
                }
                Some(Disposition::Reply(reply)) if !consumer.is_work => {
                    consumer.life.step("before its reply").await;
                    self.answer(&consumer, message.reply, reply).await;
                    return;
                }
                Some(Disposition::Retry(pause)) if consumer.is_work => {
                    sleep(pause).await;
                    redelivered = true;
                }
                Some(Disposition::Poison(why)) if consumer.is_work => {
                    note(&format!("{topic}: put aside: {}", why.split(':').next().unwrap_or_default()));
                    self.state().dead.push(why);
                    self.acknowledge(&queue, token);
                    break;
                }
                Some(_) => {
                    if !consumer.is_work {
                        return;
                    }
                    self.witnessed(|witness| witness.done(&topic, &message.body));
                    consumer.life.step("before its acknowledgement").await;
                    self.acknowledge(&queue, token);
                    break;
                }
            }
        }
        self.pump(&queue);
    }

    async fn answer(
        &self,
        consumer: &Consumer,
        slot: Option<Arc<Mutex<Option<oneshot::Sender<Reply>>>>>,
        reply: Reply,
    ) {
        let Some(slot) = slot else { return };
        sleep(self.dice.millis(1, 6)).await;
        consumer.life.running().await;
        let lost = self.state().weather.lost;
        if self.dice.chance(lost) || !consumer.is_up() || self.state().down {
            return;
        }
        if let Some(waiting) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = waiting.send(reply);
        }
    }

    /// Delivers a fanout to everybody who listens now, to each in its own time.
    fn spread(self: &Arc<Self>, topic: &str, message: &Message) {
        let weather = self.state().weather;
        let listening: Vec<Arc<Consumer>> = {
            let state = self.state();
            let all = state.consumers.iter();
            all.filter(|one| one.core.service.listen.fanout && one.core.service.topic == topic).cloned().collect()
        };
        for consumer in listening {
            if !consumer.is_up() || self.dice.chance(weather.lost) {
                continue;
            }
            for _ in 0..=u64::from(self.dice.chance(weather.repeated)) {
                let (broker, consumer, message) = (self.clone(), consumer.clone(), message.clone());
                let delay = self.latency(weather);
                tokio::spawn(async move {
                    sleep(delay).await;
                    consumer.life.running().await;
                    if !consumer.is_up() || broker.state().down {
                        return;
                    }
                    let Ok(received) = decode_request((*message.body).clone()) else { return };
                    let incoming = consumer.core.incoming(received, Origin::Fanout, false);
                    broker.witnessed(|witness| witness.hears(consumer.life.name()));
                    if consumer.core.dispatch(incoming).await.is_none() {
                        broker.state().panics.push(consumer.core.service.topic.clone());
                    }
                });
            }
        }
    }

    fn latency(&self, weather: Weather) -> Duration {
        match self.dice.chance(weather.slow) {
            true => self.dice.millis(5, weather.slow_for_ms.max(6)),
            false => self.dice.millis(1, 6),
        }
    }
}

fn is_work(queue: &str) -> bool {
    queue.starts_with("spice-adapter-") || queue.ends_with("-results") || queue.ends_with("-events")
}

impl Member {
    /// Waits until the broker is reached, and the message is on its way.
    async fn reach(&self, patience: Duration) -> Result<(), BusError> {
        self.life.step("before sending").await;
        let deadline = Instant::now() + patience;
        while self.life.is_cut() || self.broker.state().down {
            if Instant::now() >= deadline {
                return Err(BusError::Disconnected("simulated".to_owned()));
            }
            sleep(Duration::from_millis(200)).await;
        }
        let weather = self.broker.state().weather;
        sleep(self.broker.latency(weather)).await;
        self.life.step("while sending").await;
        Ok(())
    }

    pub(super) async fn call(&self, target: &Target, request: Request, patience: Duration) -> Result<Reply, BusError> {
        let began = Instant::now();
        let msg_id = request.msg_id.clone().unwrap_or_else(|| self.broker.id());
        let late = BusError::Timeout { msg_id: msg_id.clone(), waited: patience };
        self.reach(patience).await?;
        let queue = target.routing_key();
        let served = |state: &State| state.consumers.iter().any(|one| one.is_up() && one.queues.contains(&queue));
        while !served(&self.broker.state()) {
            if began.elapsed() >= Duration::from_secs(2).min(patience) {
                let Target { exchange, .. } = target;
                return Err(BusError::Unroutable { exchange: exchange.clone(), routing_key: queue });
            }
            sleep(Duration::from_millis(200)).await;
        }
        let (answer, answered) = oneshot::channel();
        let mut request = request;
        request.msg_id = Some(msg_id.clone());
        let body = Arc::new(encode_request(target, request, &self.broker.id(), Some((&msg_id, "simulated"))));
        let lost = self.broker.state().weather.lost;
        if !self.broker.dice.chance(lost) {
            let reply = Some(Arc::new(Mutex::new(Some(answer))));
            let expires = Some(began + patience);
            self.broker.enqueue(&queue, Message { body, fanout: false, expires, redelivered: false, reply });
        }
        let reply = timeout(patience.saturating_sub(began.elapsed()), answered).await;
        self.life.step("with a reply").await;
        match reply {
            Ok(Ok(reply)) => {
                self.broker.witnessed(|witness| witness.hears(self.life.name()));
                Ok(reply)
            }
            _ => {
                sleep(patience.saturating_sub(began.elapsed())).await;
                Err(late)
            }
        }
    }

    pub(super) async fn cast(&self, target: &Target, request: Request) -> Result<(), BusError> {
        if !self.life.is_dead() {
            self.broker.witnessed(|witness| witness.says(self.life.name(), &request.method, &request.args));
        }
        self.reach(Duration::from_secs(30)).await?;
        let weather = self.broker.state().weather;
        let body = Arc::new(encode_request(target, request, &self.broker.id(), None));
        self.record(target, false, &body);
        let message = Message { body, fanout: target.fanout, expires: None, redelivered: false, reply: None };
        let queue = target.routing_key();
        if target.fanout {
            self.broker.spread(&target.topic, &message);
        } else if !self.broker.dice.chance(weather.lost) && self.broker.state().queues.contains_key(&queue) {
            self.broker.enqueue(&queue, message);
        }
        self.life.step("after a cast").await;
        Ok(())
    }

    pub(super) async fn work(
        &self,
        target: &Target,
        request: Request,
        expiration: Option<Duration>,
    ) -> Result<(), BusError> {
        self.reach(Duration::from_secs(30)).await?;
        let queue = target.routing_key();
        if !self.broker.state().queues.contains_key(&queue) {
            let Target { exchange, .. } = target;
            return Err(BusError::Unroutable { exchange: exchange.clone(), routing_key: queue });
        }
        let weather = self.broker.state().weather;
        let body = Arc::new(encode_request(target, request, &self.broker.id(), None));
        self.record(target, true, &body);
        let expires = expiration.map(|left| Instant::now() + left);
        for _ in 0..=u64::from(self.broker.dice.chance(weather.repeated)) {
            let message = Message { body: body.clone(), fanout: false, expires, redelivered: false, reply: None };
            self.broker.enqueue(&queue, message);
        }
        self.life.step("after work was stored").await;
        if self.broker.dice.chance(weather.unconfirmed) {
            sleep(Duration::from_secs(2)).await;
            return Err(BusError::Unconfirmed(Duration::from_secs(2)));
        }
        Ok(())
    }

    pub(super) async fn notify(&self) -> Result<(), BusError> {
        self.reach(Duration::from_secs(30)).await
    }

    pub(super) async fn waiting(&self, topic: &str, patience: Duration) -> Result<Option<u32>, BusError> {
        self.reach(patience).await?;
        Ok(self.broker.state().queues.get(topic).map(|queue| u32::try_from(queue.ready.len()).unwrap_or(u32::MAX)))
    }

    fn record(&self, target: &Target, work: bool, body: &Arc<Map<String, Value>>) {
        let mut state = self.broker.state();
        let (queue, topic) = (target.routing_key(), target.topic.clone());
        state.recorded.push(Recorded { queue, topic, fanout: target.fanout, work, body: body.clone() });
        if state.recorded.len() > 2000 {
            state.recorded.drain(..1000);
        }
    }

    pub(super) fn serve(&self, core: &Arc<Core>) {
        let service = &core.service;
        let Listen { topic, server, fanout: _ } = service.listen;
        let mut queues = BTreeSet::new();
        if topic {
            queues.insert(service.topic.clone());
        }
        if let (true, Some(server)) = (server, &service.server) {
            queues.insert(format!("{}.{server}", service.topic));
        }
        let mut state = self.broker.state();
        state.next += 1;
        let number = state.next;
        for queue in &queues {
            state.queues.entry(queue.clone()).or_default();
        }
        let is_work = matches!(service.delivery, Delivery::Work { .. });
        let room = usize::from(service.prefetch(&core.options)).max(1);
        let consumer = Consumer { number, core: core.clone(), life: self.life.clone(), room, is_work, queues };
        state.consumers.push(Arc::new(consumer));
        drop(state);
        let (broker, stop) = (self.broker.clone(), core.stop.clone());
        tokio::spawn(async move {
            broker.pump_all();
            // Whoever serves no more gives back what it holds.
            stop.cancelled().await;
            broker.give_back(|consumer| consumer.number == number);
            broker.state().consumers.retain(|consumer| consumer.number != number);
            broker.pump_all();
        });
    }
}

impl Bus {
    /// A member of a simulated bus. What would reach for a broker is closed before it begins.
    fn simulated(member: Member) -> Self {
        let mut options = BusOptions::default();
        let rabbit = options.rabbit.clone();
        let url = transport_url::parse(&options.transport_url, &mut options.rabbit).unwrap();
        let options = Arc::new(options);
        let connector =
            Arc::new(Connector { transport: options.transport, url, rabbit: rabbit.clone(), name: String::new() });
        let closed = tokio_util::sync::CancellationToken::new();
        closed.cancel();
        let (publishing, first) = connection::keep_connected(Arc::clone(&connector), "publish", closed.clone());
        let (consuming, second) = connection::keep_connected(connector, "consume", closed.clone());
        let publisher = Arc::new(Publisher::new(publishing, options.max_message_bytes));
        let (client, third) = Client::start(consuming.clone(), rabbit, options.max_message_bytes, closed);
        for task in [first, second, third] {
            task.abort();
        }
        Bus(Arc::new(Inner {
            options,
            consuming,
            publisher,
            client,
            broker: tokio::sync::watch::channel(super::Broker::Reached).1,
            connected: tokio::sync::watch::channel(true).1,
            looking: tokio::sync::Mutex::default(),
            shutdown: tokio_util::sync::CancellationToken::new(),
            tasks: Mutex::default(),
            simulated: Some(member),
        }))
    }
}
