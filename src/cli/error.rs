//! What `spicectl` says when something does not work, and the exit code that goes with it.

use crate::rpc::{Kind, RpcError};

/// How a command ended; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done. Of a run that was waited for: every node passed.
    Done = 0,
    /// The command line, a file or this machine is at fault; the service was not asked, or not for this.
    Local = 1,
    /// The service refused: bad request, conflict, not found.
    Refused = 2,
    /// The service, or we, did not believe the other's signature, or the key may not do this.
    NotAuthorised = 3,
    /// No answer, or the service could not carry it out now.
    Unavailable = 4,
}

impl Exit {
    /// Of a run that was waited for: some node failed.
    pub const SOME_FAILED: Self = Self::Refused;
    /// Of a run that was waited for: nobody failed, but some node could not be judged.
    pub const SOME_NOT_JUDGED: Self = Self::NotAuthorised;
    /// Of `status --exit-code`: something of SPICE is at fault.
    pub const SERVICE_AT_FAULT: Self = Self::Refused;
    /// Of `status --exit-code`: SPICE works, and hosts need a look.
    pub const HOSTS_NEED_A_LOOK: Self = Self::NotAuthorised;
}

/// The exit codes as `--help` tells them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the command line, a file or this machine is at fault
  2  refused by the service: bad request, conflict, not found
  3  not authorised, or an answer that is not believed
  4  the service is unavailable or did not answer in time
  `check run --wait` and `run show --wait` say how the run went instead:
  0 every node passed, 2 some failed, 3 none failed but some could not be judged (error or timeout)
  `status --exit-code` says how the service is instead:
  0 well, 2 something of SPICE is at fault, 3 only hosts need a look, 4 a role does not answer";

/// An error: what happened, and, where it is not part of that, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl CliError {
    /// Something on this side is at fault.
    #[must_use]
    pub fn local(message: impl Into<String>) -> Self {
        Self { exit: Exit::Local, message: message.into(), hint: None }
    }

    /// The service cannot be asked.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<RpcError> for CliError {
    fn from(mut error: RpcError) -> Self {
        // A request that is not believed is refused without a signature: what is told is the refusal, and the way out.
        if error.kind == Kind::Unauthorized
            && let Some((_, told)) = error
                .message
                .split_once("the message is not signed")
                .and_then(|(_, rest)| rest.split_once("; it says: "))
        {
            error.message = format!("refused (the refusal is not signed): {told}");
        }
        let (exit, hint) = match error.kind {
            Kind::BadRequest | Kind::NotFound | Kind::Conflict => (Exit::Refused, None),
            Kind::Unauthorized if error.message.starts_with("the answer of") => (
                Exit::NotAuthorised,
                Some(
                    "see that the trust directory (--trust-dir) holds the keys of Checks and Nodes: `spicectl key list`",
                ),
            ),
            Kind::Unauthorized => (
                Exit::NotAuthorised,
                Some(
                    "see that the service's trust directory holds this key under this sender, and that both clocks agree",
                ),
            ),
            Kind::Forbidden => (Exit::NotAuthorised, Some("use a key that has the role (--key)")),
            Kind::Unavailable => {
                (Exit::Unavailable, Some("`spicectl status` shows which roles answer; then look at the log of spiced"))
            }
            Kind::Internal => (Exit::Unavailable, None),
        };
        Self { exit, message: error.message, hint: hint.map(str::to_owned) }
    }
}

/// An answer that is not what the protocol says: another version of the service.
pub fn unexpected(what: &str) -> CliError {
    CliError::unavailable(format!("the service's answer has no {what}; is it of the same version as this spicectl?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_signature_is_told_as_what_it_is() {
        let told =
            "the answer of spice-checks is not believed: the message is not signed: sign it; it says: key k is unknown";
        let error = CliError::from(RpcError::unauthorized(told));
        assert_eq!(error.message, "refused (the refusal is not signed): key k is unknown");
        assert!(error.hint.is_some_and(|hint| hint.contains("the service's trust directory")));
    }

    #[test]
    fn every_kind_of_refusal_has_its_documented_code() {
        let code = |error: RpcError| CliError::from(error).exit as u8;
        assert_eq!(code(RpcError::bad_request("x")), 2);
        assert_eq!(code(RpcError::not_found("x")), 2);
        assert_eq!(code(RpcError::conflict("x")), 2);
        assert_eq!(code(RpcError::unauthorized("x")), 3);
        assert_eq!(code(RpcError::forbidden("x")), 3);
        assert_eq!(code(RpcError::unavailable("x")), 4);
    }
}
