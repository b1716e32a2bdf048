//! The strict parser for text that was signed: it accepts only what [`canonicalize`](super::canonical::canonicalize) could have signed, in any layout.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::canonical::{CanonicalError, MAX_DEPTH, MAX_INTEGER};
use crate::text::display_safe_to;

/// Reads `text`.
///
/// # Errors
/// [`CanonicalError`] for anything that is no JSON, a member named twice, numbers other than integers within
/// ±[`MAX_INTEGER`], nesting beyond [`MAX_DEPTH`], and text after the value.
pub fn parse_strict(text: &[u8]) -> Result<Value, CanonicalError> {
    read(text)
}

/// Reads `text` as a `T`, as [`parse_strict`] and then as a `T` would. What is large is never held as a [`Value`], which takes many times the room.
///
/// # Errors
/// As [`parse_strict`]; [`CanonicalError::Syntax`] where it is no `T`.
pub fn parse_strict_as<T: DeserializeOwned>(text: &[u8]) -> Result<T, CanonicalError> {
    read::<Checked<Distinct>>(text)?;
    serde_json::from_slice(text).map_err(|error| syntax(&error))
}

/// Whether `text`, which has no spaces between its parts, is the canonical text of what it says as far as order and numbers go: members with
/// ASCII names in order, each once, and nothing that [`parse_strict`] refuses.
pub(super) fn is_in_order(text: &[u8]) -> bool {
    read::<Checked<InOrder>>(text).is_ok()
}

fn syntax(error: &serde_json::Error) -> CanonicalError {
    CanonicalError::Syntax(display_safe_to(&error.to_string(), 200))
}

fn read<B: Built>(text: &[u8]) -> Result<B, CanonicalError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 0, built: PhantomData }.deserialize(&mut reader).map_err(|error| syntax(&error))?;
    reader.end().map_err(|error| syntax(&error))?;
    Ok(value)
}

/// What is made of the text.
trait Built: Sized {
    type Items: Default;
    type Members: Default;
    fn of(scalar: Value) -> Self;
    fn of_str(text: &str) -> Self;
    fn push(list: &mut Self::Items, item: Self);
    /// The name where there is such a member already.
    fn insert(object: &mut Self::Members, name: String, value: Self) -> Result<(), String>;
    fn of_list(list: Self::Items) -> Self;
    fn of_object(object: Self::Members) -> Self;
}

impl Built for Value {
    type Items = Vec<Value>;
    type Members = Map<String, Value>;

    fn of(scalar: Value) -> Self {
        scalar
    }

    fn of_str(text: &str) -> Self {
        Self::from(text)
    }

    fn push(list: &mut Self::Items, item: Self) {
        list.push(item);
    }

    fn insert(object: &mut Self::Members, name: String, value: Self) -> Result<(), String> {
        if object.contains_key(&name) {
            return Err(name);
        }
        object.insert(name, value);
        Ok(())
    }

    fn of_list(list: Self::Items) -> Self {
        Self::Array(list)
    }

    fn of_object(object: Self::Members) -> Self {
        Self::Object(object)
    }
}

/// Nothing but that it is as it should be, and its names are as `N` wants them.
struct Checked<N>(PhantomData<N>);

/// What is asked of the names of one object.
trait Names: Default {
    /// Whether the next one may be there.
    fn admit(&mut self, name: &str) -> bool;
}

/// Each is there once.
#[derive(Default)]
struct Distinct(HashSet<String>);

impl Names for Distinct {
    fn admit(&mut self, name: &str) -> bool {
        self.0.insert(name.to_owned())
    }
}

/// They are ASCII and in order, each once. Holds the one before.
#[derive(Default)]
struct InOrder(Option<String>);

impl Names for InOrder {
    fn admit(&mut self, name: &str) -> bool {
        let after = self.0.as_deref().is_none_or(|before| before < name);
        self.0 = Some(name.to_owned());
        after && name.is_ascii()
    }
}

impl<N: Names> Built for Checked<N> {
    type Items = ();
    type Members = N;

    fn of(_: Value) -> Self {
        Self(PhantomData)
    }

    fn of_str(_: &str) -> Self {
        Self(PhantomData)
    }

    fn push((): &mut Self::Items, _: Self) {}

    fn insert(object: &mut Self::Members, name: String, _: Self) -> Result<(), String> {
        if object.admit(&name) { Ok(()) } else { Err(name) }
    }

    fn of_list((): Self::Items) -> Self {
        Self(PhantomData)
    }

    fn of_object(_: Self::Members) -> Self {
        Self(PhantomData)
    }
}

/// Builds from input at nesting `depth`.
struct Strict<B> {
    depth: usize,
    built: PhantomData<B>,
}

impl<B> Strict<B> {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(CanonicalError::Depth));
        }
        Ok(Self { depth: self.depth + 1, built: PhantomData })
    }
}

impl<'de, B: Built> DeserializeSeed<'de> for Strict<B> {
    type Value = B;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<B, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, B: Built> Visitor<'de> for Strict<B> {
    type Value = B;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON of integers, text, booleans, null, lists and objects")
    }

    fn visit_unit<E>(self) -> Result<B, E> {
        Ok(B::of(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<B, E> {
        Ok(B::of(Value::Bool(value)))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<B, E> {
        if value.unsigned_abs() > MAX_INTEGER.unsigned_abs() {
            return Err(E::custom(CanonicalError::Range(value.to_string())));
        }
        Ok(B::of(Value::from(value)))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<B, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::custom(CanonicalError::Range(value.to_string()))),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<B, E> {
        Err(E::custom(CanonicalError::Float(value.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<B, E> {
        Ok(B::of_str(value))
    }

    fn visit_string<E>(self, value: String) -> Result<B, E> {
        Ok(B::of(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<B, A::Error> {
        let mut list = B::Items::default();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            B::push(&mut list, item);
        }
        Ok(B::of_list(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<B, A::Error> {
        let mut object = B::Members::default();
        // Asked before the first member: an object counts also when it is empty, as it does for whoever signs.
        self.inner()?;
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner()?)?;
            // Libraries disagree on which of two members of one name counts, so neither does.
            B::insert(&mut object, name, value).map_err(|name| {
                let shown = display_safe_to(&name, 64);
                serde::de::Error::custom(format!("member {shown:?} occurs twice"))
            })?;
        }
        Ok(B::of_object(object))
    }
}
