//! Claiming the path of the control socket: of two directors one gets it, a dead one's is replaced, and nothing else
//! that may be there is ever removed.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::{Gid, Group, Uid, User, chown};

use crate::config::{DEFAULT_CONTROL_SOCKET_MODE, DirectorConfig};

/// The directory that is made if it is missing; others must exist.
pub const OWN_DIRECTORY: &str = "/run/pointsman";
/// Whose the socket is, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permissions, as a file has them.
    pub mode: u32,
    /// Name or number of the user that it belongs to, if not whoever makes it.
    pub owner: Option<String>,
    /// The same of the group.
    pub group: Option<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self { mode: DEFAULT_CONTROL_SOCKET_MODE, owner: None, group: None }
    }
}

impl Access {
    /// What the configuration says.
    #[must_use]
    pub fn of(config: &DirectorConfig) -> Self {
        Self {
            mode: config.control_socket_mode,
            owner: config.control_socket_owner.clone(),
            group: config.control_socket_group.clone(),
        }
    }
}

const OWN_DIRECTORY_MODE: u32 = 0o755;
/// Connections that wait to be served.
const BACKLOG: i32 = 64;
/// How long another director that is just starting or stopping is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Someone answers there.
    #[error("another pointsman is running with the control socket {}; stop it first, or choose another path", .0.display())]
    InUse(PathBuf),
    /// Something else has the path.
    #[error("{} exists and is not a pointsman control socket; remove it, or choose another path", .0.display())]
    NotOurs(PathBuf),
    /// The directory is missing.
    #[error("the directory {} of the control socket does not exist; create it, or choose another path", .0.display())]
    NoDirectory(PathBuf),
    /// The path does not fit an address.
    #[error("{} is too long for a socket's path (at most 107 bytes); choose a shorter one", .0.display())]
    TooLong(PathBuf),
    /// Another process holds the lock of the directory.
    #[error("another process keeps the directory {} locked; try again, or choose another path for the control socket",
        .0.display())]
    Locked(PathBuf),
    /// The machine does not know the user or the group.
    #[error(
        "there is no {kind} {name:?} for the control socket; create it, or name another one in control_socket_{key}"
    )]
    NoAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// The end of the key.
        key: &'static str,
        /// Its name.
        name: String,
    },
    /// The system refused.
    #[error("cannot make the control socket {}: {error}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A listening control socket. Its path is removed when it is dropped, unless another has taken it meanwhile.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the path.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Claims `path` and listens there.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, access: &Access) -> Result<Self, BindError> {
        let owner = access.owner.as_deref().map(user).transpose()?;
        let group = access.group.as_deref().map(group).transpose()?;
        let failed = |error| BindError::Io { path: path.to_owned(), error };
        let errno = |error: Errno| failed(error.into());
        let address = UnixAddr::new(path).map_err(|error| match error {
            Errno::ENAMETOOLONG => BindError::TooLong(path.to_owned()),
            other => errno(other),
        })?;
        // Until the socket listens it looks like a dead one, so nobody else may look before.
        let _lock = lock_directory(path)?;
        make_way(path, &address)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(errno)?;
        bind(fd.as_raw_fd(), &address).map_err(errno)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let listener = Self {
            listener: UnixListener::from(fd),
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        };
        // Nobody can connect before it listens.
        if owner.is_some() || group.is_some() {
            chown(path, owner, group).map_err(errno)?;
        }
        fs::set_permissions(path, Permissions::from_mode(access.mode)).map_err(failed)?;
        let backlog = Backlog::new(BACKLOG).map_err(errno)?;
        listen(&listener.listener, backlog).map_err(errno)?;
        Ok(listener)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the listening socket; it does not block.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the control socket {}: {error}", self.path.display());
        }
    }
}

fn user(name: &str) -> Result<Uid, BindError> {
    let missing = || BindError::NoAccount { kind: "user", key: "owner", name: name.to_owned() };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid),
        _ => name.parse().map(Uid::from_raw).map_err(|_| missing()),
    }
}

fn group(name: &str) -> Result<Gid, BindError> {
    let missing = || BindError::NoAccount { kind: "group", key: "group", name: name.to_owned() };
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => name.parse().map(Gid::from_raw).map_err(|_| missing()),
    }
}

/// Locks the directory of the socket against other directors, and makes it if it is the project's own. The lock goes
/// with the process, whichever way that ends.
fn lock_directory(path: &Path) -> Result<Flock<File>, BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if directory == Path::new(OWN_DIRECTORY) {
        let made = DirBuilder::new().recursive(true).mode(OWN_DIRECTORY_MODE).create(directory);
        made.map_err(failed)?;
    }
    let mut file = File::open(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BindError::NoDirectory(directory.to_owned()),
        _ => failed(error),
    })?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                return Err(BindError::Locked(directory.to_owned()));
            }
            Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) => file = again,
            Err((_, error)) => return Err(failed(error.into())),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Removes the socket that a dead director left.
fn make_way(path: &Path, address: &UnixAddr) -> Result<(), BindError> {
    let failed = |error| BindError::Io { path: path.to_owned(), error };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotOurs(path.to_owned()));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(|error| failed(error.into()))?;
    match connect(fd.as_raw_fd(), address) {
        // With a full backlog the kernel says EAGAIN: someone listens, if slowly.
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS) => Err(BindError::InUse(path.to_owned())),
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        // A socket of another kind, as the system log's.
        Err(Errno::EPROTOTYPE) => Err(BindError::NotOurs(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}
