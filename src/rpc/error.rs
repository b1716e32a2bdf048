//! Errors of RPC methods, as both ends see them.

use std::fmt;

use crate::bus::Failure;
use crate::store::{Reason, StoreError};

/// What sort of error it is: decides the exit code of `spicectl` and the class a Python caller sees in `exc_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is wrong.
    BadRequest,
    /// What it names does not exist.
    NotFound,
    /// It contradicts what exists: a name taken, a definition in use, a confirmation missing.
    Conflict,
    /// Not signed, or not signed by a key we know.
    Unauthorized,
    /// Signed by a key that may not do this.
    Forbidden,
    /// Not now: something needed is away. Asking again later may help.
    Unavailable,
    /// Our fault.
    Internal,
}

impl Kind {
    const ALL: [(Kind, &'static str); 7] = [
        (Kind::BadRequest, "BadRequest"),
        (Kind::NotFound, "NotFound"),
        (Kind::Conflict, "Conflict"),
        (Kind::Unauthorized, "Unauthorized"),
        (Kind::Forbidden, "Forbidden"),
        (Kind::Unavailable, "Unavailable"),
        (Kind::Internal, "InternalError"),
    ];

    /// The class name on the wire (`exc_type` of oslo.messaging's RemoteError).
    #[must_use]
    pub fn class(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("InternalError", |(_, class)| class)
    }

    /// The kind a class name on the wire stands for.
    #[must_use]
    pub fn of_class(class: &str) -> Kind {
        match class {
            "NoSuchMethod" | "UnsupportedVersion" => Kind::BadRequest,
            _ => Self::ALL.iter().find(|(_, name)| *name == class).map_or(Kind::Internal, |(kind, _)| *kind),
        }
    }
}

/// An error with a sentence for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What sort.
    pub kind: Kind,
    /// What happened and what to do.
    pub message: String,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),*) => {$(
        #[doc = concat!("An error of kind [`Kind::", stringify!($kind), "`].")]
        pub fn $name(message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, message: message.into() }
        }
    )*};
}

impl RpcError {
    constructors!(bad_request => BadRequest, not_found => NotFound, conflict => Conflict, unauthorized => Unauthorized,
        forbidden => Forbidden, unavailable => Unavailable);

    /// Our own fault: the detail goes to the log, the caller learns only that it happened and where to look.
    pub fn internal(detail: impl fmt::Display) -> Self {
        tracing::error!(error = %detail, "request failed inside the service");
        Self { kind: Kind::Internal, message: "the service could not carry this out; its log says why".to_owned() }
    }

    /// As it travels.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        Failure::spice(self.kind.class(), &self.message)
    }

    /// From what travelled.
    #[must_use]
    pub fn from_failure(failure: &Failure) -> Self {
        Self { kind: Kind::of_class(&failure.class), message: crate::text::display_safe_to(&failure.message, 4096) }
    }
}

/// What a database refuses for a while may succeed later; whoever asked is told so, and what sort of trouble it is.
impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        let reason = error.reason();
        if matches!(error, StoreError::LeaseLost) {
            return Self::unavailable("another process leads this role now; nothing was changed, ask again");
        }
        if reason.is_outage() || reason == Reason::Conflict {
            // The database's own alarm is in the log already, once.
            return Self::unavailable(format!(
                "the service's database takes nothing now ({}); nothing was changed, try again",
                reason.as_str()
            ));
        }
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_with_the_database_is_told_as_such_and_a_fault_of_ours_is_not_told() {
        let told = |error: StoreError| {
            let error = RpcError::from(error);
            (error.kind, error.message)
        };
        let (kind, message) = told(StoreError::Database(sqlx::Error::PoolTimedOut));
        assert_eq!(kind, Kind::Unavailable);
        assert!(message.contains("(lost)"), "{message}");
        assert_eq!(told(StoreError::LeaseLost).0, Kind::Unavailable);
        let (kind, message) = told(StoreError::Database(sqlx::Error::RowNotFound));
        assert_eq!(kind, Kind::Internal);
        assert!(!message.contains("row"), "{message}");
    }

    #[test]
    fn a_kind_survives_the_wire() {
        for (kind, class) in Kind::ALL {
            assert_eq!(Kind::of_class(class), kind);
            assert_eq!(kind.class(), class);
        }
        assert_eq!(Kind::of_class("NoSuchMethod"), Kind::BadRequest);
    }
}
