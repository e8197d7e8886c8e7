//! A document while changes are made: found by name, compacted once at the end.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use serde_json::{Value, json};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use super::value::{merge, tables_of};
use super::{Change, ChangeError, Settings, list};
use crate::config;
use crate::service::{Protocol, ServiceKey};

const DIRECTOR: &str = "director";
const VIRTUAL_SERVICE: &str = "virtual_service";
const REAL_SERVER: &str = "real_server";
/// The keys that name a virtual service.
const NAME_OF_SERVICE: [&str; 3] = ["vip", "port", "protocol"];
/// The key that names a real server.
const NAME_OF_REAL_SERVER: [&str; 1] = ["address"];

/// The table that a change was about: position of the service, position of the real server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Nothing,
    Director,
    Service(usize),
    RealServer(usize, usize),
}

pub(super) struct Document {
    document: DocumentMut,
    services: Members<ServiceKey>,
    /// Real servers of the services that were looked at, by the service's position.
    real_servers: HashMap<usize, Members<IpAddr>>,
}

/// Elements of an array of tables by name. What is deleted stays in its place until the end, so that positions hold.
struct Members<K> {
    positions: HashMap<K, usize>,
    gone: HashSet<usize>,
    /// Of those that are gone the ones that come back with their keys if they are added again.
    kept: HashMap<K, usize>,
}

impl<K: std::hash::Hash + Eq> Members<K> {
    fn of(tables: &ArrayOfTables, name: impl Fn(&Table) -> Option<K>) -> Self {
        let named = tables.iter().enumerate().filter_map(|(at, table)| Some((name(table)?, at)));
        Self { positions: named.collect(), ..Self::empty() }
    }

    fn empty() -> Self {
        Self { positions: HashMap::new(), gone: HashSet::new(), kept: HashMap::new() }
    }

    fn clear(&mut self, keep: bool) {
        let cleared = std::mem::take(&mut self.positions);
        self.gone.extend(cleared.values());
        if keep {
            self.kept.extend(cleared);
        } else {
            self.kept.clear();
        }
    }

    /// Takes back what was kept under this name.
    fn take_back(&mut self, name: K) -> Option<usize> {
        let at = self.kept.remove(&name)?;
        self.gone.remove(&at);
        self.positions.insert(name, at);
        Some(at)
    }

    fn delete(&mut self, name: &K) -> Option<usize> {
        let at = self.positions.remove(name)?;
        self.gone.insert(at);
        Some(at)
    }

    /// Takes out what is deleted. Returns the new position of each element.
    fn compact(&self, tables: &mut ArrayOfTables) -> Vec<Option<usize>> {
        let (mut at, mut kept) = (0, 0);
        let mut places = Vec::with_capacity(tables.len());
        tables.retain(|_| {
            let keep = !self.gone.contains(&at);
            places.push(keep.then_some(kept));
            at += 1;
            kept += usize::from(keep);
            keep
        });
        places
    }
}

impl Document {
    pub(super) fn read(text: &str) -> Result<Self, ChangeError> {
        let mut document: DocumentMut = match text.parse() {
            Ok(document) => document,
            Err(error) => {
                // The own reader says it better; it refuses whatever TOML's does.
                config::parse(text, "the configuration")?;
                let problem = "is not a document that can be edited";
                return Err(ChangeError::Value { key: error.message().to_owned(), problem });
            }
        };
        let services = match tables_of(document.as_table_mut(), VIRTUAL_SERVICE) {
            Some(tables) => Members::of(tables, service_name),
            None => Members::empty(),
        };
        Ok(Self { document, services, real_servers: HashMap::new() })
    }

