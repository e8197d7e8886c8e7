//! Virtual services and real servers at the control socket.

use std::fmt;
use std::net::IpAddr;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::api::Handle;
use super::change::{ChangeQuery, Changed, make, make_new};
use super::error::ApiError;
use super::extract::{JsonBody, NoParameters, Path, Query};
use super::openapi::about;
use super::revision::{IfMatch, IfNoneMatch, Revised};
use super::schema::{NewRealServer, NewService, RealServerDocument, RealServerEdit, ServiceDocument, ServiceEdit};
use crate::config::VirtualServiceConfig;
use crate::config::edit::{Change, Settings};
use crate::service::{Protocol, ServiceKey};

/// `GET`, `POST`: the virtual services.
pub const SERVICES: &str = "/v1/services";
/// `GET`: the real servers of all virtual services.
pub const REAL_SERVERS: &str = "/v1/real-servers";
const SERVICE: &str = "/v1/services/{protocol}/{vip}/{port}";
const MEMBERS: &str = "/v1/services/{protocol}/{vip}/{port}/real-servers";
const MEMBER: &str = "/v1/services/{protocol}/{vip}/{port}/real-servers/{address}";
const DRAIN: &str = "/v1/services/{protocol}/{vip}/{port}/real-servers/{address}/drain";

/// A protocol by its name as it stands there: only of such texts axum tells which part of the path is wrong.
fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    struct Name;

    impl Visitor<'_> for Name {
        type Value = Protocol;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("tcp or udp")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Protocol, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Name)
}

/// The name of a virtual service, as a path has it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct ServicePath {
    /// `tcp` or `udp`.
    #[serde(deserialize_with = "protocol")]
    protocol: Protocol,
    /// The VIP; an IPv6 address stands without brackets.
    vip: IpAddr,
    /// The port; 0 is any.
    port: u16,
}

/// The name of a real server of a virtual service.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct MemberPath {
    /// `tcp` or `udp`.
    #[serde(deserialize_with = "protocol")]
    protocol: Protocol,
    /// The VIP; an IPv6 address stands without brackets.
    vip: IpAddr,
    /// The port; 0 is any.
    port: u16,
    /// The real server's address.
    address: IpAddr,
}

impl From<ServicePath> for ServiceKey {
    fn from(ServicePath { protocol, vip, port }: ServicePath) -> Self {
        Self { vip, protocol, port }
    }
}

impl From<MemberPath> for ServiceKey {
    fn from(MemberPath { protocol, vip, port, .. }: MemberPath) -> Self {
        Self { vip, protocol, port }
    }
}

pub(super) fn routes() -> ApiRouter<Handle> {
    let service = |summary| about("services", summary);
    let member = |summary| about("real servers", summary);
    ApiRouter::new()
        .api_route(
            SERVICES,
            get_with(services, service("List the virtual services with their real servers"))
                .post_with(add_service, |operation| created(service("Add a virtual service")(operation))),
        )
        .api_route(
            SERVICE,
            get_with(show_service, service("Show a virtual service with its real servers"))
                .patch_with(edit_service, service("Set keys of a virtual service; null takes one away"))
                .delete_with(delete_service, service("Delete a virtual service and its real servers")),
        )
        .api_route(
            MEMBERS,
            get_with(members, member("List the real servers of a virtual service"))
                .post_with(add_member, |operation| created(member("Add a real server")(operation))),
        )
        .api_route(
            MEMBER,
            get_with(show_member, member("Show a real server"))
                .patch_with(edit_member, member("Set keys of a real server; null takes one away"))
                .delete_with(delete_member, member("Delete a real server")),
        )
        .api_route(DRAIN, post_with(drain, member("Give a real server no new flows: set its weight to 0")))
        .api_route(REAL_SERVERS, get_with(all_members, member("List the real servers of all virtual services")))
}

fn created(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    operation.response_with::<201, Changed, _>(|response| response.description("It is added."))
}

async fn services(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
) -> Result<Revised<Json<Vec<ServiceDocument>>>, ApiError> {
    let running = handle.director.running();
    let services = &running.config.virtual_services;
    Ok(known.unless_known(&running.revision, || Json(services.iter().map(service_document).collect())))
}

async fn add_service(
    State(handle): State<Handle>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    JsonBody(NewService(mut settings)): JsonBody<NewService>,
) -> Result<Changed, ApiError> {
    let service = ServiceKey {
        vip: name_part(&mut settings, "vip", "an IPv4 or IPv6 address in a string")?,
        protocol: name_part(&mut settings, "protocol", "\"tcp\" or \"udp\"")?,
        port: name_part(&mut settings, "port", "a number from 0 to 65535")?,
    };
    make_new(&handle, query, revisions, Change::AddService { service, settings }).await
}

