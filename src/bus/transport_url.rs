//! oslo.messaging's transport URL: `rabbit://user:pass@host:port,user:pass@host2:port/virtual_host?option=value`.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::options::RabbitOptions;

/// The port when the URL names none, with TLS too: oslo.messaging's choice.
const DEFAULT_PORT: u16 = 5672;
/// User and password when the URL names none.
const DEFAULT_CREDENTIAL: &str = "guest";
/// AMQP's limit on the length of a virtual host's name, in bytes.
const MAX_VIRTUAL_HOST: usize = 255;

/// Where the broker is: at least one host, and the virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransportUrl {
    pub hosts: Vec<Host>,
    pub virtual_host: String,
}

/// One broker node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

/// Without the password.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{self}", self.user)
    }
}

/// Host and port.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `url`, and applies the options of its query to `rabbit`. The errors never hold the password.
pub(crate) fn parse(url: &str, rabbit: &mut RabbitOptions) -> Result<TransportUrl, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("transport_url must look like rabbit://user:password@host:5672/virtual_host")?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "rabbit" | "kombu") {
        // Anything but a plain word may be the half of a password.
        let plain = scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let shown = if plain { format!(" with {scheme}") } else { String::new() };
        return Err(format!(
            "transport_url does not start with rabbit:// but{shown}; only rabbit is supported (for TLS add ?ssl=1 or set ssl = true)"
        ));
    }
    if rest.contains('#') {
        return Err("transport_url contains a #; write %23 for one in a password".to_owned());
    }
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (hosts, path) = rest.split_once('/').map_or((rest, ""), |(hosts, path)| (hosts, path));
    // What stands there is never shown: it may be the rest of a password.
    if query.contains('@') {
        return Err("transport_url has a ? before an @; write %3F for a ? in a password".to_owned());
    }
    if path.contains('@') {
        return Err(
            "transport_url has a / before an @; write %2F for a / in a password, %40 for an @ in a virtual host"
                .to_owned(),
        );
    }
    apply_query(query, rabbit)?;

    let mut parsed = Vec::new();
    let mut with_credentials = Vec::new();
    for (position, item) in hosts.split(',').filter(|item| !item.is_empty()).enumerate() {
        parsed.push(parse_host(item).map_err(|why| format!("host {} of transport_url: {why}", position + 1))?);
        with_credentials.push(item.contains('@'));
    }
    if with_credentials.iter().any(|with| *with) && !with_credentials.iter().all(|with| *with) {
        tracing::warn!(
            "a host of transport_url has no user and password: it does not inherit those of another, but gets guest"
        );
    }
    if parsed.is_empty() {
        parsed.push(Host {
            host: "localhost".to_owned(),
            port: DEFAULT_PORT,
            user: DEFAULT_CREDENTIAL.to_owned(),
            password: DEFAULT_CREDENTIAL.to_owned(),
        });
    }
    let virtual_host = match decoded(path, "the virtual host")? {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    };
    if virtual_host.len() > MAX_VIRTUAL_HOST {
        return Err(format!("the virtual host of transport_url has more than {MAX_VIRTUAL_HOST} bytes"));
    }
    Ok(TransportUrl { hosts: parsed, virtual_host })
}

/// `[user[:password]@]host[:port]`; credentials end at the last `@`, the user at the first `:`.
fn parse_host(item: &str) -> Result<Host, String> {
    let (credentials, address) = item.rsplit_once('@').map_or((None, item), |(before, after)| (Some(before), after));
    let (user, password) = match credentials
        .map(|text| text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password))))
    {
        Some((user, password)) => {
            (decoded(user, "the user")?, password.map(|text| decoded(text, "the password")).transpose()?)
        }
        None => (String::new(), None),
    };
    let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("an IPv6 address needs its closing bracket")?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("only :port may follow an IPv6 address".to_owned()),
        }
    } else {
        address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        Some(port) => {
            port.parse::<u16>().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?
        }
        None => DEFAULT_PORT,
    };
    let or_guest = |text: String| if text.is_empty() { DEFAULT_CREDENTIAL.to_owned() } else { text };
    Ok(Host {
        host: if host.is_empty() { "localhost".to_owned() } else { host.to_owned() },
        port,
        user: or_guest(user),
        password: or_guest(password.unwrap_or_default()),
    })
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| format!("{what} in transport_url is not UTF-8 once its % escapes are undone"))
}

