use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use crate::{Error, cli::output};

/// The longest line that is read; a longer one is an error of its own.
pub(crate) const LINE_BYTES_MAX: u64 = 32 << 20;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file, or standard input for `-`; compressed by zstd or gzip if its first bytes say so.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Error> {
    let doing = format!("reading {}", path.display());
    let raw: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| output::io(&doing, error))?)
    };
    let mut raw = BufReader::with_capacity(1 << 16, raw);
    let magic = raw.fill_buf().map_err(|error| output::io(&doing, error))?;
    if magic.starts_with(&ZSTD_MAGIC) {
        let plain = zstd::Decoder::with_buffer(raw).map_err(|error| output::io(&doing, error))?;
        return Ok(Box::new(BufReader::with_capacity(1 << 16, plain)));
    }
    if magic.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(raw))));
    }
    Ok(Box::new(raw))
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
}

impl Lines {
    pub(crate) fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self { input }
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Error> {
        let failed = |error| output::io("reading the input", error);
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
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
