//! A program that tells by its exit status: 0 is well, anything else is not.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::failure::{Answer, Failure, Good};
use super::target::Target;
use crate::config::CommandCheck;

/// As much of what it prints is shown.
const MOST_SHOWN_BYTES: usize = 200;
/// How long after a program's end its words are read.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// Runs the program to its end. When it has ended, or the caller stops waiting, all that it started in its process group
/// is killed.
///
/// It is not told to die with the director (PR_SET_PDEATHSIG): that takes a fork() in place of posix_spawn(), which would
/// mark all of the flow tables copy-on-write under the workers' hands.
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
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let reading =
            async { tokio::join!(keep_beginning(stdout, &mut said), keep_beginning(stderr, &mut complained)) };
        tokio::pin!(reading);
        // What it started may hold the pipes open; its own end is what counts.
        let (status, all_read) = tokio::select! {
            _ = &mut reading => (child.wait().await, true),
            status = child.wait() => (status, false),
        };
        // Process numbers are given out in turn: this one cannot be another's already.
        drop(group);
        if !all_read {
            // What has left the group may still hold the pipes open; what the program itself printed is in them by now.
            let _ = timeout(LAST_WORDS, reading).await;
        }
        status.map_err(Failure::system("wait for the command"))?
    };
    let said = [said, complained].iter().map(|text| first_line(text)).find(|line| !line.is_empty()).unwrap_or_default();
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

/// Reads to the end, so that the program is never held up, and keeps the beginning.
async fn keep_beginning(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut buffer = [0; 1024];
    while let Ok(bytes @ 1..) = source.read(&mut buffer).await {
        let room = MOST_SHOWN_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..bytes.min(room)]);
    }
}

fn first_line(kept: &[u8]) -> String {
    let text = String::from_utf8_lossy(kept);
    text.trim().lines().next().unwrap_or_default().escape_debug().to_string()
}

/// A process group that is killed when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // That it is gone already is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}
