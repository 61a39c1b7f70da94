//! A connection for whoever reads much: see [`Wire`].

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use redis::{Connection, RedisError, RedisResult, Value};

/// The bytes there is room for at first. More is made if an answer is larger.
const ROOM_BYTES_FIRST: usize = 256 << 10;
/// The bytes of the line that begins a text, a number or a list, without what says which of them it is.
const DIGITS_MAX: usize = 20;

/// A connection that many commands are sent along at once and whose answers are read where they were received, without
/// a value of its own for each of their parts.
///
/// Behind TLS the answers come from the driver, and are only read in the same way.
pub struct Wire {
    end: End,
    /// Received bytes, and room for more.
    room: Vec<u8>,
    /// Where the next answer begins.
    begin: usize,
    /// Where the received bytes end.
    filled: usize,
}

/// What is behind it.
enum End {
    Plain(TcpStream),
    Driver(Box<Connection>),
}

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'w> {
    /// A text.
    Bytes(&'w [u8]),
    /// A status such as `OK`.
    Status(&'w [u8]),
    /// A number.
    Number(i64),
    /// So many parts follow.
    List(usize),
    /// Nothing.
    Nil,
    /// What went wrong: its code and the rest of it.
    Error(&'w [u8]),
}

/// The parts of one answer, each list before what is in it.
#[derive(Clone, Copy)]
pub struct Parts<'w>(&'w [u8]);

impl<'w> Parts<'w> {
    /// Of an answer as [`Wire::answer`] gives it.
    #[must_use]
    pub fn of(answer: &'w [u8]) -> Self {
        Self(answer)
    }
}

impl<'w> Iterator for Parts<'w> {
    type Item = Part<'w>;

    fn next(&mut self) -> Option<Part<'w>> {
        // It is whole, and was read before.
        let (part, len) = part(self.0).ok()??;
        self.0 = &self.0[len..];
        Some(part)
    }
}

impl Wire {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::at(End::Plain(stream))
    }

    pub(super) fn of_driver(conn: Connection) -> Self {
        Self::at(End::Driver(Box::new(conn)))
    }

    fn at(end: End) -> Self {
        Self { end, room: vec![0; ROOM_BYTES_FIRST], begin: 0, filled: 0 }
    }

    /// Sends commands as [`Wire::pack`] writes them.
    ///
    /// # Errors
    /// The connection's; then it is of no use any more.
    pub fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        match &mut self.end {
            End::Plain(stream) => Ok(stream.write_all(packed)?),
            End::Driver(conn) => conn.send_packed_command(packed),
        }
    }

    /// What the driver makes of an error that the server answers.
    #[must_use]
    pub fn error(why: &[u8]) -> RedisError {
        match redis::parse_redis_value(&[b"-", why, b"\r\n"].concat()).and_then(Value::extract_error) {
            Err(error) => error,
            Ok(_) => io::Error::other(String::from_utf8_lossy(why).into_owned()).into(),
        }
    }

    /// Appends one command.
    pub fn pack(out: &mut Vec<u8>, words: &[&[u8]]) {
        put_line(out, b'*', words.len() as i64);
        words.iter().for_each(|word| put_bytes(out, word));
    }

    /// The next answer, whole; an error that the server answers is an answer.
    ///
    /// # Errors
    /// The connection's; then it is of no use any more.
    pub fn answer(&mut self) -> RedisResult<&[u8]> {
        // Behind `begin`: what was looked at, and the parts that must still come.
        let (mut seen, mut left) = (0, 1);
        while left > 0 {
            match part(&self.room[self.begin + seen..self.filled]) {
                Ok(Some((part, len))) => {
                    seen += len;
                    left -= 1;
                    if let Part::List(parts) = part {
                        left += parts;
                    }
                }
                Ok(None) => self.receive()?,
                Err(Strange) => {
                    return Err(RedisError::from(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the server answered what is no RESP",
                    )));
                }
            }
        }
        let answer = self.begin..self.begin + seen;
        self.begin = answer.end;
        Ok(&self.room[answer])
    }

    /// Receives something more, behind what there is already.
    fn receive(&mut self) -> RedisResult<()> {
        self.room.copy_within(self.begin..self.filled, 0);
        self.filled -= self.begin;
        self.begin = 0;
        match &mut self.end {
            End::Plain(stream) => {
                if self.filled == self.room.len() {
                    self.room.resize(self.room.len() * 2, 0);
                }
                loop {
                    match stream.read(&mut self.room[self.filled..]) {
                        Ok(0) => return Err(RedisError::from(io::Error::from(io::ErrorKind::UnexpectedEof))),
                        Ok(received) => {
                            self.filled += received;
                            return Ok(());
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            End::Driver(conn) => {
                let answer = match conn.recv_response() {
                    Ok(answer) => answer,
                    Err(error) if error.code().is_some() => {
                        let text = [error.code(), error.detail()].into_iter().flatten().collect::<Vec<_>>().join(" ");
                        Value::SimpleString(format!("-{text}"))
                    }
                    Err(error) => return Err(error),
                };
                self.room.truncate(self.filled);
                put_value(&mut self.room, &answer);
                self.filled = self.room.len();
                Ok(())
            }
        }
    }
}

/// What is no RESP.
struct Strange;

/// The part that `bytes` begin with, and its length; none if it is not whole.
fn part(bytes: &[u8]) -> Result<Option<(Part<'_>, usize)>, Strange> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    if matches!(kind, b'+' | b'-') {
        let Some(end) = rest.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
        if rest.len() < end + 2 {
            return Ok(None);
        }
        let text = &rest[..end];
        let part = if *kind == b'+' { Part::Status(text) } else { Part::Error(text) };
        return Ok(Some((part, 1 + end + 2)));
    }
    let Some((number, len)) = line(rest)? else { return Ok(None) };
    let head = 1 + len;
    Ok(Some(match (kind, usize::try_from(number)) {
        (b':', _) => (Part::Number(number), head),
        (b'$' | b'*', Err(_)) => (Part::Nil, head),
        (b'*', Ok(parts)) => (Part::List(parts), head),
        (b'$', Ok(len)) => match bytes.get(head..).and_then(|rest| rest.get(..len.checked_add(2)?)) {
            None => return Ok(None),
            Some(text) => (Part::Bytes(&text[..len]), head + len + 2),
        },
        _ => return Err(Strange),
    }))
}

/// The number on the line that `bytes` begin with, and the line's length.
fn line(bytes: &[u8]) -> Result<Option<(i64, usize)>, Strange> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, bytes),
    };
    let mut number = 0_i64;
    for (at, byte) in digits.iter().enumerate().take(DIGITS_MAX) {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                number = number.checked_mul(10).and_then(|number| number.checked_sub(digit)).ok_or(Strange)?;
            }
            b'\r' if at > 0 => {
                let number = if negative { number } else { number.checked_neg().ok_or(Strange)? };
                let len = usize::from(negative) + at + 2;
                return Ok((bytes.len() >= len).then_some((number, len)));
            }
            _ => return Err(Strange),
        }
    }
    if digits.len() >= DIGITS_MAX { Err(Strange) } else { Ok(None) }
}