async fn show_service(
    State(handle): State<Handle>,
    Path(path): Path<ServicePath>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
) -> Result<Revised<Json<ServiceDocument>>, ApiError> {
    let running = handle.director.running();
    let service = find(&running.config.virtual_services, path.into())?;
    Ok(known.unless_known(&running.revision, || Json(service_document(service))))
}

async fn edit_service(
    State(handle): State<Handle>,
    Path(path): Path<ServicePath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    JsonBody(ServiceEdit(settings)): JsonBody<ServiceEdit>,
) -> Result<Changed, ApiError> {
    make(&handle, query, revisions, Change::EditService { service: path.into(), settings }).await
}

async fn delete_service(
    State(handle): State<Handle>,
    Path(path): Path<ServicePath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
) -> Result<Changed, ApiError> {
    make(&handle, query, revisions, Change::DeleteService { service: path.into() }).await
}

async fn members(
    State(handle): State<Handle>,
    Path(path): Path<ServicePath>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
) -> Result<Revised<Json<Vec<RealServerDocument>>>, ApiError> {
    let running = handle.director.running();
    let service = find(&running.config.virtual_services, path.into())?;
    let document = |server| RealServerDocument(fields(server));
    Ok(known.unless_known(&running.revision, || Json(service.real_servers.iter().map(document).collect())))
}

async fn add_member(
    State(handle): State<Handle>,
    Path(path): Path<ServicePath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    JsonBody(NewRealServer(mut settings)): JsonBody<NewRealServer>,
) -> Result<Changed, ApiError> {
    let address = name_part(&mut settings, "address", "an IPv4 or IPv6 address in a string")?;
    let change = Change::AddRealServer { service: path.into(), address, settings };
    make_new(&handle, query, revisions, change).await
}

async fn show_member(
    State(handle): State<Handle>,
    Path(path): Path<MemberPath>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
) -> Result<Revised<Json<RealServerDocument>>, ApiError> {
    let running = handle.director.running();
    let service = find(&running.config.virtual_services, path.into())?;
    let found = service.real_servers.iter().find(|server| server.address == path.address);
    let missing = || {
        let message = format!("{} has no real server {}", service.key, path.address);
        ApiError::new(StatusCode::NOT_FOUND, message).at("address")
    };
    let server = found.ok_or_else(missing)?;
    Ok(known.unless_known(&running.revision, || Json(RealServerDocument(fields(server)))))
}

async fn edit_member(
    State(handle): State<Handle>,
    Path(path): Path<MemberPath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
    JsonBody(RealServerEdit(settings)): JsonBody<RealServerEdit>,
) -> Result<Changed, ApiError> {
    let change = Change::EditRealServer { service: path.into(), address: path.address, settings };
    make(&handle, query, revisions, change).await
}

async fn delete_member(
    State(handle): State<Handle>,
    Path(path): Path<MemberPath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
) -> Result<Changed, ApiError> {
    make(&handle, query, revisions, Change::DeleteRealServer { service: path.into(), address: path.address }).await
}

async fn drain(
    State(handle): State<Handle>,
    Path(path): Path<MemberPath>,
    Query(query): Query<ChangeQuery>,
    revisions: IfMatch,
) -> Result<Changed, ApiError> {
    let settings = Settings::from_iter([("weight".to_owned(), json!(0))]);
    let change = Change::EditRealServer { service: path.into(), address: path.address, settings };
    make(&handle, query, revisions, change).await
}

async fn all_members(
    State(handle): State<Handle>,
    Query(NoParameters {}): Query<NoParameters>,
    known: IfNoneMatch,
) -> Result<Revised<Json<Vec<RealServerDocument>>>, ApiError> {
    let running = handle.director.running();
    let services = running.config.virtual_services.iter();
    let named = services.flat_map(|service| {
        service.real_servers.iter().map(|server| {
            let mut fields = fields(server);
            fields.insert("service".to_owned(), json!(service.key.to_string()));
            RealServerDocument(fields)
        })
    });
    Ok(known.unless_known(&running.revision, || Json(named.collect())))
}

fn find(services: &[VirtualServiceConfig], key: ServiceKey) -> Result<&VirtualServiceConfig, ApiError> {
    services.iter().find(|service| service.key == key).ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, format!("there is no virtual service {key}; GET {SERVICES} lists all"))
    })
}

fn service_document(service: &VirtualServiceConfig) -> ServiceDocument {
    ServiceDocument(fields(service))
}

fn fields(value: &(impl serde::Serialize + ?Sized)) -> Settings {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Settings::new(),
    }
}

/// A key of the name, out of the settings of what is to be added.
fn name_part<T: serde::de::DeserializeOwned>(
    settings: &mut Settings,
    key: &'static str,
    expected: &str,
) -> Result<T, ApiError> {
    let refuse = |problem: &str| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{key} {problem}; write {expected}")).at(key)
    };
    let value = settings.remove(key).ok_or_else(|| refuse("is missing"))?;
    serde_json::from_value(value).map_err(|_| refuse("is not right"))
}
