use std::{
    collections::HashMap,
    env, fs, io,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use redis::{
    Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates,
};

use super::{
    Part, Parts, RedisUrl, Secret, Wire, to_store_error,
    url::{Host, PORT_DEFAULT},
};
use crate::StoreError;

/// The password, if the URL has none.
pub const PASSWORD_VARIABLE: &str = "TASKLOG_REDIS_PASSWORD";
/// The password of the sentinels.
pub const SENTINEL_PASSWORD_VARIABLE: &str = "TASKLOG_REDIS_SENTINEL_PASSWORD";
/// Older servers are refused: their streams do not say what was deleted from them.
pub const SERVER_MAJOR_MIN: u32 = 7;

/// What a node is asked as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Server,
    Sentinel,
}

/// A server that takes writes.
struct Checked {
    conn: Connection,
    host: Host,
    info: HashMap<String, String>,
}

/// Finds and opens connections to the server that takes the writes of one store: the first host that answers, the
/// master that the sentinels name, or the node of a cluster that owns the prefix.
#[derive(Clone, Debug)]
pub struct Connector {
    url: RedisUrl,
    password: Option<Secret>,
    sentinel_password: Option<Secret>,
}

impl Connector {
    /// Connects nowhere yet. Passwords that the URL does not have are taken from [`PASSWORD_VARIABLE`] and
    /// [`SENTINEL_PASSWORD_VARIABLE`].
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self::with_variables(url, |name| env::var(name).ok())
    }

    /// The same with other variables than those of the process.
    #[must_use]
    pub fn with_variables(url: RedisUrl, variables: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variables(name).filter(|text| !text.is_empty()).map(Secret::new);
        let password = url.password.clone().or_else(|| variable(PASSWORD_VARIABLE));
        Self { url, password, sentinel_password: variable(SENTINEL_PASSWORD_VARIABLE) }
    }

    /// What it connects to.
    #[must_use]
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Hosts and user, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts: Vec<_> = self.url.hosts.iter().map(ToString::to_string).collect();
        let mut text = match &self.url.sentinel {
            Some(master) => format!("Redis {master} of the sentinels {}", hosts.join(", ")),
            None => format!("Redis at {}", hosts.join(", ")),
        };
        if let Some(user) = &self.url.user {
            text.push_str(&format!(" as user {user}"));
        }
        text
    }

    /// A connection whose answers may take as long as the URL says.
    ///
    /// # Errors
    /// `unavailable`: nobody answers, the login is refused, the server is older than 7.0 or a replica, the sentinels
    /// know no such master, or no node of the cluster owns the prefix.
    pub fn connect(&self) -> Result<Connection, StoreError> {
        self.connect_for(self.url.timeout)
    }

    /// A connection whose answers may take `response_timeout`: for blocking commands, which need one of their own.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect_for(&self, response_timeout: Duration) -> Result<Connection, StoreError> {
        self.first(|found| self.with_timeouts(found.conn, response_timeout))
    }

    /// A connection for reading much; its answers may take as long as the URL says.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn wire(&self) -> Result<Wire, StoreError> {
        self.first(|found| match self.url.tls {
            true => self.with_timeouts(found.conn, self.url.timeout).map(Wire::of_driver),
            false => self.plain_wire(&found),
        })
    }

    /// What `then` makes of the first host of which it can make anything.
    fn first<T>(&self, then: impl Fn(Checked) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut failed = Vec::new();
        for host in &self.url.hosts {
            let found = match &self.url.sentinel {
                Some(master) => self.ask_sentinel(host, master).and_then(|host| self.checked(&host)),
                None => self.checked(host),
            };
            match found.and_then(&then) {
                Ok(made) => return Ok(made),
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            1 => Err(failed.remove(0)),
            _ => {
                let all: Vec<_> = failed.iter().map(StoreError::full).collect();
                Err(StoreError::unavailable(format!("connecting to {}: {}", self.describe(), all.join("; "))))
            }
        }
    }

    fn with_timeouts(&self, conn: Connection, response_timeout: Duration) -> Result<Connection, StoreError> {
        let set = conn
            .set_read_timeout(Some(response_timeout))
            .and_then(|()| conn.set_write_timeout(Some(response_timeout.max(self.url.timeout))));
        set.map_err(|error| to_store_error("setting timeouts", error))?;
        Ok(conn)
    }

    /// Another connection to a server that was found fit, with the same login.
    fn plain_wire(&self, found: &Checked) -> Result<Wire, StoreError> {
        let host = &found.host;
        let doing = self.doing(host, As::Server);
        let failed = |error| to_store_error(&doing, error);
        let mut stream = Err(io::Error::other("its name has no address"));
        for address in (host.name.as_str(), host.port).to_socket_addrs().map_err(|error| failed(error.into()))? {
            stream = TcpStream::connect_timeout(&address, self.url.connect_timeout);
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.url.timeout))?;
            stream.set_write_timeout(Some(self.url.timeout))?;
            Ok(stream)
        });
        let mut wire = Wire::plain(stream.map_err(|error| failed(error.into()))?);
        let mut ask = |words: &[&str]| -> Result<String, StoreError> {
            let mut packed = Vec::new();
            Wire::pack(&mut packed, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
            wire.send(&packed).map_err(failed)?;
            match Parts::of(wire.answer().map_err(failed)?).next() {
                Some(Part::Status(text) | Part::Bytes(text)) => Ok(String::from_utf8_lossy(text).into_owned()),
                Some(Part::Error(why)) => Err(failed(Wire::error(why))),
                _ => Err(StoreError::unavailable(format!("{doing}: {} was answered in a strange way", words[0]))),
            }
        };
        match (&self.url.user, &self.password) {
            (Some(user), Some(password)) => ask(&["AUTH", user, password.reveal()]).map(drop)?,
            (None, Some(password)) => ask(&["AUTH", password.reveal()]).map(drop)?,
            (_, None) => {}
        }
        if self.url.db != 0 {
            ask(&["SELECT", &self.url.db.to_string()])?;
        }
        // A name may lead to another server now.
        let info = lines(&ask(&["INFO"])?);
        if info.get("run_id") != found.info.get("run_id") {
            return Err(StoreError::unavailable(format!("{doing}: another server answers there now")));
        }
        Ok(wire)
    }

    fn doing(&self, host: &Host, role: As) -> String {
        match (&self.url.user, role) {
            (Some(user), As::Server) => format!("connecting to Redis at {host} as user {user}"),
            (None, As::Server) => format!("connecting to Redis at {host}"),
            (_, As::Sentinel) => format!("asking the sentinel at {host}"),
        }
    }

    fn open(&self, host: &Host, role: As) -> Result<Connection, StoreError> {
        let doing = || self.doing(host, role);
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let password = match role {
            As::Server => {
                settings = settings.set_db(i64::from(self.url.db));
                if let Some(user) = &self.url.user {
                    settings = settings.set_username(user);
                    if self.password.is_none() {
                        let why = format!("{}: no password in the URL nor in {PASSWORD_VARIABLE}", doing());
                        return Err(StoreError::unavailable(why));
                    }
                }
                &self.password
            }
            As::Sentinel => &self.sentinel_password,
        };
        if let Some(password) = password {
            settings = settings.set_password(password.reveal());
        }
        self.client(host, settings, doing())?
            .get_connection_with_timeout(self.url.connect_timeout)
            .and_then(|conn| {
                conn.set_read_timeout(Some(self.url.connect_timeout))?;
                Ok(conn)
            })
            .map_err(|error| to_store_error(&doing(), error))
    }

    fn client(&self, host: &Host, settings: RedisConnectionInfo, doing: String) -> Result<Client, StoreError> {
        let (name, port) = (host.name.clone(), host.port);
        let addr = match self.url.tls {
            true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(name, port),
        };
        let info = addr.into_connection_info().map(|info| {
            let tcp = info.tcp_settings().clone().set_nodelay(true);
            info.set_tcp_settings(tcp).set_redis_settings(settings)
        });
        let client = if self.url.tls {
            // An error means that the process has chosen a provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let root_cert = match &self.url.tls_ca {
                None => None,
                Some(path) => Some(fs::read(path).map_err(|error| {
                    StoreError::unavailable_because(format!("{doing}: reading tls_ca {}", path.display()), error)
                })?),
            };
            info.and_then(|info| Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }))
        } else {
            info.and_then(Client::open)
        };
        client.map_err(|error| to_store_error(&doing, error))
    }

    /// A connection to `host`, or to the node of its cluster that owns the prefix, fit to write to.
    fn checked(&self, host: &Host) -> Result<Checked, StoreError> {
        let mut conn = self.open(host, As::Server)?;
        let mut info = self.info(host, &mut conn)?;
        let mut at = host.clone();
        if info.get("cluster_enabled").is_some_and(|enabled| enabled == "1")
            && let Some(owner) = self.owner(host, &mut conn)?
        {
            conn = self.open(&owner, As::Server)?;
            info = self.info(&owner, &mut conn)?;
            at = owner;
        }
        let version = info.get("redis_version").map_or("unknown", String::as_str);
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < SERVER_MAJOR_MIN) {
            return Err(StoreError::unavailable(format!(
                "{}: its version is {version}, expected Redis 7.0 or Valkey 7.2 at least",
                self.doing(&at, As::Server)
            )));
        }
        if info.get("role").is_some_and(|role| role != "master") {
            return Err(StoreError::unavailable(format!(
                "{}: it is a replica, and only its master takes writes",
                self.doing(&at, As::Server)
            )));
        }
        Ok(Checked { conn, host: at, info })
    }

    fn info(&self, host: &Host, conn: &mut Connection) -> Result<HashMap<String, String>, StoreError> {
        info(conn).map_err(|error| to_store_error(&format!("{}: INFO", self.doing(host, As::Server)), error))
    }

    /// The node of a cluster that owns the prefix; none if it is the one that was asked.
    fn owner(&self, asked: &Host, conn: &mut Connection) -> Result<Option<Host>, StoreError> {
        let prefix = &self.url.prefix;
        if !has_hash_tag(prefix) {
            return Err(StoreError::unavailable(format!(
                "{}: it is a Redis Cluster, and prefix {prefix} would spread over its nodes: expected a prefix in braces, \
                 as in prefix={{{prefix}}}",
                self.doing(asked, As::Server)
            )));
        }
        let doing = format!("{}: CLUSTER SLOTS", self.doing(asked, As::Server));
        let failed = |error| to_store_error(&doing, error);
        let slot: u16 =
            redis::cmd("CLUSTER").arg("KEYSLOT").arg(format!("{prefix}:log")).query(conn).map_err(failed)?;
        let me: String = redis::cmd("CLUSTER").arg("MYID").query(conn).map_err(failed)?;
        let ranges: Vec<Vec<redis::Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(conn).map_err(failed)?;
        for range in ranges {
            let [from, to, master, ..] = &range[..] else { continue };
            let (from, to): (u16, u16) = (
                redis::from_redis_value(from.clone()).map_err(|error| failed(error.into()))?,
                redis::from_redis_value(to.clone()).map_err(|error| failed(error.into()))?,
            );
            if !(from..=to).contains(&slot) {
                continue;
            }
            let redis::Value::Array(master) = master else { continue };
            let text = |index: usize| master.get(index).and_then(|v| redis::from_redis_value::<String>(v.clone()).ok());
            if text(2).as_deref() == Some(&me) {
                return Ok(None);
            }
            // A node that does not know the owner's name means: the one you reached me by.
            let name = text(0).filter(|name| !name.is_empty() && name != "?").unwrap_or_else(|| asked.name.clone());
            let port = text(1).and_then(|port| port.parse().ok()).unwrap_or(PORT_DEFAULT);
            return Ok(Some(Host { name, port }));
        }
        Err(StoreError::unavailable(format!("{doing}: no node owns slot {slot} of prefix {prefix}")))
    }

    /// The address of the master, as one sentinel knows it.
    fn ask_sentinel(&self, sentinel: &Host, master: &str) -> Result<Host, StoreError> {
        let mut conn = self.open(sentinel, As::Sentinel)?;
        let doing = self.doing(sentinel, As::Sentinel);
        let answer: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(master)
            .query(&mut conn)
            .map_err(|error| to_store_error(&doing, error))?;
        match answer {
            Some((name, port)) => Ok(Host { name, port }),
            None => Err(StoreError::unavailable(format!("{doing}: it knows no master called {master}"))),
        }
    }
}

/// Whether every key that begins with `prefix` has the same slot: it has braces with something between them.
fn has_hash_tag(prefix: &str) -> bool {
    let tag = prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.is_some_and(|(tag, _)| !tag.is_empty())
}

/// The lines of `INFO`.
pub(super) fn info(conn: &mut Connection) -> RedisResult<HashMap<String, String>> {
    let text: String = redis::cmd("INFO").query(conn)?;
    Ok(lines(&text))
}

fn lines(info: &str) -> HashMap<String, String> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}
