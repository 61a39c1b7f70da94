use redis::{Connection, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};

/// A Lua script, called by the digest of its text. A server that does not know it (restarted, or after `SCRIPT FLUSH`)
/// is given the text once and asked again.
#[derive(Clone, Debug)]
pub struct Script {
    text: String,
    digest: String,
}

impl Script {
    /// The script `text`.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        Self::of_parts(&[text])
    }

    /// The parts in order, as one script: helpers such as [`super::ENTRY_LUA`] first.
    #[must_use]
    pub fn of_parts(parts: &[&str]) -> Self {
        let text = parts.join("\n");
        let digest = sha1_smol::Sha1::from(&text).digest().to_string();
        Self { text, digest }
    }

    /// The SHA-1 of the text, 40 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Calls it.
    ///
    /// # Errors
    /// Whatever the server or the connection answers. `NOSCRIPT` only if the server forgets the text at once.
    pub fn run<T, K, A>(&self, conn: &mut Connection, keys: &[K], args: &[A]) -> RedisResult<T>
    where
        T: FromRedisValue,
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.digest).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        for arg in args {
            call.arg(arg);
        }
        match call.query(conn) {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let _: String = redis::cmd("SCRIPT").arg("LOAD").arg(&self.text).query(conn)?;
                call.query(conn)
            }
            answer => answer,
        }
    }
}
