//! What passes between the control socket and the director: what it runs by, and changes of it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::zero::Zeroed;
use crate::config::edit::{Change, Edited, RefusedChange};
use crate::config::{Config, ConfigError, RestartNeeded, SaveError};
use crate::service::{ServiceKey, as_text};
use crate::stats::report::Report;
use crate::wire::MacAddress;

/// Changes that wait while one is made; what comes beyond them is refused.
pub const QUEUE: usize = 64;

/// What the director runs by, as one whole.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Names the state of the document; another one has another name.
    pub revision: String,
    /// The configuration's text, with the changes that were made.
    pub document: Arc<str>,
    /// What is in force. Settings that need a restart are as they were at the start.
    pub config: Arc<Config>,
    /// Changes made at run time since the file was read or written.
    pub unsaved_changes: u64,
    /// How each real server's address is reached.
    pub next_hops: Arc<[NextHopReport]>,
}

/// A real server's address on its segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextHopReport {
    /// The real server's address.
    pub address: IpAddr,
    /// The interface that it is reached by.
    pub device: Option<String>,
    /// Its MAC address, as far as it is known.
    #[schemars(with = "Option<String>")]
    pub mac: Option<MacAddress>,
    /// What is known of it.
    pub state: NextHopState,
    /// Why there is no way to it, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NextHopState {
    /// The configuration gives its MAC address.
    Configured,
    /// The kernel's neighbour table gives its MAC address.
    Known,
    /// Nobody answers for it, or no route leads to it: it counts as down.
    Missing,
}

/// Changes that are to be made, all or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChangeRequest {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// Only if the document has one of these revisions.
    pub if_revision: Option<Vec<String>>,
    /// Only tell what would change.
    pub dry_run: bool,
    /// Write the changed document to the configuration file.
    pub persist: bool,
}

/// What a request has changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeReport {
    /// Whether nothing was done but to tell.
    pub dry_run: bool,
    /// Whether the configuration file was written.
    pub persisted: bool,
    /// Revision of the document that the director runs by now.
    pub revision: String,
    /// Names of virtual services that are new.
    pub services_added: Vec<String>,
    /// Names of virtual services that are gone.
    pub services_removed: Vec<String>,
    /// Settings of virtual services that are others.
    pub services_changed: Vec<SettingChange>,
    /// Real servers that are new.
    pub real_servers_added: Vec<MemberChange>,
    /// Real servers that are gone.
    pub real_servers_removed: Vec<MemberChange>,
    /// Real servers with another weight.
    pub real_servers_reweighted: Vec<WeightChange>,
    /// Other settings of real servers.
    pub real_servers_changed: Vec<SettingChange>,
    /// Slots of the Maglev tables, over all services that were there before and are there now.
    pub slots: SlotChange,
    /// The same for each service that moves any.
    pub slots_by_service: Vec<ServiceSlots>,
    /// Whether the hash has another secret: flows without entries are then placed anew, whatever the slots say.
    pub secret_changed: bool,
    /// Time to build the forwarding table, in microseconds.
    pub build_us: u64,
    /// Settings that stay as they are until the director is started again.
    pub restart_needed: Vec<RestartNeeded>,
    /// What is allowed in the document and most likely not meant.
    pub warnings: Vec<String>,
    /// What the network lacks for what was changed: a way to a real server, somebody who answers for a VIP.
    #[serde(default)]
    pub network_warnings: Vec<String>,
}

/// A setting that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    /// The virtual service.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub service: ServiceKey,
    /// The real server, if it is a setting of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The setting's key.
    pub key: String,
    /// Its value before.
    pub old: Value,
    /// Its value after.
    pub new: Value,
}

/// A real server that comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberChange {
    /// The virtual service.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub service: ServiceKey,
    /// The real server.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
}

/// A real server with another weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightChange {
    /// The virtual service.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub service: ServiceKey,
    /// The real server.
    pub address: IpAddr,
    /// Its weight before.
    pub old: u32,
    /// Its weight after.
    pub new: u32,
}

