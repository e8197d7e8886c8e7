//! New flows: by what is kept of their client, by the scheduler, or by the hash.
//!
//! A flow may be given a real server that its hash does not find only if the flow table has room to remember that: else
//! its next packet would go elsewhere. So room is made before a turn is taken, and without room the hash is the choice.
//!
//! What is kept of a client, its *template*, is worth as much as the flows that it comes from: unconfirmed until one of
//! them is confirmed, then kept for the service's persistence timeout after the last packet of any. It holds as long as
//! its real server is alive, also while that drains, as in IPVS.

use super::route::{How, Packet, Router, UNCONFIRMED_S};
use crate::flow::{Change, FlowKey, FlowState, Found};
use crate::table::ClientPersistence;

/// Where what is kept of a packet's client is found.
struct Template {
    hash: u64,
    key: FlowKey,
    timeout_s: u32,
}

impl Router<'_> {
    /// A flow that begins, and has no entry.
    pub(super) fn begin(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let state = FlowState::Unconfirmed;
        if packet.service.persistence.is_none() && packet.service.relies_on_entries() {
            let Some(room) = self.room_for_flow(packet, state) else { return self.by_hash(packet) };
            let at = self.anew(packet, state)?;
            self.fill(packet, &room, self.first_entry(packet, at)?);
            return Some(at);
        }
        let at = self.anew(packet, state)?;
        let entry = self.first_entry(packet, at)?;
        self.remember(packet, entry);
        self.keep_client(packet, entry);
        Some(at)
    }

    /// The real server of a flow that begins and that is remembered: its client's, or a new one.
    pub(super) fn anew(&mut self, packet: &Packet<'_>, state: FlowState) -> Option<u32> {
        let Some(persistence) = &packet.service.persistence else { return self.by_turn(packet) };
        if let Some(at) = self.by_client(packet) {
            return Some(at);
        }
        let template = self.template(packet, persistence);
        if let Some(found) = self.flows.flows.find(template.hash, &template.key, self.now_s) {
            // Its real server is down or gone: the client gets another for good.
            let at = self.by_turn(packet)?;
            let change = template.change(found.state, self.table.real_servers().get(at as usize)?.id);
            self.flows.flows.update(&found, self.now_s, change);
            self.recount(&found, change, true);
            return Some(at);
        }
        let connections = self.table.connections();
        let Some(room) = self.flows.make_room(template.hash, self.now_s, state, connections) else {
            self.counts.flows_without_room += 1;
            return self.by_hash(packet);
        };
        self.counts.evicted_flows += u64::from(room.evicted.is_some());
        let at = self.by_turn(packet)?;
        let change = template.change(state, self.table.real_servers().get(at as usize)?.id);
        self.flows.fill(&room, &template.key, self.now_s, change, connections);
        Some(at)
    }

    /// The scheduler's choice, whichever scheduler it is.
    fn by_turn(&mut self, packet: &Packet<'_>) -> Option<u32> {
        if packet.service.rota().is_limited() {
            return self.within_limits(packet);
        }
        match self.table.schedule(packet.service, self.flows.worker, self.flows.period) {
            Some(at) => {
                self.counts.last = Some(How::Turn);
                Some(at)
            }
            None => self.by_hash(packet),
        }
    }

    /// The scheduler's choice among those that may be given another connection.
    #[cold]
    fn within_limits(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let (service, worker, period) = (packet.service, self.flows.worker, self.flows.period);
        if service.scheduler.is_hash() {
            let choice = self.table.choose_with_room(service, self.choice_hash(packet), worker, period)?;
            self.counts.last = Some(How::Hash);
            self.counts.second_choices += u64::from(choice.skipped > 0);
            return Some(choice.real_server);
        }
        self.counts.last = Some(How::Turn);
        self.table.schedule(service, worker, period).or(service.fallback())
    }

    /// The real server that the packet's client is kept at, by this worker or another, if that is alive.
    pub(super) fn by_client(&mut self, packet: &Packet<'_>) -> Option<u32> {
        let template = self.template(packet, packet.service.persistence.as_ref()?);
        let own = self.flows.flows.find(template.hash, &template.key, self.now_s);
        let at = match own.and_then(|found| self.alive_position(found.real_server)) {
            Some(at) => at,
            None => self.copy_template(&template, own)?,
        };
        self.counts.last = Some(How::Client);
        Some(at)
    }

    /// What another worker keeps of a client becomes this one's too, if the real server is alive.
    fn copy_template(&mut self, template: &Template, own: Option<Found>) -> Option<u32> {
        let (at, record) = self.flows.peers.iter().find_map(|peer| {
            let record = peer.flows.get(template.hash, &template.key, self.now_s)?;
            Some((self.alive_position(record.real_server)?, record))
        })?;
        let connections = self.table.connections();
        if let Some(found) = own {
            let change = Change { state: record.state, life_s: record.left_s, real_server: record.real_server };
            self.flows.flows.update(&found, self.now_s, change);
            self.recount(&found, change, true);
        } else if let Some(room) = self.flows.make_room(template.hash, self.now_s, record.state, connections) {
            self.counts.evicted_flows += u64::from(room.evicted.is_some());
            let change = Change { state: record.state, life_s: record.left_s, real_server: record.real_server };
            self.flows.fill(&room, &template.key, self.now_s, change, connections);
        }
        Some(at)
    }

    fn alive_position(&self, number: u32) -> Option<u32> {
        self.table.position_of(number).filter(|at| self.is_alive(*at))
    }

    /// Has what is kept of a client live on with one of its flows, whose entry that is.
    pub(super) fn keep_client(&mut self, packet: &Packet<'_>, entry: Change) {
        let Some(persistence) = &packet.service.persistence else { return };
        let template = self.template(packet, persistence);
        let state = if entry.state == FlowState::Unconfirmed { entry.state } else { FlowState::Established };
        match self.flows.flows.find(template.hash, &template.key, self.now_s) {
            // Flows that came before the client was given another real server say nothing about it.
            Some(found) if found.real_server == entry.real_server => {
                let state = if found.state == FlowState::Established { found.state } else { state };
                let change = template.change(state, entry.real_server);
                self.flows.flows.update(&found, self.now_s, change);
                self.recount(&found, change, true);
            }
            Some(_) => {}
            None => {
                let connections = self.table.connections();
                if let Some(room) = self.flows.make_room(template.hash, self.now_s, state, connections) {
                    self.counts.evicted_flows += u64::from(room.evicted.is_some());
                    let change = template.change(state, entry.real_server);
                    self.flows.fill(&room, &template.key, self.now_s, change, connections);
                }
            }
        }
    }

    fn template(&self, packet: &Packet<'_>, persistence: &ClientPersistence) -> Template {
        let masked = persistence.masked(packet.subject);
        Template {
            hash: self.table.template_hash(packet.service, &masked),
            key: FlowKey::template(&masked, packet.service.id),
            timeout_s: persistence.timeout_s,
        }
    }
}

impl Template {
    fn change(&self, state: FlowState, real_server: u32) -> Change {
        let life_s = if state == FlowState::Unconfirmed { self.timeout_s.min(UNCONFIRMED_S) } else { self.timeout_s };
        Change { state, life_s, real_server }
    }
}
