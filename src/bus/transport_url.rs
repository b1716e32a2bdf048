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
    for (position, item) in hosts.split(',').filter(|item| !item.is_empty()).enumerate() {
        parsed.push(parse_host(item).map_err(|why| format!("host {} of transport_url: {why}", position + 1))?);
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

/// Options in the query override those of the file; repeated ones are joined with a comma.
fn apply_query(query: &str, rabbit: &mut RabbitOptions) -> Result<(), String> {
    let mut options: Vec<(String, String)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
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
            ("rabbit://", vec![host("localhost", 5672, "guest", "guest")]),
            ("RABBIT://u:p@h:1/", vec![host("h", 1, "u", "p")]),
            ("rabbit://user@dom:pw@h", vec![host("h", 5672, "user@dom", "pw")]),
            ("rabbit://u:p%2Fq+r%40@h", vec![host("h", 5672, "u", "p/q+r@")]),
            ("rabbit://u:p@a:1,,b:2", vec![host("a", 1, "u", "p"), host("b", 2, "guest", "guest")]),
            ("rabbit://u:a:b@[::1]:5673/v", vec![host("::1", 5673, "u", "a:b")]),
            ("rabbit://[fe80::1]", vec![host("fe80::1", 5672, "guest", "guest")]),
        ] {
            assert_eq!(parse_plain(url).unwrap().hosts, expected, "{url}");
        }
    }

    #[test]
    fn virtual_hosts_follow_oslos_rules() {
        for (path, expected) in
            [("", "/"), ("/", "/"), ("//", "/"), ("/%2F", "/"), ("/vh", "vh"), ("/a/b", "a/b"), ("/a%2Fb", "a/b")]
        {
            assert_eq!(parse_plain(&format!("rabbit://h{path}")).unwrap().virtual_host, expected, "{path}");
        }
    }

    #[test]
    fn the_query_overrides_options_and_is_strict() {
        let mut rabbit = RabbitOptions::default();
        parse("rabbit://h/?ssl=1&ssl_ca_file=%2Fetc%2Fca.pem&heartbeat_timeout_threshold=7", &mut rabbit).unwrap();
        assert!(rabbit.ssl);
        assert_eq!((rabbit.ssl_ca_file.as_str(), rabbit.heartbeat_timeout_threshold), ("/etc/ca.pem", 7));
        assert!(parse_plain("rabbit://h/?heartbeat_in_pthread=1").unwrap_err().contains("heartbeat_in_pthread"));
        assert!(parse_plain("rabbit://h/?ssl=maybe").is_err());
    }

    #[test]
    fn faults_are_named_without_the_password() {
        for url in [
            "amqps://u:geheim@h",
            "rabbit:u:geheim@h",
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
