//! Writing the configuration file: whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, fchown, getegid, geteuid};
use tempfile::NamedTempFile;

/// Why the file was not written. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Somebody else has written to it.
    #[error(
        "{} is not as the director has read it, so saving would undo somebody's changes; reload it (SIGHUP), which drops \
         the changes made at run time, or write those into it by hand first (GET /v1/config shows them, but for the secret: \
         keep the file's own)",
        .0.display()
    )]
    Changed(PathBuf),
    /// The new file cannot have the owner of the old one.
    #[error(
        "{} belongs to {owner}, and the director, which runs as {user}, may not give it a file: chown {user} {}",
        path.display(), path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its user and group.
        owner: String,
        /// Those of this process.
        user: String,
    },
    /// The system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Puts `text` in the place of `expected`, which is what the file must hold. Mode and owner stay, and of a symbolic link
/// its target is written. After a crash at any moment the file is the old one or the new one.
///
/// # Errors
/// The file holds something else, or the system refuses; see [`SaveError`].
pub fn save(path: &Path, expected: &str, text: &str) -> Result<(), SaveError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |error| SaveError::Io { action, path, error }
    };
    check(path, expected)?;
    let path = fs::canonicalize(path).map_err(failed("find", path))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let old = fs::metadata(&path).map_err(failed("look at", &path))?;
    let mut new = NamedTempFile::with_prefix_in(".pointsman-", directory).map_err(failed("write to", directory))?;
    let new_path = new.path().to_owned();
    let write = |error| failed("write", &new_path)(error);
    let file = new.as_file_mut();
    file.write_all(text.as_bytes()).map_err(write)?;
    keep_owner(file, &old).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => not_ours(&path, &old),
        _ => write(error),
    })?;
    file.set_permissions(old.permissions()).and_then(|()| file.sync_all()).map_err(write)?;
    new.persist(&path).map_err(|error| failed("replace", &path)(error.error))?;
    // The name is in the directory, which is as well to reach the disk.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write to", directory))
}

/// Whether [`save`] would find the file as it was read.
///
/// # Errors
/// It does not.
pub(super) fn check(path: &Path, expected: &str) -> Result<(), SaveError> {
    match fs::read(path) {
        Ok(found) if found == expected.as_bytes() => Ok(()),
        Ok(_) => Err(SaveError::Changed(path.to_owned())),
        Err(error) => Err(SaveError::Io { action: "read", path: path.to_owned(), error }),
    }
}

fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
    }
    Ok(())
}

fn not_ours(path: &Path, old: &fs::Metadata) -> SaveError {
    let owner = names(Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
    SaveError::Owner { path: path.to_owned(), owner, user: names(geteuid(), getegid()) }
}

/// As chown(1) takes them: by name, or by number where there is none.
fn names(user: Uid, group: Gid) -> String {
    let user = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
    let group = Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name);
    format!("{user}:{group}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn mode_and_links_stay_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a.toml"), directory.path().join("link.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        symlink("a.toml", &link).unwrap();
        save(&link, "old", "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o604);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn who_owns_the_file_is_said_with_the_command_that_mends_it() {
        assert_eq!(names(Uid::from_raw(0), Gid::from_raw(0)), "root:root");
        assert_eq!(names(Uid::from_raw(4_000_000_007), Gid::from_raw(4_000_000_008)), "4000000007:4000000008");
        let error = not_ours(Path::new("/etc/passwd"), &fs::metadata("/etc/passwd").unwrap()).to_string();
        assert!(error.starts_with("/etc/passwd belongs to root:root, and the director"), "{error}");
        assert!(error.ends_with(&format!("chown {} /etc/passwd", names(geteuid(), getegid()))), "{error}");
    }

    #[test]
    fn what_somebody_else_wrote_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.toml");
        fs::write(&file, "theirs").unwrap();
        assert!(matches!(save(&file, "old", "new"), Err(SaveError::Changed(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
        assert!(matches!(save(&directory.path().join("b"), "old", "new"), Err(SaveError::Io { action: "read", .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