    pub(super) fn make(&mut self, change: &Change) -> Result<Mark, ChangeError> {
        match change {
            // Handled before the document was read.
            Change::Replace { .. } => Ok(Mark::Nothing),
            Change::EditDirector { settings } => {
                merge(self.director()?, settings, DIRECTOR)?;
                Ok(Mark::Director)
            }
            Change::Clear { keep_settings } => {
                self.services.clear(*keep_settings);
                Ok(Mark::Nothing)
            }
            Change::AddService { service, settings } => self.add_service(*service, settings),
            Change::EditService { service, settings } => {
                let at = self.position(*service)?;
                let settings = without_name(settings, &NAME_OF_SERVICE, &name_of_service(*service))?;
                let table = self.service(at).ok_or(ChangeError::NoService(*service))?;
                merge(table, &settings, VIRTUAL_SERVICE)?;
                if settings.contains_key(REAL_SERVER) {
                    // They are others now; what was deleted of the old ones is gone with them.
                    self.real_servers.remove(&at);
                }
                Ok(Mark::Service(at))
            }
            Change::DeleteService { service } => {
                self.services.delete(service).ok_or(ChangeError::NoService(*service))?;
                Ok(Mark::Nothing)
            }
            Change::AddRealServer { service, address, settings } => self.add_real_server(*service, *address, settings),
            Change::EditRealServer { service, address, settings } => {
                let (at, member) = self.find_real_server(*service, *address)?;
                let settings = without_name(settings, &NAME_OF_REAL_SERVER, &name_of_real_server(*address))?;
                let tables = self.service(at).and_then(|table| tables_of(table, REAL_SERVER));
                let table = tables.and_then(|tables| tables.get_mut(member));
                let missing = ChangeError::NoRealServer { service: *service, address: *address };
                merge(table.ok_or(missing)?, &settings, "virtual_service.real_server")?;
                Ok(Mark::RealServer(at, member))
            }
            Change::DeleteRealServer { service, address } => {
                let (at, _) = self.find_real_server(*service, *address)?;
                self.members(at).delete(address);
                Ok(Mark::Service(at))
            }
        }
    }

    /// The text, and the path of each mark in it.
    pub(super) fn write(mut self, marks: &[Mark]) -> (String, Vec<String>) {
        let mut member_places = HashMap::new();
        for (at, members) in std::mem::take(&mut self.real_servers) {
            let Some(table) = self.service(at) else { continue };
            if let Some(tables) = tables_of(table, REAL_SERVER) {
                member_places.insert(at, members.compact(tables));
                if tables.is_empty() {
                    table.remove(REAL_SERVER);
                }
            }
        }
        let root = self.document.as_table_mut();
        let mut places = Vec::new();
        if let Some(tables) = tables_of(root, VIRTUAL_SERVICE) {
            places = self.services.compact(tables);
            if tables.is_empty() {
                root.remove(VIRTUAL_SERVICE);
            }
        }
        let service = |at: usize| Some(format!("{VIRTUAL_SERVICE}[{}]", places.get(at).copied()??));
        let path = |mark: &Mark| match *mark {
            Mark::Nothing => None,
            Mark::Director => Some(DIRECTOR.to_owned()),
            Mark::Service(at) => service(at),
            Mark::RealServer(at, member) => {
                let member = member_places.get(&at).map_or(Some(member), |places| places.get(member).copied()?)?;
                Some(format!("{}.{REAL_SERVER}[{member}]", service(at)?))
            }
        };
        let paths = marks.iter().map(|mark| path(mark).unwrap_or_default()).collect();
        (self.document.to_string(), paths)
    }

    fn add_service(&mut self, service: ServiceKey, settings: &Settings) -> Result<Mark, ChangeError> {
        if self.services.positions.contains_key(&service) {
            return Err(ChangeError::ServiceExists(service));
        }
        let mut all = name_of_service(service);
        all.extend(without_name(settings, &NAME_OF_SERVICE, &all)?);
        if let Some(at) = self.services.take_back(service) {
            self.members(at).clear(true);
            let table = self.service(at).ok_or(ChangeError::NoService(service))?;
            merge(table, &without_name(settings, &NAME_OF_SERVICE, &all)?, VIRTUAL_SERVICE)?;
            return Ok(Mark::Service(at));
        }
        let mut table = Table::new();
        merge(&mut table, &all, VIRTUAL_SERVICE)?;
        let root = self.document.as_table_mut();
        let at = push(root, VIRTUAL_SERVICE, table);
        self.services.positions.insert(service, at);
        Ok(Mark::Service(at))
    }

