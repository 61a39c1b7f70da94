use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tasklog_log::{BlobInfo, Blobs, StoreError};

use super::{LEFTOVER_AFTER, check_name};

/// How files begin that are still being written.
const INCOMPLETE: &str = ".incomplete-";
/// Folders within folders, at most.
const DEPTH_MAX: usize = 8;

/// Blobs as files of a folder, which is made by the first `put`.
///
/// A blob is written under a name that no listing shows, synced, given its own name unless there is one, and then the
/// folder is synced: whenever the process or the machine stops, there is all of it or nothing.
#[derive(Clone, Debug)]
pub struct DirBlobs {
    folder: PathBuf,
}

impl DirBlobs {
    /// Those in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a folder and everything above it, durably.
    fn make(&self, folder: &Path) -> Result<(), StoreError> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            self.make(above)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(self.failed(&format!("making folder {}", folder.display()), error));
            }
            _ => {}
        }
        self.sync(folder.parent().unwrap_or(folder))
    }

    /// Makes durable which names a folder has.
    fn sync(&self, folder: &Path) -> Result<(), StoreError> {
        // Elsewhere than on Unix a folder cannot be opened.
        if cfg!(not(unix)) {
            return Ok(());
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| self.failed(&format!("syncing folder {}", folder.display()), error))
    }

    /// Removes what killed processes have left half written.
    fn tidy(&self, folder: &Path) -> Result<(), StoreError> {
        for (name, path) in self.entries(folder)? {
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            if name.starts_with(INCOMPLETE) && age.is_some_and(|age| age > LEFTOVER_AFTER) {
                // Another process may be doing the same.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let failed = |error| self.failed(&format!("listing {}", folder.display()), error);
        let found = match fs::read_dir(folder) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            found => found.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for entry in found {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, entry.path()));
            }
        }
        Ok(entries)
    }

    fn collect(
        &self,
        folder: &Path,
        name: &str,
        prefix: &str,
        depth: usize,
        found: &mut Vec<BlobInfo>,
    ) -> Result<(), StoreError> {
        for (part, path) in self.entries(folder)? {
            let name = if name.is_empty() { part } else { format!("{name}/{part}") };
            // Within a folder whose name is longer than the prefix or leads to it.
            let leads = name.starts_with(prefix) || prefix.starts_with(&format!("{name}/"));
            if !leads || check_name(&name).is_err() {
                continue;
            }
            let metadata = match fs::metadata(&path) {
                // Removed since it was listed.
                Err(error) if is_absent(&error) => continue,
                metadata => metadata.map_err(|error| self.failed(&format!("looking at {}", path.display()), error))?,
            };
            if metadata.is_dir() && depth < DEPTH_MAX {
                self.collect(&path, &name, prefix, depth + 1, found)?;
            } else if metadata.is_file() && name.starts_with(prefix) {
                found.push(BlobInfo { name, bytes: metadata.len() });
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &str, error: io::Error) -> StoreError {
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly(format!("{doing}: {error}"))
            }
            _ => StoreError::unavailable_because(doing, error),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Blobs for DirBlobs {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>, StoreError> {
        let mut found = Vec::new();
        self.collect(&self.folder, "", prefix, 0, &mut found)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn put(&self, name: &str, content: &mut dyn Read) -> Result<bool, StoreError> {
        check_name(name)?;
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        if path.exists() {
            return Ok(false);
        }
        // Whoever may do everything is not refused by the system.
        let closest = folder.ancestors().find_map(|folder| folder.metadata().ok());
        if closest.is_some_and(|metadata| metadata.permissions().readonly()) {
            return Err(StoreError::ReadOnly(format!("writing {name}: folder {} is read-only", folder.display())));
        }
        self.make(folder)?;
        self.tidy(folder)?;
        let failed = |error| self.failed(&format!("writing {name} to {}", self.folder.display()), error);
        let mut builder = tempfile::Builder::new();
        builder.prefix(INCOMPLETE);
        // As readable as the file that it belongs to: the mask of the process applies.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(failed)?;
        io::copy(content, file.as_file_mut()).and_then(|_| file.as_file().sync_all()).map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed(error.error)),
        }
        self.sync(folder)?;
        Ok(true)
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, StoreError> {
        check_name(name)?;
        let failed = |error| self.failed(&format!("reading {name} of {}", self.folder.display()), error);
        let mut file = match File::open(self.folder.join(name)) {
            Err(error) if is_absent(&error) => return Ok(None),
            file => file.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(self.failed(&format!("removing {}", path.display()), error)),
            Ok(()) => self.sync(path.parent().unwrap_or(&self.folder)),
        }
    }
}