/// How many slots have another real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotChange {
    /// All slots.
    pub total: u64,
    /// Those that have another real server than before.
    pub moved: u64,
    /// The fewest that must have one, by the shares of before and after.
    pub least_possible: u64,
}

/// The slots of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceSlots {
    /// The virtual service.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub service: ServiceKey,
    /// Its slots.
    #[serde(flatten)]
    pub slots: SlotChange,
}

/// Why changes were not made. But for [`Self::Incomplete`] everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Somebody else has changed it since.
    #[error("the configuration has changed: its revision is {current} now; read it again and repeat")]
    Revision {
        /// The revision that it has.
        current: String,
    },
    /// One of the changes cannot be made.
    #[error(transparent)]
    Change(#[from] RefusedChange),
    /// The changed document has mistakes.
    #[error("{error}")]
    Config {
        /// The mistakes.
        error: ConfigError,
        /// Which change made what, if any did.
        edited: Edited,
    },
    /// An address that can be no real server's.
    #[error("{message}")]
    RealServer {
        /// Why.
        message: String,
        /// The change that names the address, if one does so by itself, from 0.
        position: Option<usize>,
    },
    /// The network or the machine is against it.
    #[error("{0}")]
    Impossible(String),
    /// The file cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// It is done, but the kernel did not take all of it.
    #[error("changed, but the XDP program did not take over all of it: {0}; repeat the request")]
    Incomplete(String),
    /// Too many wait already.
    #[error("the director is busy with other changes; try again in a second")]
    Busy,
    /// Nobody listens any more.
    #[error("the director is stopping")]
    Stopping,
}

/// A request on its way to the director.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub request: ChangeRequest,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<ChangeReport, Refusal>>,
}

/// By what the control socket reaches the director.
#[derive(Clone, Debug)]
pub struct DirectorHandle {
    running: Arc<Mutex<Arc<Running>>>,
    zeroed: Arc<Mutex<Zeroed>>,
    commands: Sender<Command>,
}

/// The director's end: what it runs by is put here, and commands come out.
#[derive(Debug)]
pub struct DirectorEnd {
    running: Arc<Mutex<Arc<Running>>>,
    zeroed: Arc<Mutex<Zeroed>>,
    /// The commands.
    pub commands: Receiver<Command>,
}

/// Both ends.
#[must_use]
pub fn connect(running: Running) -> (DirectorHandle, DirectorEnd) {
    let (sender, commands) = bounded(QUEUE);
    let running = Arc::new(Mutex::new(Arc::new(running)));
    let zeroed = Arc::<Mutex<Zeroed>>::default();
    let handle = DirectorHandle { running: Arc::clone(&running), zeroed: Arc::clone(&zeroed), commands: sender };
    (handle, DirectorEnd { running, zeroed, commands })
}

impl DirectorEnd {
    /// Shows what the director runs by from now on.
    pub fn show(&self, running: Running) {
        self.zeroed.lock().unwrap_or_else(PoisonError::into_inner).retain(&running.config);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(running);
    }
}

impl DirectorHandle {
    /// What the director runs by.
    #[must_use]
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What had been counted when counters were zeroed.
    #[must_use]
    pub fn zeroed(&self) -> Zeroed {
        self.zeroed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Zeroes the counters of one service, or of all, as of `report`.
    pub(super) fn zero(&self, report: &Report, only: Option<ServiceKey>) -> Zeroed {
        let name = only.map(|key| key.to_string());
        let mut zeroed = self.zeroed.lock().unwrap_or_else(PoisonError::into_inner);
        zeroed.zero(report, name.as_deref());
        // The report may be of what was gone when it was made.
        zeroed.retain(&self.running().config);
        zeroed.clone()
    }

    /// Has changes made, after those that were asked for before.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn change(&self, request: ChangeRequest) -> Result<ChangeReport, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command { request, reply }).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Stopping,
        })?;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }
}
