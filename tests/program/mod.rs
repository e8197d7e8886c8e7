//! The built program, run as a user runs it: files in a directory of its own, arguments, what it says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "the module is compiled into several test binaries")]

pub mod pcap;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Two weighted real servers, one with a MAC address; services of both protocols and families; one of any port.
pub const CONFIG: &str = r#"
[director]
secret = "a secret"

[[virtual_service]]
vip = "192.168.88.15"
port = 80
protocol = "tcp"
scheduler = "mh"

[[virtual_service.real_server]]
address = "192.168.88.100"
weight = 1
mac = "02:00:00:00:01:00"

[[virtual_service.real_server]]
address = "192.168.88.200"
weight = 2

[[virtual_service]]
vip = "192.168.88.15"
port = 53
protocol = "udp"

[[virtual_service.real_server]]
address = "192.168.88.101"
weight = 7

[[virtual_service]]
vip = "2001:db8:88::15"
port = 0
protocol = "tcp"
persistence = "client"

[[virtual_service.real_server]]
address = "2001:db8:88::100"

[[virtual_service.real_server]]
address = "2001:db8:88::200"
"#;

/// A command line of the built program, with nothing on its standard input.
pub fn pointsman<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command.args(arguments).stdin(Stdio::null()).env_remove("POINTSMAN_LOG");
    command
}

/// What the program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the program to its end.
pub fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Said {
    let said = Said::from(pointsman(arguments).output().unwrap());
    assert!(!said.err.contains("panicked"), "{said:?}");
    said
}

/// A directory for the files of one test, removed with it.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file; its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// A copy of the program that every user can run, wherever the build directory is.
pub fn for_everybody(workspace: &Workspace) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let copy = workspace.directory().join("pointsman");
    // Not by this process: a child that another thread forks meanwhile would hold the copy open for writing, and to run
    // it would fail with "text file busy".
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pointsman")).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(workspace.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    copy
}
