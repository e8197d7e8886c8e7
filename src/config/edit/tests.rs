use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{self, Config};

const FILE: &str = r#"# The web farm.
[director]
secret = "x" # of all directors

# In front of everything.
[[virtual_service]]
vip = "192.0.2.1"   # the VIP
port = 80
protocol = "tcp"

# First server.
[[virtual_service.real_server]]
address = "192.0.2.10"
weight = 3  # the old machine

[[virtual_service.real_server]]
address = "192.0.2.11"

# Name service.
[[virtual_service]]
vip = "2001:db8:0::1"
port = 53
protocol = "udp"
real_server = [{ address = "2001:db8::a" }, { address = "2001:db8::b", weight = 2 }]
# The end.
"#;

fn service(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(value: serde_json::Value) -> Settings {
    value.as_object().unwrap().clone()
}

fn config(text: &str) -> Config {
    config::parse(text, "f").unwrap_or_else(|error| panic!("{error}\n{text}")).config
}

fn edit(changes: &[Change]) -> String {
    apply(FILE, changes).unwrap().text
}

#[test]
fn a_weight_is_one_line() {
    let change = Change::EditRealServer {
        service: service("tcp 192.0.2.1:80"),
        address: address("192.0.2.10"),
        settings: settings(json!({ "weight": 5 })),
    };
    assert_eq!(edit(&[change]), FILE.replace("weight = 3  #", "weight = 5  #"));
}

#[test]
fn what_is_added_stands_behind_its_like() {
    let web = service("tcp 192.0.2.1:80");
    let text = edit(&[
        Change::AddRealServer {
            service: web,
            address: address("192.0.2.12"),
            settings: settings(json!({ "mac": "02:00:00:00:00:12", "weight": 7 })),
        },
        Change::AddService {
            service: service("tcp 192.0.2.2:443"),
            settings: settings(json!({ "persistence": "client" })),
        },
    ]);
    let server =
        "\n[[virtual_service.real_server]]\naddress = \"192.0.2.12\"\nweight = 7\nmac = \"02:00:00:00:00:12\"\n";
    let added =
        "\n[[virtual_service]]\nvip = \"192.0.2.2\"\nport = 443\nprotocol = \"tcp\"\npersistence = \"client\"\n";
    let expected = FILE.replace("address = \"192.0.2.11\"\n", &format!("address = \"192.0.2.11\"\n{server}"));
    let expected = expected.replace("# The end.\n", &format!("{added}# The end.\n"));
    assert_eq!(text, expected);
    assert_eq!(config(&text).virtual_services.len(), 3);
}

#[test]
fn lists_of_inline_tables_are_edited_too() {
    let dns = service("udp [2001:db8::1]:53");
    let text = edit(&[
        Change::DeleteRealServer { service: dns, address: address("2001:db8::a") },
        Change::EditRealServer {
            service: dns,
            address: address("2001:db8:0:0::b"),
            settings: settings(json!({ "weight": null, "address": "2001:db8:0::b" })),
        },
    ]);
    let real_servers = &config(&text).virtual_services[1].real_servers;
    assert_eq!(
        real_servers.iter().map(|server| (server.address, server.weight)).collect::<Vec<_>>(),
        [(address("2001:db8::b"), 1)]
    );
    assert!(text.contains("# The end."));
}

#[test]
#[expect(clippy::too_many_lines, reason = "two documents are most of it")]
fn comments_in_inline_lists_stay_with_what_they_are_about() {
    let head = "[[virtual_service]]\nvip = \"192.0.2.1\"\nport = 80\nprotocol = \"tcp\"\n";
    let text = format!(
        r#"{head}# The farm.
real_server = [ # in rack 2
    # The first.
    {{ address = "192.0.2.10", weight = 3 }}, # the old machine
    {{ address = "192.0.2.11" }} # the new one
    , # bought in May
    # In the cellar.
    # Loud.
    {{
        # Its own.
        address = "192.0.2.12", # not moved yet
        weight = 2 # heavy
        # For later.
    }}, # the last
    # {{ address = "192.0.2.13" }}, # comes in June
] # That is all.

# More.
[[virtual_service]]
vip = "192.0.2.2"
port = 80
protocol = "tcp"
real_server = [ # none yet
]
"#
    );
    config(&text);
    let edit_weight = Change::EditRealServer {
        service: service("tcp 192.0.2.1:80"),
        address: address("192.0.2.11"),
        settings: settings(json!({ "weight": 7 })),
    };
    let add = Change::AddRealServer {
        service: service("tcp 192.0.2.2:80"),
        address: address("192.0.2.10"),
        settings: Settings::new(),
    };
    let edited = apply(&text, &[edit_weight, add]).unwrap().text;
    let server = "[[virtual_service.real_server]]";
    let expected = format!(
        r#"{head}
# The farm.
# That is all.
# in rack 2
# The first.
{server} # the old machine
address = "192.0.2.10"
weight = 3

{server} # the new one # bought in May
address = "192.0.2.11"
weight = 7

# In the cellar.
# Loud.
{server} # the last
# Its own.
address = "192.0.2.12" # not moved yet
weight = 2 # heavy
# For later.
# {{ address = "192.0.2.13" }}, # comes in June

# More.
[[virtual_service]]
vip = "192.0.2.2"
port = 80
protocol = "tcp"

# none yet
{server}
address = "192.0.2.10"
"#
    );
    assert_eq!(edited, expected);
    let weights = |text: &str| state_of(text).into_iter().flat_map(|(.., servers)| servers).map(|(_, weight)| weight);
    assert_eq!(weights(&edited).collect::<Vec<_>>(), [3, 7, 2, 1]);
    // What is deleted takes its comments along; those of the others stay.
    let delete = Change::DeleteRealServer { service: service("tcp 192.0.2.1:80"), address: address("192.0.2.11") };
    let rest = apply(&text, &[delete]).unwrap().text;
    for (comment, stays) in
        [("old machine", true), ("new one", false), ("May", false), ("cellar", true), ("June", true)]
    {
        assert_eq!(rest.contains(comment), stays, "{comment}: {rest}");
    }
}

#[test]
fn a_list_of_services_keeps_its_comments_too() {
    let text = "virtual_service = [\n  # one\n  { vip = \"192.0.2.1\", port = 80, protocol = \"tcp\", real_server = [\n    { address = \"192.0.2.10\" }, # a\n    { address = \"192.0.2.11\" }, # b\n  ] }, # web\n]\n";
    let service = service("tcp 192.0.2.1:80");
    let timeout = Change::EditService { service, settings: settings(json!({ "tcp_timeout_s": 60 })) };
    let weight =
        Change::EditRealServer { service, address: address("192.0.2.11"), settings: settings(json!({ "weight": 7 })) };
    for changes in [vec![timeout.clone()], vec![weight.clone()], vec![timeout, weight]] {
        let edited = apply(text, &changes).unwrap().text;
        config(&edited);
        for comment in ["# one\n", "# a\n", "# b\n", "# web\n"] {
            assert_eq!(edited.matches(comment).count(), 1, "{comment}{edited}");
        }
    }
}

#[test]
fn nothing_is_changed_where_one_change_is_refused() {
    let web = service("tcp 192.0.2.1:80");
    let fine = Change::DeleteService { service: web };
    let error = |change: Change| apply(FILE, &[fine.clone(), change]).unwrap_err();
    for (change, said) in [
        (fine.clone(), "there is no virtual service tcp 192.0.2.1:80; add it first"),
        (
            Change::AddService { service: service("udp [2001:db8::1]:53"), settings: Settings::new() },
            "there is a virtual service udp [2001:db8::1]:53 already; edit it, or delete it first",
        ),
        (
            Change::AddRealServer {
                service: service("udp [2001:db8::1]:53"),
                address: address("2001:db8::a"),
                settings: Settings::new(),
            },
            "udp [2001:db8::1]:53 has a real server 2001:db8::a already; edit it, or delete it first",
        ),
        (
            Change::DeleteRealServer { service: service("udp [2001:db8::1]:53"), address: address("2001:db8::c") },
            "udp [2001:db8::1]:53 has no real server 2001:db8::c; add it first",
        ),
        (
            Change::EditService { service: service("udp [2001:db8::1]:53"), settings: settings(json!({ "port": 54 })) },
            "port is part of the name and cannot be changed; delete the old one and add a new one",
        ),
        (
            Change::EditService {
                service: service("udp [2001:db8::1]:53"),
                settings: settings(json!({ "table_size": u64::MAX })),
            },
            "table_size: the number is too large; use one below 2^63",
        ),
    ] {
        let refused = error(change);
        assert_eq!((refused.position, refused.to_string().as_str()), (1, said));
    }
}

#[test]
fn findings_are_led_back_to_their_change() {
    let web = service("tcp 192.0.2.1:80");
    let edited = apply(
        FILE,
        &[
            Change::Replace { document: FILE.to_owned() },
            Change::AddRealServer {
                service: service("udp [2001:db8::1]:53"),
                address: address("2001:db8::c"),
                settings: settings(json!({ "weight": -1 })),
            },
            Change::EditService {
                service: service("udp [2001:db8::1]:53"),
                settings: settings(json!({ "prot": "x" })),
            },
            Change::DeleteService { service: web },
        ],
    )
    .unwrap();
    let Err(ConfigError::Invalid { findings, .. }) = config::parse(&edited.text, "f") else {
        panic!("{}", edited.text)
    };
    let authors: Vec<_> = findings.iter().map(|finding| edited.author_of(&finding.key)).collect();
    assert_eq!(authors, [Some((2, "prot")), Some((1, "weight"))], "{findings:?}");
    assert_eq!(edited.author_of("director.secret"), None);
}

#[test]
fn a_whole_document_is_taken_as_it_is() {
    let text = " # odd\n[director]\n  secret='y'\n";
    let replace = Change::Replace { document: text.to_owned() };
    assert_eq!(edit(&[Change::Clear { keep_settings: false }, replace.clone()]), text);
    assert_eq!(config(&edit(&[replace, Change::Clear { keep_settings: false }])).director.secret.as_deref(), Some("y"));
    let broken = Change::Replace { document: "[[[".to_owned() };
    assert!(matches!(
        apply(FILE, &[broken, Change::Clear { keep_settings: false }]).unwrap_err().error,
        ChangeError::Document(_)
    ));
}

#[test]
fn clearing_keeps_the_rest() {
    let text = edit(&[Change::Clear { keep_settings: false }]);
    assert!(config(&text).virtual_services.is_empty());
    assert!(text.starts_with("# The web farm.\n[director]\nsecret = \"x\" # of all directors\n"), "{text}");
    assert!(text.ends_with("# The end.\n"), "{text}");
}

#[test]
fn keys_of_the_director_are_set_and_taken_away() {
    let change = |pairs| Change::EditDirector { settings: settings(pairs) };
    let text =
        edit(&[change(json!({ "tcp_timeout_s": 600, "udp_timeout_s": 60 })), change(json!({ "udp_timeout_s": null }))]);
    let director = config(&text).director;
    assert_eq!((director.tcp_timeout_s, director.udp_timeout_s), (600, 300));
    assert!(text.contains("secret = \"x\" # of all directors\n"), "{text}");
    for (start, expected) in [
        ("", "[director]\ntcp_timeout_s = 600\n"),
        ("[[interface]]\nname = \"eth0\"\n", "[director]\ntcp_timeout_s = 600\n[[interface]]\nname = \"eth0\"\n"),
        ("director = { secret = \"x\" }\n", "[director]\nsecret = \"x\"\ntcp_timeout_s = 600\n"),
    ] {
        let made = apply(start, &[change(json!({ "tcp_timeout_s": 600 }))]).unwrap();
        assert_eq!(made.text, expected);
        assert_eq!(made.author_of("director.tcp_timeout_s"), Some((0, "tcp_timeout_s")));
    }
    let no_table = apply("director = 5\n", &[change(json!({ "tcp_timeout_s": 600 }))]).unwrap_err().error;
    assert!(matches!(no_table, ChangeError::Value { .. }), "{no_table}");
}

/// Names from small sets, so that changes meet.
fn change() -> impl Strategy<Value = Change> {
    let services = ["tcp 192.0.2.1:80", "tcp 192.0.2.1:443", "udp 192.0.2.2:53", "tcp 192.0.2.3:0"];
    let service = prop::sample::select(services.to_vec()).prop_map(service);
    let address = (10u8..14).prop_map(|last| IpAddr::from([192, 0, 2, last]));
    let weight = prop::option::of(0u32..100).prop_map(|weight| settings(json!({ "weight": weight })));
    let timeout = prop::option::of(1u32..1000).prop_map(|timeout| settings(json!({ "tcp_timeout_s": timeout })));
    (service, address, weight, timeout, 0..13u8).prop_map(|(service, address, weight, timeout, kind)| match kind {
        0..3 => Change::AddService { service, settings: timeout },
        3 => Change::EditService { service, settings: timeout },
        4 => Change::DeleteService { service },
        5..9 => Change::AddRealServer { service, address, settings: weight },
        9 | 10 => Change::EditRealServer { service, address, settings: weight },
        11 => Change::DeleteRealServer { service, address },
        _ => Change::Clear { keep_settings: false },
    })
}

/// What is there, in order: name, timeout, real servers and their weights.
type Model = Vec<(ServiceKey, u32, Vec<(IpAddr, u32)>)>;

/// Whether the change can be made; if so the model is changed.
fn model(state: &mut Model, change: &Change) -> bool {
    let number = |settings: &Settings, key: &str| {
        settings.get(key).and_then(|value| value.as_u64()).map(|n| u32::try_from(n).unwrap())
    };
    let place = |state: &Model, wanted: &ServiceKey| state.iter().position(|(key, ..)| key == wanted);
    match change {
        Change::Replace { .. } | Change::EditDirector { .. } => false,
        Change::Clear { .. } => {
            state.clear();
            true
        }
        Change::AddService { service, settings } => {
            let free = place(state, service).is_none();
            if free {
                state.push((*service, number(settings, "tcp_timeout_s").unwrap_or(900), vec![]));
            }
            free
        }
        Change::EditService { service, settings } => {
            place(state, service).map(|at| state[at].1 = number(settings, "tcp_timeout_s").unwrap_or(900)).is_some()
        }
        Change::DeleteService { service } => place(state, service).map(|at| state.remove(at)).is_some(),
        Change::AddRealServer { service, address, settings } => {
            let Some(at) = place(state, service) else { return false };
            let free = state[at].2.iter().all(|(other, _)| other != address);
            if free {
                state[at].2.push((*address, number(settings, "weight").unwrap_or(1)));
            }
            free
        }
        Change::EditRealServer { service, address, settings } => {
            let Some(at) = place(state, service) else { return false };
            let found = state[at].2.iter_mut().find(|(other, _)| other == address);
            found.map(|server| server.1 = number(settings, "weight").unwrap_or(1)).is_some()
        }
        Change::DeleteRealServer { service, address } => {
            let Some(at) = place(state, service) else { return false };
            let before = state[at].2.len();
            state[at].2.retain(|(other, _)| other != address);
            state[at].2.len() < before
        }
    }
}

fn state_of(text: &str) -> Model {
    let servers = |service: &config::VirtualServiceConfig| {
        service.real_servers.iter().map(|server| (server.address, server.weight)).collect()
    };
    let services = config(text).virtual_services;
    services.iter().map(|service| (service.key, service.tcp_timeout_s, servers(service))).collect()
}

proptest! {
    /// One by one and all at once lead to the same, which is what the model says.
    #[test]
    fn changes_do_what_they_say(changes in prop::collection::vec(change(), 1..40)) {
        let start = "# top\n[director]\nsecret = \"x\" # tail\n\n[[interface]]\nname = \"eth0\"\n# bottom\n";
        let (mut text, mut expected, mut made) = (start.to_owned(), Model::new(), Vec::new());
        for change in changes {
            let possible = model(&mut expected, &change);
            match apply(&text, std::slice::from_ref(&change)) {
                Ok(edited) if possible => text = edited.text,
                Err(_) if !possible => continue,
                other => prop_assert!(false, "{change:?} of\n{text}\nis possible: {possible}, but {other:?}"),
            }
            made.push(change);
            prop_assert_eq!(&state_of(&text), &expected);
        }
        let at_once = apply(start, &made).unwrap().text;
        prop_assert_eq!(state_of(&at_once), expected);
        for comment in ["# top\n", "# tail\n", "# bottom\n"] {
            prop_assert!(text.contains(comment) && at_once.contains(comment), "{}", at_once);
        }
    }
}

#[test]
fn what_is_cleared_and_added_again_keeps_its_other_keys_if_that_is_asked_for() {
    let text = r#"[[virtual_service]]
vip = "192.168.88.15" # the web
port = 80
protocol = "tcp"
quorum = 2
fallback = { address = "192.168.88.9" }

[[virtual_service.health_check]]
kind = "tcp"

[[virtual_service.real_server]]
address = "192.168.88.100"
weight = 5
mac = "02:00:00:00:01:00"

[[virtual_service.real_server]]
address = "192.168.88.200"
mac = "02:00:00:00:02:00"
"#;
    let service: ServiceKey = "tcp 192.168.88.15:80".parse().unwrap();
    let settings = |pairs: serde_json::Value| pairs.as_object().unwrap().clone();
    let batch = |keep_settings| {
        [
            Change::Clear { keep_settings },
            Change::AddService { service, settings: settings(serde_json::json!({ "scheduler": "rr" })) },
            Change::AddRealServer {
                service,
                address: "192.168.88.100".parse().unwrap(),
                settings: settings(serde_json::json!({ "weight": 1 })),
            },
        ]
    };
    let kept = apply(text, &batch(true)).unwrap().text;
    for stays in ["# the web", "quorum = 2", "fallback", "health_check", "weight = 1", "02:00:00:00:01:00", "rr"] {
        assert!(kept.contains(stays), "{stays}: {kept}");
    }
    assert!(!kept.contains("192.168.88.200") && kept.matches("real_server").count() == 1, "{kept}");
    let anew = apply(text, &batch(false)).unwrap().text;
    assert!(!anew.contains("quorum") && !anew.contains("02:00:00:00:01:00"), "{anew}");
    // What is there twice is there twice, and what was deleted by name comes back bare.
    let twice = [&batch(true)[..], &batch(true)[1..2]].concat();
    assert!(matches!(apply(text, &twice).unwrap_err().error, ChangeError::ServiceExists(_)));
    let by_name = [&[Change::DeleteService { service }], &batch(true)[1..]].concat();
    assert!(!apply(text, &by_name).unwrap().text.contains("quorum"));
}
