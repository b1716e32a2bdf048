//! Several pool caches of one cloud, each in trouble of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use spice::rpc::table::Topic;

use crate::cloud::{Cloud, pool_file};
use crate::lab::{Lab, eventually};
use crate::proxy::Proxy;

/// A cache with folders of its own, as on a machine of its own.
struct Cache {
    name: &'static str,
    url: String,
    folder: PathBuf,
}

impl Cache {
    /// Started, it reaches the bus by `url`.
    async fn start(cloud: &mut Cloud, name: &'static str, url: String) -> Self {
        let folder = cloud.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let (own, common) = (folder.display(), cloud.state().display().to_string());
        let settings = format!(
            "[spice]\nstate_dir = {own}/state\n[security]\nkey_dir = {common}/keys\ntrust_dir = {common}/trust\n\
             [pool]\nrun_dir = {own}/run\n"
        );
        let file = folder.join("spice.conf");
        std::fs::write(&file, settings).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let cache = Self { name, url, folder };
        cache.start_again(cloud).await;
        cache
    }

    async fn start_again(&self, cloud: &mut Cloud) {
        let file = self.folder.join("spice.conf");
        cloud.start_as(self.name, &["--role", "pool", "--config-file", file.to_str().unwrap()], &self.url).await;
    }

    fn says(&self, node: &str) -> Option<char> {
        pool_file(&self.folder.join("run/pool")).get(node).map(|(level, _)| *level)
    }

    async fn await_level(&self, node: &str, level: char) {
        let what = format!("{} says {level} of {node}", self.name);
        eventually(&what, async || self.says(node) == Some(level)).await;
    }

    fn last_heard(&self) -> Option<SystemTime> {
        std::fs::metadata(self.folder.join("run/pool.alive")).and_then(|file| file.modified()).ok()
    }

    /// Epoch and version of the file, and all it says of nodes.
    fn content(&self) -> (Value, Value, Vec<String>) {
        let text = std::fs::read_to_string(self.folder.join("run/pool")).unwrap_or_default();
        let mut lines = text.lines().skip(1);
        let header: Value = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        (header["epoch"].clone(), header["version"].clone(), lines.map(str::to_owned).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_a_restarted_and_a_cut_off_cache_fall_silent_and_then_say_what_the_others_say() {
    let lab = Lab::new().await;
    let proxy = Proxy::before(lab.ports.amqp).await;
    let (url, through) = (lab.transport_url(), proxy.transport_url(&lab));
    let mut cloud = Cloud::prepare_on(lab, &url, "");
    let adapters = ["openattestation", "command"].map(|name| name.parse().unwrap());
    spice::security::bootstrap::create_keys(&cloud.state(), &crate::cloud::deployment(), &adapters).unwrap();
    for role in ["nodes", "checks", "adapter"] {
        cloud.start(role, &["--role", role]).await;
    }
    let well = Cache::start(&mut cloud, "well", url.clone()).await;
    let slow = Cache::start(&mut cloud, "slow", url.clone()).await;
    let restarted = Cache::start(&mut cloud, "restarted", url).await;
    let cut = Cache::start(&mut cloud, "cut", through).await;
    cloud.register_nodes(3).await;
    cloud.register_attestation("1h", 7200).await;
    for cache in [&well, &slow, &restarted, &cut] {
        cache.await_level("node-3", 't').await;
    }

    cloud.signal("slow", Signal::SIGSTOP);
    cloud.kill("restarted").await;
    proxy.freeze();
    cloud.admin(Topic::Nodes, "node_quarantine", json!({ "name": "node-2", "reason": "a story" })).await;
    well.await_level("node-2", 'u').await;
    let silent_since = [&slow, &restarted, &cut].map(|cache| (cache.name, cache.last_heard()));
    for _ in 0..2 {
        let heard = well.last_heard();
        eventually("the well one hears Nodes again", async || well.last_heard() > heard).await;
    }
    // They cannot know. What their readers see is that nothing was heard for longer and longer, which ends trust.
    for (cache, (name, since)) in [&slow, &restarted, &cut].into_iter().zip(silent_since) {
        assert_eq!((cache.says("node-2"), cache.last_heard()), (Some('t'), since), "{name}");
    }

    cloud.signal("slow", Signal::SIGCONT);
    restarted.start_again(&mut cloud).await;
    proxy.heal();
    for cache in [&slow, &restarted, &cut] {
        cache.await_level("node-2", 'u').await;
    }
    eventually("all say the same", async || {
        let said = well.content();
        [&slow, &restarted, &cut].iter().all(|cache| cache.content() == said)
    })
    .await;
}
