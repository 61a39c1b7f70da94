//! Files that appear whole or not at all: backups, forks, exports.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tasklog_log::StoreError;

use crate::{
    private::private_folder,
    rejection::{Error, Rejection},
};

/// In a folder of what is being written: locked by the process that writes it.
const IN_USE: &str = "in-use";

/// A file that is being written in a hidden folder beside its name, `.<name>.incomplete-…`, and is given that name when it is
/// complete. The folder goes with this value. One that a killed process has left is removed when the same name is
/// written again: it may be as large as a store, and what is in it as sensitive.
pub(crate) struct Beside<'t> {
    // First, so that it is closed before the folder goes.
    _in_use: File,
    folder: tempfile::TempDir,
    to: &'t Path,
    private: bool,
}

impl<'t> Beside<'t> {
    /// # Errors
    /// `already_exists` if there is something of this name; `unavailable`.
    pub(crate) fn begin(to: &'t Path) -> Result<Self, Error> {
        if to.symlink_metadata().is_ok() {
            return Err(taken(to));
        }
        let failed = |error| failed("making a folder beside", to, error);
        let prefix = format!(".{}.incomplete-", to.file_name().unwrap_or_default().to_string_lossy());
        remove_left(parent(to), &prefix).map_err(failed)?;
        let folder = private_folder(&prefix, Some(parent(to))).map_err(failed)?;
        // Nobody sees it under its name before it is locked.
        let begun = folder.path().join("begun");
        let in_use = File::create_new(&begun).map_err(failed)?;
        in_use.lock().and_then(|()| fs::rename(begun, folder.path().join(IN_USE))).map_err(failed)?;
        Ok(Self { _in_use: in_use, folder, to, private: false })
    }

    /// Has secrets in it that the program masks elsewhere: only its owner may read it.
    pub(crate) fn private(self, private: bool) -> Self {
        Self { private, ..self }
    }

    /// Where to write.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    /// Syncs what was written, and gives it its name.
    ///
    /// # Errors
    /// `already_exists` if somebody was faster; `unavailable`.
    pub(crate) fn place(self) -> Result<(), Error> {
        let (file, to) = (self.file(), self.to);
        // Until now nobody else could look into its folder.
        #[cfg(unix)]
        if self.private {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&file, mode).map_err(|error| failed("setting the permissions of", to, error))?;
        }
        File::open(&file).and_then(|file| file.sync_all()).map_err(|error| failed("syncing", to, error))?;
        // Linked, not renamed: whoever was faster keeps the name.
        match fs::hard_link(&file, to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(taken(to)),
            // There are file systems without links.
            Err(_) => fs::rename(&file, to).map_err(|error| failed("writing", to, error))?,
        }
        if cfg!(unix) {
            File::open(parent(to))
                .and_then(|folder| folder.sync_all())
                .map_err(|error| failed("syncing the folder of", to, error))?;
        }
        Ok(())
    }
}

/// Removes what nobody is writing any more.
fn remove_left(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // One without it has only just been made, or was never written to.
        let Ok(in_use) = File::open(entry.path().join(IN_USE)) else { continue };
        if in_use.try_lock().is_ok() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn taken(to: &Path) -> Error {
    Rejection::already_exists(format!("{} is there already", to.display())).into()
}

fn failed(doing: &str, to: &Path, error: io::Error) -> Error {
    StoreError::unavailable_because(format!("{doing} {}", to.display()), error).into()
}
