//! The trust store of a running process: read again when the directory changes. Whatever happens to the directory, nothing
//! more is believed than before: a damaged file, or directory, leaves what was read before in force and is told.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::keys::{KeyId, sha256};
use super::trust_store::{TrustStore, TrustStoreError, TrustedKey, list};

/// The directory is looked at no more often than this.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// And no more often than this, however many unknown keys come along.
const FORCED_INTERVAL: Duration = Duration::from_millis(250);

/// Looking at a directory may take this part of a core at most: the larger it is, the rarer it is looked at.
const POLL_SHARE: u32 = 20;

/// A change as old as this can be told from a later one by its time, whatever the file system's granularity.
const SETTLED_AFTER: i64 = 2;

/// A trust store that follows its directory. Looking a key up is cheap and rarely (at most every 2 s) reads the directory.
#[derive(Debug)]
pub struct SharedTrustStore {
    current: RwLock<Arc<TrustStore>>,
    generation: AtomicU64,
    watch: Option<Mutex<Watch>>,
    /// Why the directory as a whole could not be read again.
    unread: RwLock<Option<String>>,
}

/// How a trust store is, for status and alarms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustReport {
    /// How many keys are believed.
    pub keys: usize,
    /// How many of them are revoked.
    pub revoked: usize,
    /// Everything that is wrong with the directory and its files; what was read before stays in force.
    pub faults: Vec<String>,
}

#[derive(Debug)]
struct Watch {
    dir: PathBuf,
    interval: Duration,
    next: Instant,
    /// Before that time nobody makes it look, however unknown a key.
    not_before: Instant,
    seen: Fingerprint,
    /// The last fault told, so that it is told once.
    told: Option<String>,
}

/// Digest of names, sizes, times and modes; `None` when the directory cannot be read, or changed so lately that a further
/// change could bear the same time.
type Fingerprint = Option<[u8; 32]>;

impl SharedTrustStore {
    /// Reads `dir` and follows it from then on. Faults in files are logged.
    ///
    /// # Errors
    /// [`TrustStoreError`] when the directory as a whole cannot be used.
    pub fn open(dir: &Path) -> Result<Arc<Self>, TrustStoreError> {
        Self::open_polling(dir, POLL_INTERVAL)
    }

    /// [`Self::open`], looking at the directory every `interval`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_polling(dir: &Path, interval: Duration) -> Result<Arc<Self>, TrustStoreError> {
        // The fingerprint comes first: a change between the two is then seen at the next look.
        let seen = fingerprint(dir);
        let store = TrustStore::load(dir)?;
        tell_faults(&store);
        let now = Instant::now();
        let watch = Watch { dir: dir.to_owned(), interval, next: now + interval, not_before: now, seen, told: None };
        Ok(Arc::new(Self {
            current: RwLock::new(Arc::new(store)),
            generation: AtomicU64::new(1),
            watch: Some(Mutex::new(watch)),
            unread: RwLock::new(None),
        }))
    }

    /// A store that never changes, for tests and tools.
    #[must_use]
    pub fn fixed(store: TrustStore) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(Arc::new(store)),
            generation: AtomicU64::new(1),
            watch: None,
            unread: RwLock::new(None),
        })
    }

    /// The store as it is now. Takes the directory's changes in when it is time to look.
    #[must_use]
    pub fn current(&self) -> Arc<TrustStore> {
        if let Some(watch) = &self.watch {
            match watch.try_lock() {
                Ok(mut watch) => self.poll(&mut watch),
                Err(TryLockError::Poisoned(watch)) => self.poll(&mut watch.into_inner()),
                // Another thread is looking; this one goes on with what there is.
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// [`Self::current`] for somebody whose key is not known: its file may have been placed a moment ago, so the directory is
    /// looked at now. Strangers can cause this, so it is bounded.
    #[must_use]
    pub fn looked_again(&self) -> Arc<TrustStore> {
        if let Some(Ok(mut watch)) = self.watch.as_ref().map(Mutex::try_lock) {
            watch.next = watch.next.min(watch.not_before);
        }
        self.current()
    }

    /// The key with this id, as the directory says now.
    #[must_use]
    pub fn lookup(&self, key_id: &KeyId) -> Option<TrustedKey> {
        self.current().lookup(key_id).cloned()
    }

    /// Counts the changes taken in, from 1: whoever has drawn conclusions from keys draws them again when it moved.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How the store is now.
    #[must_use]
    pub fn report(&self) -> TrustReport {
        let store = self.current();
        let unread = self.unread.read().unwrap_or_else(PoisonError::into_inner).clone();
        let faults = unread.into_iter().chain(store.faults().iter().map(ToString::to_string)).collect();
        TrustReport { keys: store.len(), revoked: store.revoked().count(), faults }
    }

    fn poll(&self, watch: &mut Watch) {
        let started = Instant::now();
        if started < watch.next {
            return;
        }
        let seen = fingerprint(&watch.dir);
        if seen != watch.seen || seen.is_none() {
            watch.seen = seen;
            self.reload(watch);
        }
        let (now, rest) = (Instant::now(), started.elapsed() * POLL_SHARE);
        watch.next = now + watch.interval.max(rest);
        watch.not_before = now + FORCED_INTERVAL.max(rest);
    }

    fn reload(&self, watch: &mut Watch) {
        let before = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        match TrustStore::load_after(&watch.dir, &before) {
            Ok(store) => {
                watch.told = None;
                *self.unread.write().unwrap_or_else(PoisonError::into_inner) = None;
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if **current != store {
                    tell_faults(&store);
                    tracing::info!(dir = %watch.dir.display(), keys = store.len(), "trust store read again");
                    *current = Arc::new(store);
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
            Err(error) => {
                let text = error.to_string();
                metrics::counter!("spice_trust_store_reload_failures_total").increment(1);
                *self.unread.write().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
                if watch.told.as_deref() != Some(text.as_str()) {
                    tracing::error!("{text}; the keys read before stay in force");
                    watch.told = Some(text);
                }
            }
        }
    }
}

fn tell_faults(store: &TrustStore) {
    metrics::gauge!("spice_trust_store_faults").set(store.faults().len() as f64);
    for fault in store.faults() {
        tracing::error!("{fault}");
    }
}

fn fingerprint(dir: &Path) -> Fingerprint {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok())?;
    let mut text = Vec::new();
    for path in list(dir).ok()? {
        text.extend_from_slice(path.as_os_str().as_encoded_bytes());
        text.push(0);
        // A file that vanished since the listing counts as one without metadata.
        if let Ok(metadata) = std::fs::metadata(&path) {
            if now.saturating_sub(metadata.ctime()) <= SETTLED_AFTER {
                return None;
            }
            // The change time moves with content, mode and owner, and cannot be set back.
            for number in [metadata.ctime(), metadata.ctime_nsec(), i64::from(metadata.mode())] {
                text.extend_from_slice(&number.to_le_bytes());
            }
            text.extend_from_slice(&metadata.ino().to_le_bytes());
            text.extend_from_slice(&metadata.len().to_le_bytes());
        }
    }
    Some(sha256(&text))
}
