//! Where a request goes, in oslo.messaging's words.

/// Who is addressed: one of the servers of a topic, one certain server, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// The control exchange the topic lives in.
    pub exchange: String,
    /// The topic: what kind of server is addressed.
    pub topic: String,
    /// One certain server of the topic; `None` leaves the choice to the broker.
    pub server: Option<String>,
    /// Every server of the topic. Only for casts; `server` is then ignored.
    pub fanout: bool,
    /// The endpoint's namespace; `None` for the default one.
    pub namespace: Option<String>,
    /// The endpoint's version, `MAJOR.MINOR`; `None` means 1.0 to the receiver.
    pub version: Option<String>,
}

impl Target {
    /// Any one server of `topic` in `exchange`.
    #[must_use]
    pub fn topic(exchange: impl Into<String>, topic: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), topic: topic.into(), ..Self::default() }
    }

    /// The same target, but the one server called `server`.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// The same target, but all servers of the topic.
    #[must_use]
    pub fn fanout(mut self) -> Self {
        self.fanout = true;
        self
    }

    /// The same target with an endpoint namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The same target with an endpoint version, `MAJOR.MINOR`.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The routing key: `topic` or `topic.server`.
    #[must_use]
    pub fn routing_key(&self) -> String {
        match &self.server {
            Some(server) => format!("{}.{server}", self.topic),
            None => self.topic.clone(),
        }
    }
}

/// Whether an endpoint of version `offered` can serve a request of version `requested` (absent: 1.0).
///
/// oslo.messaging's rule: equal major number, requested minor not above the offered one, and with equal minor numbers the
/// requested revision not above the offered one. A version that is not two or three numbers is compatible with nothing.
#[must_use]
pub fn version_is_compatible(offered: &str, requested: Option<&str>) -> bool {
    let (Some(offered), Some(requested)) = (version_parts(offered), version_parts(requested.unwrap_or("1.0"))) else {
        return false;
    };
    requested.0 == offered.0 && (requested.1 < offered.1 || (requested.1 == offered.1 && requested.2 <= offered.2))
}

/// The class of the exception with which a Python server answers a version that is none; `None` when it is one.
pub(crate) fn version_fault(text: &str) -> Option<&'static str> {
    let mut parts = text.split('.');
    // Number first: that is the order in which Python stumbles.
    match (parts.next().map(str::parse::<u32>), parts.next().map(str::parse::<u32>)) {
        (Some(Ok(_)), Some(Ok(_))) => None,
        (Some(Ok(_)), None) => Some("IndexError"),
        _ => Some("ValueError"),
    }
}

fn version_parts(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    let parsed = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_key_is_topic_or_topic_and_server() {
        assert_eq!(Target::topic("x", "t").routing_key(), "t");
        assert_eq!(Target::topic("x", "t").server("node-1.example").routing_key(), "t.node-1.example");
    }

    #[test]
    fn versions_follow_oslos_rule() {
        for (offered, requested, compatible) in [
            ("1.3", None, true),
            ("1.3", Some("1.0"), true),
            ("1.3", Some("1.3"), true),
            ("1.3", Some("1.4"), false),
            ("1.3", Some("2.0"), false),
            ("1.3", Some("0.9"), false),
            ("1.3", Some("1.3.5"), false),
            ("1.3", Some("1.2.9"), true),
            ("1.3.5", Some("1.3.5"), true),
            ("2.0", None, false),
            ("1.3", Some("1"), false),
            ("1.3", Some("one"), false),
            ("1.3", Some("1.0.0.0"), false),
            ("1.3", Some(""), false),
        ] {
            assert_eq!(version_is_compatible(offered, requested), compatible, "{offered} {requested:?}");
        }
    }

    #[test]
    fn what_is_no_version_fails_as_in_python() {
        for (text, fault) in [
            ("1.0", None),
            ("1.0.3", None),
            ("1", Some("IndexError")),
            ("one", Some("ValueError")),
            ("", Some("ValueError")),
            ("1.x", Some("ValueError")),
        ] {
            assert_eq!(version_fault(text), fault, "{text}");
        }
    }
}
