//! Arguments of statements.

/// An argument of a statement.
#[derive(Debug, Clone)]
pub enum Argument<'a> {
    /// A text.
    Text(&'a str),
    /// A text that was made for the statement.
    Owned(String),
    /// A number.
    Integer(i64),
}

impl Argument<'_> {
    /// The same, for as long as one likes.
    #[must_use]
    pub fn into_owned(self) -> Argument<'static> {
        match self {
            Argument::Text(text) => Argument::Owned(text.to_owned()),
            Argument::Owned(text) => Argument::Owned(text),
            Argument::Integer(number) => Argument::Integer(number),
        }
    }

    /// What it takes on its way to the database, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Argument::Text(text) => text.len(),
            Argument::Owned(text) => text.len(),
            Argument::Integer(_) => size_of::<i64>(),
        }
    }
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Argument<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Argument<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text)
    }
}

impl From<i64> for Argument<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}
