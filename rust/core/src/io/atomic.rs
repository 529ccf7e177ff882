//! A file or directory is there whole, old or new, whatever happens in between.
//!
//! Temporary name in the same directory, write, fsync, rename, fsync of the directory: a crash at any point leaves the
//! old state under the final name.

use super::disk::{self, Call, call};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename inside `directory` durable.
fn sync_directory(directory: &Path) -> Result<()> {
    // Windows cannot open a directory as a file, and makes renames durable by itself.
    if cfg!(unix) {
        call(Call::SyncDirectory, directory, || File::open(directory).and_then(|d| d.sync_all()))
            .map_err(Error::io("sync", directory))?;
    }
    Ok(())
}

/// A temporary file beside `path`, with the permissions that a plainly created file would get.
fn temporary(path: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".subgpt-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask
    }
    call(Call::Create, path, || builder.tempfile_in(parent(path))).map_err(Error::io("write", path))
}

/// Writes `bytes` to `path`, which then holds all of them or what it held before.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| fs::write(temporary, bytes).map_err(Error::io("write", path)))
}

/// Lets `fill` write (or replace) the temporary file at the path it is given, then gives that file the name `path`. What is
/// no file, `/dev/null` say, is not replaced by one.
pub fn write_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let problem = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(Error::io("write", path)(problem));
    }
    let failed = Error::io("write", path);
    let temporary = temporary(path)?;
    let permissions = temporary.as_file().metadata().map_err(Error::io("write", path))?.permissions();
    let temporary = temporary.into_temp_path();
    call(Call::Write, &temporary, || Ok(())).map_err(Error::io("write", path))?;
    fill(&temporary)?;
    let file = call(Call::Open, &temporary, || File::options().write(true).open(&temporary));
    let file = file.map_err(Error::io("write", path))?;
    call(Call::Permit, &temporary, || file.set_permissions(permissions)).map_err(Error::io("write", path))?;
    call(Call::Sync, &temporary, || file.sync_all()).map_err(Error::io("write", path))?;
    call(Call::Rename, path, || temporary.persist(path).map_err(|e| e.error)).map_err(failed)?;
    sync_directory(parent(path))
}

/// Gives the finished directory `temporary` its final name, after everything in it has reached the disk.
///
/// A directory that is already there is replaced: both change names in one step where the system can do that, so that one
/// of them is there at any moment. Elsewhere the old one is moved aside first, and back if the new one cannot take its place.
/// What is left of it is removed last.
pub fn publish_directory(temporary: &Path, path: &Path) -> Result<()> {
    sync_tree(temporary)?;
    if !path.exists() {
        call(Call::Rename, path, || fs::rename(temporary, path)).map_err(Error::io("write", path))?;
        return sync_directory(parent(path));
    }
    let aside = aside_name(path);
    if aside.exists() {
        // Left by a process of the same number that ended between its last two steps; `path` is newer.
        call(Call::Remove, &aside, || fs::remove_dir_all(&aside)).map_err(Error::io("remove", &aside))?;
    }
    let exchanged = call(Call::Exchange, path, || disk::exchange(temporary, path));
    let old = match exchanged.map_err(Error::io("replace", path))? {
        true => temporary.to_path_buf(),
        false => replace_in_steps(temporary, path)?,
    };
    sync_directory(parent(path))?;
    call(Call::Remove, &old, || fs::remove_dir_all(&old)).map_err(Error::io("remove", old))
}

/// Moves `path` aside and `temporary` to its place; gives the old directory's new name.
fn replace_in_steps(temporary: &Path, path: &Path) -> Result<PathBuf> {
    let aside = aside_name(path);
    call(Call::Rename, &aside, || fs::rename(path, &aside)).map_err(Error::io("replace", path))?;
    if let Err(error) = call(Call::Rename, path, || fs::rename(temporary, path)) {
        // Best effort: the old state back under its name; the first error is the one to tell.
        let _ = call(Call::Rename, path, || fs::rename(&aside, path));
        return Err(Error::io("write", path)(error));
    }
    Ok(aside)
}

fn aside_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.replaced-{}", std::process::id()))
}

fn sync_tree(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            // Windows writes out what is open for writing alone; a file that may only be read is synced elsewhere.
            call(Call::Sync, &path, || File::options().read(true).write(cfg!(windows)).open(&path)?.sync_all())
                .map_err(Error::io("sync", &path))?;
        }
    }
    sync_directory(directory)
}

#[cfg(test)]
mod tests;
