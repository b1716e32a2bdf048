//! Ed25519 key pairs, their ids, and the files they live in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::text::display_safe_to;

use super::files;

/// A key file is some 120 bytes; more than this is something else.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// PEM label of PKCS#8.
const PEM_LABEL: &str = "PRIVATE KEY";

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read, or others can read it.
    #[error("key file {path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The content is no Ed25519 private key.
    #[error(
        "not an Ed25519 private key in PEM ({0}); make one with: spicectl key create, or: openssl genpkey -algorithm ed25519"
    )]
    NotAKey(String),
    /// A public key that is not 32 bytes in base64.
    #[error("not an Ed25519 public key: it takes the base64 of exactly 32 bytes")]
    NotAPublicKey,
    /// A text that is no key id.
    #[error("{0:?} is no key id: it takes 32 lower-case hexadecimal digits")]
    NotAnId(String),
    /// The cryptographic library failed.
    #[error("the cryptographic library could not {0}; check the system's random number source and memory")]
    Library(&'static str),
}

/// SHA-256 of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// Names a key: the first 16 bytes of the SHA-256 of its raw public key, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId([u8; 16]);

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Written several times with every result that is stored, so without a text of its own.
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(S::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&digits).map_err(S::Error::custom)?)
    }
}

impl KeyId {
    fn of(public_key: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(public_key)[..16]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut id = [0; 16];
        // One spelling only, so that ids can be compared as text too.
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !lower || hex::decode_to_slice(text, &mut id).is_err() {
            return Err(KeyError::NotAnId(display_safe_to(text, 64)));
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

/// The public half of a key. Its text form is the base64 of the raw 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    raw: [u8; 32],
    id: KeyId,
}

impl PublicKey {
    /// From the raw 32 bytes.
    #[must_use]
    pub fn from_raw(raw: [u8; 32]) -> Self {
        Self { raw, id: KeyId::of(&raw) }
    }

    /// The raw 32 bytes.
    #[must_use]
    pub fn as_raw(&self) -> &[u8; 32] {
        &self.raw
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == 64 && UnparsedPublicKey::new(&ED25519, self.raw).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.raw))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let raw = STANDARD.decode(text).ok().and_then(|raw| raw.try_into().ok()).ok_or(KeyError::NotAPublicKey)?;
        Ok(Self::from_raw(raw))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// A key pair that can sign. Clones share the key; nothing shows it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Library`] when there is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Library("make a key"))?;
        Self::from_pair(pair)
    }

    /// Reads PEM with an unencrypted PKCS#8 Ed25519 key, version 1 (as openssl writes it) or 2.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`]; the text never holds any part of the input.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let not_a_key = |what: &str| KeyError::NotAKey(what.to_owned());
        let block = pem::parse(text).map_err(|_| not_a_key("no PEM block"))?;
        if block.tag() == "ENCRYPTED PRIVATE KEY" {
            return Err(not_a_key("it is encrypted; store it unencrypted with mode 0600"));
        }
        if block.tag() != PEM_LABEL {
            return Err(not_a_key("the PEM block is not a PRIVATE KEY"));
        }
        let pair = Ed25519KeyPair::from_pkcs8(block.contents()).map_err(|_| not_a_key("not PKCS#8 with Ed25519"))?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let raw = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Library("give the public key"))?;
        Ok(Self { pair: Arc::new(pair), public: PublicKey::from_raw(raw) })
    }

    /// Loads a key file, which only its owner may be able to read.
    ///
    /// # Errors
    /// [`KeyError`] when it cannot be read, is accessible to group or others, belongs to somebody else, or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let fault = |reason: String| KeyError::File { path: path.to_owned(), reason };
        let content = files::read_judged(path, MAX_KEY_FILE, files::judge_private).map_err(fault)?;
        Self::from_pem(&content).map_err(|error| fault(error.to_string()))
    }

    /// Writes the key to a new file that only its owner can read (mode 0600), synced to disk.
    ///
    /// # Errors
    /// [`KeyError::File`] when the file exists already or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let fault = |reason: String| KeyError::File { path: path.to_owned(), reason };
        files::create_new(path, 0o600, self.to_pem()?.as_bytes()).map_err(|error| fault(error.to_string()))
    }

    fn to_pem(&self) -> Result<String, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Library("encode the key"))?;
        let block = pem::Pem::new(PEM_LABEL, document.as_ref());
        Ok(pem::encode_config(&block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.public.id
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Library`] when the library fails (out of memory).
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let failed = || KeyError::Library("sign");
        let signature = self.pair.try_sign(message).map_err(|_| failed())?;
        signature.as_ref().try_into().map_err(|_| failed())
    }
}

/// Shows the id, never the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}
