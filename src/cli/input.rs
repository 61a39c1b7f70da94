use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use super::{output, signals::on_stop, usage};
use crate::Error;

/// The longest line that is read; a longer one is an error of its own.
pub(crate) const LINE_BYTES_MAX: u64 = 32 << 20;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Bytes read at once.
const READ_BYTES: usize = 1 << 16;
/// Pieces of so many bytes that are read ahead where a signal ends the input.
const PIECES_AHEAD_MAX: usize = 4;

/// A file, or standard input for `-`; compressed by zstd or gzip if its first bytes say so. Where somebody may keep it waiting
/// (standard input, a pipe), it ends when a signal asks to stop.
pub(crate) fn open(path: &Path, verb: &str) -> Result<Box<dyn BufRead + Send>, Error> {
    check(path, verb);
    let doing = format!("reading {}", path.display());
    let raw: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(Fed::by(io::stdin())?)
    } else {
        let file = File::open(path).map_err(|error| output::io(&doing, error))?;
        let waits = !file.metadata().map_err(|error| output::io(&doing, error))?.is_file();
        if waits { Box::new(Fed::by(file)?) } else { Box::new(file) }
    };
    let mut raw = BufReader::with_capacity(READ_BYTES, raw);
    let magic = raw.fill_buf().map_err(|error| output::io(&doing, error))?;
    if magic.starts_with(&ZSTD_MAGIC) {
        let plain = zstd::Decoder::with_buffer(raw).map_err(|error| output::io(&doing, error))?;
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, plain)));
    }
    if magic.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, flate2::bufread::MultiGzDecoder::new(raw))));
    }
    Ok(Box::new(raw))
}

/// Ends the program if a file that was named on the command line cannot be read at all: that is wrong usage, and nothing
/// has been done.
pub(crate) fn check(path: &Path, verb: &str) {
    if path == Path::new("-") {
        return;
    }
    let readable = path.metadata().and_then(|metadata| match metadata.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        // Whoever writes to a pipe that is opened and closed is ended by that.
        false if metadata.is_file() => File::open(path).map(drop),
        false => Ok(()),
    });
    if let Err(error) = readable {
        usage(verb, &format!("reading {}: {error}", path.display()));
    }
}

/// What a thread of its own reads, so that whoever takes it is not held by a read that does not end.
struct Fed {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Cursor<Vec<u8>>,
    ended: bool,
}

impl Fed {
    fn by(mut raw: impl Read + Send + 'static) -> Result<Self, Error> {
        let (feed, pieces) = sync_channel(PIECES_AHEAD_MAX);
        let stop = feed.clone();
        on_stop(move || {
            // Whoever has stopped reading has ended already.
            let _ = stop.send(Ok(Vec::new()));
        })?;
        thread::spawn(move || {
            loop {
                let mut piece = vec![0; READ_BYTES];
                let read = raw.read(&mut piece).map(|bytes| {
                    piece.truncate(bytes);
                    piece
                });
                let last = !matches!(&read, Ok(piece) if !piece.is_empty());
                if feed.send(read).is_err() || last {
                    return;
                }
            }
        });
        Ok(Self { pieces, piece: Cursor::default(), ended: false })
    }
}

impl Read for Fed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(bytes)?;
        if read > 0 || self.ended {
            return Ok(read);
        }
        let Ok(piece) = self.pieces.recv() else { return Ok(0) };
        let piece = piece?;
        // Nobody sends anything after an empty one, and whoever waits for a signal keeps the channel open.
        self.ended = piece.is_empty();
        self.piece = Cursor::new(piece);
        self.piece.read(bytes)
    }
}

/// A line without its end.
pub(crate) enum Line {
    /// Its text.
    Text(String),
    /// Why it has none.
    Bad(String),
}

/// Lines of an input, one at a time, each within [`LINE_BYTES_MAX`].
pub(crate) struct Lines {
    input: Box<dyn BufRead + Send>,
    begun: bool,
}

impl Lines {
    pub(crate) fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self { input, begun: false }
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Error> {
        let failed = |error| output::io("reading the input", error);
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        // Some editors begin a file with it. It says nothing about UTF-8.
        if !self.begun && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        self.begun = true;
        if bytes.last() != Some(&b'\n') && read as u64 == LINE_BYTES_MAX {
            self.input.skip_until(b'\n').map_err(failed)?;
            return Ok(Some(Line::Bad(format!("column 1: the line is longer than {LINE_BYTES_MAX} bytes"))));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        Ok(Some(match String::from_utf8(bytes) {
            Ok(text) => Line::Text(text),
            Err(error) => Line::Bad(format!("column {}: not UTF-8", error.utf8_error().valid_up_to() + 1)),
        }))
    }
}
