//! Whatever fails, and wherever the process ends, the old state is there or the new one, whole.

use super::super::disk::faults::{self, Fault};
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
fn what_is_no_file_is_not_replaced_by_one() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path(), Path::new("/dev/null")] {
        let error = write(path, b"x").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("not a regular file") || !path.exists(), "{error}"); // not every system has the device
    }
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

/// Disk full, a broken disk, no permission, and the end of the process.
const FAULTS: [Fault; 4] = [Fault::Fails(28), Fault::Fails(5), Fault::Fails(13), Fault::Ends];

/// Lets each call of `change` meet each fault in turn: `state` must then be the old one or the new one, the new one if the
/// change says that it has been made, and the change is made if it is tried again.
fn try_every_fault(prepare: impl Fn(&Path), change: impl Fn(&Path) -> Result<()>, state: impl Fn(&Path) -> String) {
    let count = {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (result, calls) = faults::with(None, || change(dir.path()));
        result.unwrap();
        assert_eq!(state(dir.path()), "new");
        calls.len()
    };
    assert!(count > 4);
    for (at, fault) in (0..count).flat_map(|at| FAULTS.map(|fault| (at, fault))) {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (result, calls) = faults::with(Some((at, fault)), || change(dir.path()));
        let (found, place) = (state(dir.path()), format!("{fault:?} at {:?}", calls[at]));
        assert!(["old", "new"].contains(&found.as_str()), "{place}: {found:?}");
        // Removing what was replaced is the only thing that may go wrong once the new state is there.
        assert!(result.is_err() || found == "new", "{place}");
        if let Err(error) = result {
            let error = error.to_string();
            assert!(error.contains(&*dir.path().to_string_lossy()), "{place}: {error}");
        }
        change(dir.path()).unwrap();
        assert_eq!(state(dir.path()), "new", "{place}, again");
    }
}

#[test]
fn a_file_is_old_or_new_whatever_call_fails() {
    try_every_fault(
        |dir| fs::write(dir.join("x"), "old").unwrap(),
        |dir| write(&dir.join("x"), b"new"),
        |dir| fs::read_to_string(dir.join("x")).unwrap(),
    );
}

/// A directory with two files, one of them deeper.
fn fill(dir: &Path, content: &str) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("deep")).unwrap();
    fs::write(dir.join("a"), content).unwrap();
    fs::write(dir.join("deep").join("b"), content).unwrap();
}

/// What both files say, if they say the same.
fn content(dir: &Path) -> String {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let (a, b) = (read(dir.join("a")), read(dir.join("deep").join("b")));
    if a == b { a } else { format!("{a} and {b}") }
}

#[test]
fn a_directory_is_old_or_new_whatever_call_fails() {
    try_every_fault(
        |dir| fill(&dir.join("step-1"), "old"),
        |dir| {
            fill(&dir.join("step-1.tmp"), "new");
            publish_directory(&dir.join("step-1.tmp"), &dir.join("step-1"))
        },
        |dir| content(&dir.join("step-1")),
    );
}

#[test]
fn in_steps_one_of_the_two_is_there_under_one_of_two_names() {
    let under_either = |dir: &Path| match dir.join("step-1").exists() {
        true => content(&dir.join("step-1")),
        false => content(&aside_name(&dir.join("step-1"))),
    };
    try_every_fault(
        |dir| {
            fill(&dir.join("step-1"), "old");
            fill(&aside_name(&dir.join("step-1")), "older");
        },
        |dir| {
            let (temporary, path) = (dir.join("step-1.tmp"), dir.join("step-1"));
            fill(&temporary, "new");
            if !path.exists() {
                return publish_directory(&temporary, &path);
            }
            sync_tree(&temporary)?;
            let _ = fs::remove_dir_all(aside_name(&path));
            let aside = replace_in_steps(&temporary, &path)?;
            sync_directory(dir)?;
            call(Call::Remove, &aside, || fs::remove_dir_all(&aside)).map_err(Error::io("remove", aside))
        },
        under_either,
    );
}

#[test]
fn bytes_reach_the_disk_before_their_name_and_the_name_before_success() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let (_, calls) = faults::with(None, || write(&path, b"new").unwrap());
    let kinds: Vec<Call> = calls.iter().map(|(kind, _)| *kind).collect();
    use Call::*;
    assert_eq!(kinds, [Create, Write, Open, Permit, Sync, Rename, SyncDirectory]);
    for replaced in [false, true] {
        fill(&dir.path().join("step.tmp"), "new");
        let publish = || publish_directory(&dir.path().join("step.tmp"), &dir.path().join("step")).unwrap();
        let (_, calls) = faults::with(None, publish);
        let named = calls.iter().position(|(kind, _)| [Rename, Exchange].contains(kind)).unwrap();
        let (before, after) = calls.split_at(named);
        let mut synced: Vec<_> = before.iter().map(|(_, path)| path.strip_prefix(dir.path()).unwrap()).collect();
        synced.sort();
        assert_eq!(synced, ["step.tmp", "step.tmp/a", "step.tmp/deep", "step.tmp/deep/b"].map(Path::new));
        assert_eq!(after[1], (SyncDirectory, dir.path().to_path_buf()));
        assert_eq!(after.get(2).map(|(kind, _)| *kind), replaced.then_some(Remove));
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_in_the_middle_of_a_file_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    write(&path, b"old").unwrap();
    let full = Path::new("/dev/full"); // every write to it fails as on a full disk
    if full.exists() {
        let result = write_with(&path, |temporary| {
            fs::remove_file(temporary).unwrap();
            std::os::unix::fs::symlink(full, temporary).unwrap();
            fs::write(temporary, [1; 1 << 16]).map_err(Error::io("write", &path))
        });
        assert!(result.unwrap_err().to_string().contains("No space left"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