    fn add_real_server(
        &mut self,
        service: ServiceKey,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<Mark, ChangeError> {
        let at = self.position(service)?;
        if self.members(at).positions.contains_key(&address) {
            return Err(ChangeError::RealServerExists { service, address });
        }
        let mut all = name_of_real_server(address);
        all.extend(without_name(settings, &NAME_OF_REAL_SERVER, &all)?);
        if let Some(member) = self.members(at).take_back(address) {
            let tables = self.service(at).and_then(|table| tables_of(table, REAL_SERVER));
            let table = tables.and_then(|tables| tables.get_mut(member));
            let missing = ChangeError::NoRealServer { service, address };
            let rest = without_name(settings, &NAME_OF_REAL_SERVER, &all)?;
            merge(table.ok_or(missing)?, &rest, "virtual_service.real_server")?;
            return Ok(Mark::RealServer(at, member));
        }
        let mut table = Table::new();
        merge(&mut table, &all, "virtual_service.real_server")?;
        let member = push(self.service(at).ok_or(ChangeError::NoService(service))?, REAL_SERVER, table);
        self.members(at).positions.insert(address, member);
        Ok(Mark::RealServer(at, member))
    }

    fn position(&self, service: ServiceKey) -> Result<usize, ChangeError> {
        self.services.positions.get(&service).copied().ok_or(ChangeError::NoService(service))
    }

    /// The table of the director, which is made, in front of all others, if it is not there.
    fn director(&mut self) -> Result<&mut Table, ChangeError> {
        let no_table = || ChangeError::Value { key: DIRECTOR.to_owned(), problem: "is not a table" };
        let root = self.document.as_table_mut();
        if !root.get(DIRECTOR).is_some_and(Item::is_table) {
            let mut table = match root.remove(DIRECTOR) {
                None => Table::new(),
                Some(inline) => inline.into_table().map_err(|_| no_table())?,
            };
            table.set_position(Some(-1));
            root.insert(DIRECTOR, Item::Table(table));
        }
        root.get_mut(DIRECTOR).and_then(Item::as_table_mut).ok_or_else(no_table)
    }

    fn service(&mut self, at: usize) -> Option<&mut Table> {
        tables_of(self.document.as_table_mut(), VIRTUAL_SERVICE)?.get_mut(at)
    }

    fn find_real_server(&mut self, service: ServiceKey, address: IpAddr) -> Result<(usize, usize), ChangeError> {
        let at = self.position(service)?;
        let member = self.members(at).positions.get(&address).copied();
        member.map(|member| (at, member)).ok_or(ChangeError::NoRealServer { service, address })
    }

    fn members(&mut self, at: usize) -> &mut Members<IpAddr> {
        let table = tables_of(self.document.as_table_mut(), VIRTUAL_SERVICE).and_then(|tables| tables.get_mut(at));
        self.real_servers.entry(at).or_insert_with(|| {
            let tables = table.and_then(|table| tables_of(table, REAL_SERVER));
            tables.map_or_else(Members::empty, |tables| {
                Members::of(tables, |table| table.get("address")?.as_str()?.parse().ok())
            })
        })
    }
}

/// Adds an element to an array of tables, which is made if it is not there.
fn push(parent: &mut Table, key: &str, mut table: Table) -> usize {
    if tables_of(parent, key).is_none() {
        list::put_above(&mut table, &list::take_empty(parent, key));
        parent.insert(key, Item::ArrayOfTables(ArrayOfTables::new()));
    }
    let Some(tables) = tables_of(parent, key) else { return 0 };
    tables.push(table);
    tables.len() - 1
}

fn service_name(table: &Table) -> Option<ServiceKey> {
    let protocol: Protocol = table.get("protocol")?.as_str()?.parse().ok()?;
    let port = u16::try_from(table.get("port")?.as_integer()?).ok()?;
    Some(ServiceKey { vip: table.get("vip")?.as_str()?.parse().ok()?, protocol, port })
}

fn name_of_service(service: ServiceKey) -> Settings {
    let pairs = [("vip", json!(service.vip)), ("port", json!(service.port)), ("protocol", json!(service.protocol))];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn name_of_real_server(address: IpAddr) -> Settings {
    Settings::from_iter([("address".to_owned(), json!(address))])
}

/// The settings without the keys of the name, which may be repeated but not changed.
fn without_name(settings: &Settings, keys: &[&str], name: &Settings) -> Result<Settings, ChangeError> {
    let mut rest = settings.clone();
    for key in keys {
        match rest.remove(*key) {
            Some(given) if !is_same(&given, name.get(*key)) => {
                return Err(ChangeError::Name { key: (*key).to_owned() });
            }
            _ => {}
        }
    }
    Ok(rest)
}

/// Whether two values are the same, also where an address is written in another way.
fn is_same(given: &Value, name: Option<&Value>) -> bool {
    let address = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    name.is_some_and(|name| given == name || (address(given).is_some() && address(given) == address(name)))
}
