//! Waiting for a database, which works on threads of its own. A simulation waits for it without letting anything else happen meanwhile.

pub(super) use real::{Held, held};
pub(crate) use real::{dated, is_simulated, settled};

#[cfg(not(test))]
mod real {
    use std::borrow::Cow;

    /// An open transaction.
    pub(in crate::store) type Held = sqlx::Transaction<'static, sqlx::Any>;

    /// Holds a transaction.
    pub(in crate::store) const fn held(transaction: Held) -> Held {
        transaction
    }

    /// Waits for the database.
    pub(crate) fn settled<F: Future>(answer: F) -> F {
        answer
    }

    /// A statement with the database's own time in it.
    pub(crate) fn dated(statement: Cow<'static, str>) -> Cow<'static, str> {
        statement
    }

    /// Whether what goes on by itself must not.
    pub(crate) const fn is_simulated() -> bool {
        false
    }
}

#[cfg(test)]
mod real {
    pub(in crate::store) type Held = crate::sim::Elsewhere<sqlx::Transaction<'static, sqlx::Any>>;

    /// Holds a transaction.
    pub(in crate::store) fn held(transaction: sqlx::Transaction<'static, sqlx::Any>) -> Held {
        transaction.into()
    }

    pub(crate) use crate::sim::{dated, is_simulated, settled};
}