/// Options in the query override those of the file; repeated ones are joined with a comma, those without a value are not there.
fn apply_query(query: &str, rabbit: &mut RabbitOptions) -> Result<(), String> {
    let mut options: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
        match options.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => options.push((name.into_owned(), value.into_owned())),
        }
    }
    for (name, value) in options {
        rabbit.set(&name, &value).map_err(|why| format!("in the query of transport_url: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn host(host: &str, port: u16, user: &str, password: &str) -> Host {
        Host { host: host.into(), port, user: user.into(), password: password.into() }
    }

    fn parse_plain(url: &str) -> Result<TransportUrl, String> {
        parse(url, &mut RabbitOptions::default())
    }

    #[test]
    fn hosts_and_credentials_follow_oslos_rules() {
        for (url, expected) in [
            // No host at all.
            ("rabbit://", vec![host("localhost", 5672, "guest", "guest")]),
            ("rabbit:///vh", vec![host("localhost", 5672, "guest", "guest")]),
            // Any case of the scheme, and its other name.
            ("RABBIT://u:p@h:1/", vec![host("h", 1, "u", "p")]),
            ("kombu://u:p@h/", vec![host("h", 5672, "u", "p")]),
            // Credentials end at the last @, the user at the first colon.
            ("rabbit://user@dom:pw@h", vec![host("h", 5672, "user@dom", "pw")]),
            ("rabbit://u:a:b@[::1]:5673/v", vec![host("::1", 5673, "u", "a:b")]),
            // Both are percent-decoded, and a plus sign is one.
            ("rabbit://u:p%2Fq+r%40@h", vec![host("h", 5672, "u", "p/q+r@")]),
            ("rabbit://u%40d:%23%3F%2C@h", vec![host("h", 5672, "u@d", "#?,")]),
            // Hosts do not inherit credentials; empty ones are skipped.
            ("rabbit://u:p@a:1,,b:2", vec![host("a", 1, "u", "p"), host("b", 2, "guest", "guest")]),
            ("rabbit://u:p@a,x:y@b:7/", vec![host("a", 5672, "u", "p"), host("b", 7, "x", "y")]),
            // Missing user or password: guest.
            ("rabbit://u@h", vec![host("h", 5672, "u", "guest")]),
            ("rabbit://:p@h", vec![host("h", 5672, "guest", "p")]),
            ("rabbit://@h", vec![host("h", 5672, "guest", "guest")]),
            // IPv6 in brackets; the port is 5672 with TLS too.
            ("rabbit://[fe80::1]", vec![host("fe80::1", 5672, "guest", "guest")]),
            ("rabbit://u:p@h/?ssl=1", vec![host("h", 5672, "u", "p")]),
        ] {
            assert_eq!(parse_plain(url).unwrap().hosts, expected, "{url}");
        }
    }

    #[test]
    fn virtual_hosts_follow_oslos_rules() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/%2F", "/"),
            ("/vh", "vh"),
            ("/a/b", "a/b"),
            ("/a%2Fb", "a/b"),
            ("/vh?ssl=0", "vh"),
            ("/v%20h%C3%BC", "v hü"),
        ] {
            assert_eq!(parse_plain(&format!("rabbit://h{path}")).unwrap().virtual_host, expected, "{path}");
        }
    }

    #[test]
    fn the_query_overrides_options_typed_like_them() {
        let mut rabbit = RabbitOptions::default();
        parse("rabbit://h/?ssl=1&ssl_ca_file=%2Fetc%2Fca.pem&heartbeat_timeout_threshold=7", &mut rabbit).unwrap();
        assert!(rabbit.ssl);
        assert_eq!((rabbit.ssl_ca_file.as_str(), rabbit.heartbeat_timeout_threshold), ("/etc/ca.pem", 7));
        for (query, ssl) in
            [("ssl=true", true), ("ssl=Yes", true), ("ssl=on", true), ("ssl=0", false), ("ssl=off", false)]
        {
            let mut rabbit = RabbitOptions::default();
            parse(&format!("rabbit://h/?{query}"), &mut rabbit).unwrap();
            assert_eq!(rabbit.ssl, ssl, "{query}");
        }
        // Repeated names are joined, which is a value only where the option is a text. No value is no option.
        let mut rabbit = RabbitOptions { ssl_ca_file: "/from/file".into(), ..RabbitOptions::default() };
        parse("rabbit://h/?ssl_ca_file=&ssl_cert_file=/a&ssl_cert_file=/b&ssl_key_file", &mut rabbit).unwrap();
        assert_eq!((rabbit.ssl_ca_file.as_str(), rabbit.ssl_cert_file.as_str()), ("/from/file", "/a,/b"));
        assert_eq!(rabbit.ssl_key_file, "");
        for (query, part) in [
            ("ssl=1&ssl=1", "ssl must be true or false"),
            ("ssl=maybe", "ssl must be true or false"),
            ("heartbeat_timeout_threshold=7.5", "heartbeat_timeout_threshold must be a whole number"),
            ("kombu_reconnect_delay=soon", "kombu_reconnect_delay must be a number"),
            ("heartbeat_rate=often", "heartbeat_rate must be a whole number"),
            ("rabbit_login_method=MAGIC", "rabbit_login_method must be"),
            ("heartbeat_in_pthread=1", "no option \"heartbeat_in_pthread\""),
            ("rpc_response_timeout=60", "no option \"rpc_response_timeout\""),
            ("SSL=1", "no option \"SSL\""),
        ] {
            let why = parse_plain(&format!("rabbit://h/?{query}")).unwrap_err();
            assert!(why.contains(part), "{query}: {why}");
        }
    }

    #[test]
    fn faults_are_named_without_the_password() {
        for url in [
            "amqps://u:geheim@h",
            "rabbit:u:geheim@h",
            "rabbits://u:geheim@h",
            "u:geheim@h",
            "rabbit://u:geheim@h:",
            "rabbit://u:geheim@h:99999",
            "rabbit://u:geheim#@h",
            "rabbit://u:geheim@[::1",
            "u:geheim@h://",
            "rabbit://u:x?geheim@h",
            "rabbit://u:1/geheim@h",
            "rabbit://u:x?ssl=geheim@h",
            "rabbit://u:%ff-geheim@h",
        ] {
            let why = parse_plain(url).unwrap_err();
            assert!(!why.contains("geheim") && !why.is_empty(), "{why}");
        }
        assert!(!format!("{:?}", host("h", 1, "u", "geheim")).contains("geheim"));
    }

    proptest! {
        #[test]
        fn any_url_is_judged_without_a_panic(url in "(rabbit://)?\\PC{0,60}") {
            let _ = parse_plain(&url);
        }
    }
}