fn put_line(out: &mut Vec<u8>, kind: u8, number: i64) {
    out.push(kind);
    if let Ok(digit @ 0..=9) = u8::try_from(number) {
        out.extend_from_slice(&[b'0' + digit, b'\r', b'\n']);
        return;
    }
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}\r\n");
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_line(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Writes what the driver has read as the server wrote it.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put_text = |kind: &str, text: &str| {
        let text = text.replace(['\r', '\n'], " ");
        let _ = write!(out, "{kind}{text}\r\n");
    };
    match value {
        Value::Int(number) => put_line(out, b':', *number),
        Value::BulkString(bytes) => put_bytes(out, bytes),
        Value::Array(parts) => {
            put_line(out, b'*', parts.len() as i64);
            parts.iter().for_each(|part| put_value(out, part));
        }
        Value::Okay => put_text("+", "OK"),
        Value::SimpleString(text) if text.starts_with('-') => put_text("", text),
        Value::SimpleString(text) => put_text("+", text),
        Value::ServerError(error) => {
            put_text("-", &[error.code(), error.details().unwrap_or_default()].join(" "));
        }
        // Nothing else is answered in RESP2.
        _ => put_line(out, b'$', -1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(bytes: &[u8]) -> Vec<Part<'_>> {
        Parts::of(bytes).collect()
    }

    #[test]
    fn what_the_server_writes_is_read() {
        assert_eq!(
            parts(b"*3\r\n$2\r\na\r\r\n*-1\r\n*2\r\n:-12\r\n$-1\r\n"),
            [Part::List(3), Part::Bytes(b"a\r"), Part::Nil, Part::List(2), Part::Number(-12), Part::Nil]
        );
        assert_eq!(parts(b"+OK\r\n-ERR no\r\n"), [Part::Status(b"OK"), Part::Error(b"ERR no")]);
    }

    #[test]
    fn a_part_that_is_not_whole_is_none_yet() {
        for whole in [&b"$3\r\nabc\r\n"[..], b":-1\r\n", b"+OK\r\n", b"*2\r\n", b"$-1\r\n"] {
            for end in 0..whole.len() {
                assert!(matches!(part(&whole[..end]), Ok(None)), "{end} bytes of {whole:?}");
            }
            assert!(matches!(part(whole), Ok(Some((_, len))) if len == whole.len()));
        }
    }

    #[test]
    fn what_is_no_resp_is_refused() {
        for strange in
            [&b"$x\r\n"[..], b"$\r\n", b"?1\r\n", b":99999999999999999999999\r\n", b":12345678901234567890123"]
        {
            assert!(matches!(part(strange), Err(Strange)), "{strange:?}");
        }
    }

    #[test]
    fn what_the_driver_has_read_is_written_as_it_came() {
        let values = Value::Array(vec![
            Value::BulkString(b"a".to_vec()),
            Value::Nil,
            Value::Int(-7),
            Value::Okay,
            Value::SimpleString("PONG".into()),
            Value::Array(Vec::new()),
        ]);
        let mut out = Vec::new();
        put_value(&mut out, &values);
        assert_eq!(out, b"*6\r\n$1\r\na\r\n$-1\r\n:-7\r\n+OK\r\n+PONG\r\n*0\r\n");
    }
}
