//! A file or directory is there whole, old or new, whatever happens in between.
//!
//! Temporary name in the same directory, write, fsync, rename, fsync of the directory: a crash at any point leaves the
//! old state under the final name.

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
        File::open(directory).and_then(|d| d.sync_all()).map_err(Error::io("sync", directory))?;
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
    builder.tempfile_in(parent(path)).map_err(Error::io("write", path))
}

/// Writes `bytes` to `path`, which then holds all of them or what it held before.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| fs::write(temporary, bytes).map_err(Error::io("write", path)))
}

/// Lets `fill` write (or replace) the temporary file at the path it is given, then gives that file the name `path`.
pub fn write_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary(path)?;
    let permissions = temporary.as_file().metadata().map_err(Error::io("write", path))?.permissions();
    let temporary = temporary.into_temp_path();
    fill(&temporary)?;
    let file = File::options().write(true).open(&temporary).map_err(Error::io("write", path))?;
    file.set_permissions(permissions).and_then(|()| file.sync_all()).map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|e| Error::io("write", path)(e.error))?;
    sync_directory(parent(path))
}

/// Gives the finished directory `temporary` its final name, after everything in it has reached the disk. A directory
/// that is already there is replaced: it is moved aside first and removed last.
pub fn publish_directory(temporary: &Path, path: &Path) -> Result<()> {
    sync_tree(temporary)?;
    let aside = aside_name(path);
    let replaced = path.exists();
    if replaced {
        if aside.exists() {
            // Left by a process of the same number that ended between its last two steps; `path` is newer.
            fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
        }
        fs::rename(path, &aside).map_err(Error::io("replace", path))?;
    }
    if let Err(error) = fs::rename(temporary, path) {
        if replaced {
            // Best effort: the old state back under its name; the first error is the one to tell.
            let _ = fs::rename(&aside, path);
        }
        return Err(Error::io("write", path)(error));
    }
    sync_directory(parent(path))?;
    if replaced {
        fs::remove_dir_all(&aside).map_err(Error::io("remove", aside))?;
    }
    Ok(())
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
            File::open(&path).and_then(|f| f.sync_all()).map_err(Error::io("sync", &path))?;
        }
    }
    sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |temporary| {
            fs::write(temporary, b"half").unwrap();
            Err(Error::Interrupted)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_is_published_whole_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        for content in ["one", "two"] {
            let temporary = dir.path().join("step-1.tmp");
            fs::create_dir(&temporary).unwrap();
            fs::write(temporary.join("x"), content).unwrap();
            publish_directory(&temporary, &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("x")).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_aside_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let (target, temporary) = (dir.path().join("step-1"), dir.path().join("step-1.tmp"));
        for litter in [&target, &aside_name(&target), &temporary] {
            fs::create_dir(litter).unwrap();
            fs::write(litter.join("x"), litter.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
        publish_directory(&temporary, &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("x")).unwrap(), "step-1.tmp");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let error = write(Path::new("/nonexistent/dir/file"), b"x").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/dir/file"), "{error}");
    }
}
