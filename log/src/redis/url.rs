use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// The prefix of every key, unless the URL names another.
pub const PREFIX_DEFAULT: &str = "miroir";
/// The port of a host that names none; sentinels have [`SENTINEL_PORT_DEFAULT`].
pub const PORT_DEFAULT: u16 = 6379;
/// The port of a sentinel that names none.
pub const SENTINEL_PORT_DEFAULT: u16 = 26379;
/// How long an answer may take, unless the URL says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_millis(5_000);
/// How long a connection may take, unless the URL says otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_millis(5_000);
/// The longest timeout that a URL may ask for.
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// What a URL may say after the question mark.
const OPTIONS: &str = "prefix, durability, timeout_ms, connect_timeout_ms, sentinel, tls_ca";

/// When an append counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The server has executed it.
    #[default]
    Accepted,
    /// The server has synced it to its disk.
    Fsynced,
    /// That many replicas have it.
    Replicated(u32),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Fsynced => f.write_str("fsynced"),
            Self::Replicated(replicas) => write!(f, "replicated:{replicas}"),
        }
    }
}

impl FromStr for Durability {
    type Err = RedisUrlError;
    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let wrong = || {
            RedisUrlError(format!(
                "durability {text:?}: expected accepted, fsynced or replicated:N with N from 1 to {}",
                u32::MAX
            ))
        };
        match text {
            "accepted" => Ok(Self::Accepted),
            "fsynced" => Ok(Self::Fsynced),
            _ => {
                let replicas = text.strip_prefix("replicated:").ok_or_else(wrong)?;
                replicas.parse().ok().filter(|n| *n > 0).map(Self::Replicated).ok_or_else(wrong)
            }
        }
    }
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name or an address; an IPv6 address without its brackets.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the server that asked for it, never for a message.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a store in Redis is, and how to talk to it:
/// `redis://[user[:password]@]host[:port][,host2[:port2]...][/db][?options]`, or `rediss://` with TLS.
///
/// | option | default | meaning |
/// | --- | --- | --- |
/// | `prefix` | `miroir` | the first part of every key; in braces it makes them one slot of a Redis Cluster |
/// | `durability` | `accepted` | `accepted`, `fsynced` or `replicated:N` |
/// | `timeout_ms` | 5000 | how long an answer may take |
/// | `connect_timeout_ms` | 5000 | how long a connection may take |
/// | `sentinel` | | name of the master; then the hosts are sentinels |
/// | `tls_ca` | the system's roots | path of a PEM file with the authorities to trust |
///
/// User, password and options are percent-decoded. Both [`fmt::Display`] and [`fmt::Debug`] mask the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// `rediss://`
    pub tls: bool,
    /// The ACL user; the server's default user if none.
    pub user: Option<String>,
    /// Its password, if the URL has one.
    pub password: Option<Secret>,
    /// At least one: they are tried in this order.
    pub hosts: Vec<Host>,
    /// The number of the database.
    pub db: u32,
    /// The first part of every key, without the colon.
    pub prefix: String,
    /// When an append counts as done.
    pub durability: Durability,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// The name of the master that the hosts, being sentinels, are asked for.
    pub sentinel: Option<String>,
    /// A PEM file with the authorities to trust instead of the system's.
    pub tls_ca: Option<PathBuf>,
}

/// A text that is no [`RedisUrl`]. It never repeats what may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis URL: {0}")]
pub struct RedisUrlError(String);

fn wrong<T>(why: impl Into<String>) -> Result<T, RedisUrlError> {
    Err(RedisUrlError(why.into()))
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return wrong("expected redis://host:port/db?options, or rediss:// for TLS"),
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        if db.contains('@') || options.contains('@') && !authority.contains('@') {
            // Said before anything is repeated: what stands here is probably the end of a password.
            return wrong("in user and password, write / as %2F, ? as %3F, @ as %40 and % as %25");
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = parse_login(login.unwrap_or(""))?;
        let db = match db {
            "" => 0,
            _ => db.parse().map_err(|_| RedisUrlError(format!("database {db:?}: expected a number such as 0")))?,
        };
        let mut url = Self {
            tls,
            user,
            password,
            hosts: Vec::new(),
            db,
            prefix: PREFIX_DEFAULT.into(),
            durability: Durability::default(),
            timeout: TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            sentinel: None,
            tls_ca: None,
        };
        let mut said = Vec::new();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if said.contains(&name) {
                return wrong(format!("option {name:?} stands twice"));
            }
            said.push(name);
            url.set(name, decoded(value, name)?)?;
        }
        let port = if url.sentinel.is_some() { SENTINEL_PORT_DEFAULT } else { PORT_DEFAULT };
        url.hosts = hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<_, _>>()?;
        if url.tls_ca.is_some() && !url.tls {
            return wrong("tls_ca: expected only with rediss://");
        }
        Ok(url)
    }
}

