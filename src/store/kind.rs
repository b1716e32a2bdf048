//! The kinds of database, and where their SQL differs.

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of this machine.
    Sqlite,
    /// MariaDB, and what speaks its protocol.
    MySql,
}

impl Kind {
    /// An SQL expression for the database's own time, in milliseconds since 1970 (UTC): the same for everybody who uses the database,
    /// whatever their own clocks say. It is taken when a row is looked at, not when its statement began, so that a statement which had to
    /// wait for a lock does not compare with a time that is over.
    #[must_use]
    pub const fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::MySql => "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
        }
    }
}
