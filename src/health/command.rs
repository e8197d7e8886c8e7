//! A program that tells by its exit status: 0 is well, anything else is not.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::failure::{Answer, Failure, Good};
use super::target::Target;
use crate::config::CommandCheck;

/// As much of what it prints is shown.
const MOST_SHOWN_BYTES: usize = 200;

/// Runs the program to its end. Where the caller stops waiting, the program and all that it started in its process
/// group are killed.
pub(super) async fn ask(check: &CommandCheck, target: &Target, port: u16, weight: u32) -> Answer {
    let Some((program, arguments)) = check.command.split_first() else {
        return Err(Failure::System { step: "run the command", source: std::io::ErrorKind::InvalidInput.into() });
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("POINTSMAN_VIP", target.service.vip.to_string())
        .env("POINTSMAN_VIP_PORT", target.service.port.to_string())
        .env("POINTSMAN_PROTOCOL", target.service.protocol.to_string())
        .env("POINTSMAN_RIP", target.real_server.to_string())
        .env("POINTSMAN_RIP_PORT", port.to_string())
        .env("POINTSMAN_WEIGHT", weight.to_string())
        // What the director has to say to its service manager is not for others to say.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_PID")
        .env_remove("WATCHDOG_USEC")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::system("run the command"))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = async {
        let (said, complained) = tokio::join!(first_line(stdout), first_line(stderr));
        if said.is_empty() { complained } else { said }
    };
    // What it started may hold the pipes open; its own end is what counts.
    tokio::pin!(said);
    let (status, said) = tokio::select! {
        said = &mut said => (child.wait().await, said),
        status = child.wait() => (status, tokio::time::timeout(std::time::Duration::from_millis(10), said).await.unwrap_or_default()),
    };
    let status = status.map_err(Failure::system("wait for the command"))?;
    group.is_over();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    if status.success() {
        Ok(Good(format!("exit status 0{said}")))
    } else {
        Err(Failure::Command { status: in_words(status), said })
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "neither exited nor killed".to_owned(),
    }
}

/// Reads to the end, so that the program is never held up, and keeps the first line.
async fn first_line(source: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut source) = source else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(bytes @ 1..) = source.read(&mut buffer).await {
        let room = MOST_SHOWN_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..bytes.min(room)]);
    }
    let text = String::from_utf8_lossy(&kept);
    text.trim().lines().next().unwrap_or_default().escape_debug().to_string()
}

/// A process group that is killed when nobody waits for it any more.
struct Group(Option<Pid>);

impl Group {
    /// The program has ended: its number may be another's from now on.
    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // That it is gone already is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