impl RedisUrl {
    fn set(&mut self, name: &str, value: String) -> Result<(), RedisUrlError> {
        let milliseconds = || match value.parse() {
            Ok(ms @ 1..=TIMEOUT_MS_MAX) => Ok(Duration::from_millis(ms)),
            _ => wrong(format!("{name}={value}: expected milliseconds from 1 to {TIMEOUT_MS_MAX}")),
        };
        match name {
            "prefix" if value.is_empty() => return wrong("prefix: expected at least one character"),
            "prefix" if value.chars().any(char::is_control) => return wrong("prefix: has a control character"),
            "prefix" => self.prefix = value,
            "durability" => self.durability = value.parse()?,
            "timeout_ms" => self.timeout = milliseconds()?,
            "connect_timeout_ms" => self.connect_timeout = milliseconds()?,
            "sentinel" if value.is_empty() => return wrong("sentinel: expected the name of a master"),
            "sentinel" => self.sentinel = Some(value),
            "tls_ca" if value.is_empty() => return wrong("tls_ca: expected the path of a PEM file"),
            "tls_ca" => self.tls_ca = Some(value.into()),
            _ => return wrong(format!("unknown option {name:?}: expected one of {OPTIONS}")),
        }
        Ok(())
    }
}

fn parse_login(login: &str) -> Result<(Option<String>, Option<Secret>), RedisUrlError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let user = Some(decoded(user, "user")?).filter(|user| !user.is_empty());
    let password = password.map(|text| decoded(text, "password")).transpose()?;
    Ok((user, password.filter(|text| !text.is_empty()).map(Secret)))
}

fn parse_host(text: &str, port_default: u16) -> Result<Host, RedisUrlError> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_prefix(':').unwrap_or("?"))),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return wrong("a host is empty: expected host or host:port, an IPv6 address in brackets");
    }
    let port = match port {
        None => port_default,
        Some(port) => match port.parse() {
            Ok(port @ 1..) => port,
            _ => return wrong(format!("port of host {name}: expected a number from 1 to 65535")),
        },
    };
    Ok(Host { name: name.into(), port })
}

/// Percent-decoded. `what` is named in the error, `text` is not.
fn decoded(text: &str, what: &str) -> Result<String, RedisUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return wrong(format!("{what}: expected two hexadecimal digits after each %")),
        }
    }
    String::from_utf8(bytes).or_else(|_| wrong(format!("{what}: expected UTF-8")))
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~{}/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if self.user.is_some() || self.password.is_some() {
            let user = encoded(self.user.as_deref().unwrap_or("")).replace('/', "%2F");
            write!(f, "{user}{}@", if self.password.is_some() { ":***" } else { "" })?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if index > 0 { "," } else { "" })?;
        }
        write!(f, "/{}?prefix={}", self.db, encoded(&self.prefix))?;
        if self.durability != Durability::default() {
            write!(f, "&durability={}", self.durability)?;
        }
        if self.timeout != TIMEOUT_DEFAULT {
            write!(f, "&timeout_ms={}", self.timeout.as_millis())?;
        }
        if self.connect_timeout != CONNECT_TIMEOUT_DEFAULT {
            write!(f, "&connect_timeout_ms={}", self.connect_timeout.as_millis())?;
        }
        if let Some(sentinel) = &self.sentinel {
            write!(f, "&sentinel={}", encoded(sentinel))?;
        }
        if let Some(ca) = &self.tls_ca {
            write!(f, "&tls_ca={}", encoded(&ca.to_string_lossy()))?;
        }
        Ok(())
    }
}
