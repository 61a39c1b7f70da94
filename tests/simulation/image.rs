//! What a crash leaves of a store's file.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// Attempts to read a file and its write-ahead log while nothing is moved from one to the other.
const READS_MAX: usize = 50;

/// A file and its write-ahead log as they were at one moment.
pub struct Image {
    file: Vec<u8>,
    wal: Vec<u8>,
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl Image {
    /// Reads both while the store is open. Something else may be appended to the write-ahead log meanwhile: what is read
    /// of that is what a crash could have left.
    pub fn take(path: &Path) -> io::Result<Self> {
        for _ in 0..READS_MAX {
            let file = fs::read(path)?;
            let wal = fs::read(beside(path, "-wal"))?;
            if fs::read(path)? == file {
                return Ok(Self { file, wal });
            }
        }
        Err(io::Error::other("the file was never the same twice"))
    }

    /// This image, with so many 256ths of what `later` has in its write-ahead log beyond this one's: an end that is
    /// torn wherever that is. If the two have not the same beginning, this one.
    pub fn torn(mut self, later: &Self, cut: u8) -> Self {
        if later.file == self.file && later.wal.starts_with(&self.wal) {
            let more = &later.wal[self.wal.len()..];
            self.wal.extend(&more[..more.len() * usize::from(cut) / 256]);
        }
        self
    }

    /// Without anything that is in the write-ahead log alone.
    pub fn without_the_write_ahead_log(mut self) -> Self {
        self.wal.clear();
        self
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.file)?;
        fs::write(beside(path, "-wal"), &self.wal)
    }
}
