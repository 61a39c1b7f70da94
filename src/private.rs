//! Folders for what a store has in it, which nobody but the owner may look into whatever the umask says.

use std::{io, path::Path};

/// A folder in `parent`, or where the system has temporary ones; it goes with the value.
pub(crate) fn private_folder(prefix: &str, parent: Option<&Path>) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    match parent {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }
}
