//! What scripts/real-server leaves for the next boot, what it refuses, and what it takes back. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use lab::{Host, Lab, Shape};

const UNIT: &str = "etc/systemd/system/pointsman-real-server.service";

fn root(lab: &Lab) -> PathBuf {
    lab.scratch().join("root")
}

fn real_server(lab: &Lab, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/real-server");
    let mut command = lab.command(Host::Web1, script);
    command.arg("--state").arg(lab.scratch().join("state")).arg("--root").arg(root(lab));
    command.args(arguments).output().unwrap()
}

fn must(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// That it ends with 1 and says this.
fn fails(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(words), "{output:?}");
}

/// The VIPs that the unit would put on lo.
fn at_boot(lab: &Lab) -> Vec<String> {
    let unit = fs::read_to_string(root(lab).join(UNIT)).unwrap_or_default();
    let starts = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=ip address replace "));
    starts.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn the_unit_has_all_persistent_vips_of_all_runs_and_loses_those_that_are_undone() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let [v4, v6] = ["192.168.88.16", "fd00:88::16"];
    let [at_v4, at_v6] = [format!("{v4}/32"), format!("{v6}/128")];
    let mut before = None;
    for (first, second, left) in [(v4, v6, &at_v6), (v6, v4, &at_v4)] {
        let addresses = lab.ip(Host::Web1, "-brief address show");
        assert_eq!(*before.get_or_insert(addresses.clone()), addresses);
        must(&real_server(&lab, &["--persistent", v4]));
        must(&real_server(&lab, &["--persistent", v6]));
        must(&real_server(&lab, &["192.168.88.17"]));
        assert_eq!(at_boot(&lab), [at_v4.clone(), at_v6.clone()]);
        must(&real_server(&lab, &["--undo", first]));
        assert_eq!(at_boot(&lab), std::slice::from_ref(left));
        must(&real_server(&lab, &["--undo", second]));
        assert!(!root(&lab).join(UNIT).exists(), "no persistent one is left");
        assert!(lab.ip(Host::Web1, "address show dev lo").contains("192.168.88.17/32"));
        must(&real_server(&lab, &["--undo"]));
        assert!(!lab.scratch().join("state").exists());
    }
}

#[test]
fn a_vip_is_known_by_any_spelling_and_one_that_was_not_prepared_is_named() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    must(&real_server(&lab, &["fd00:88::16"]));
    assert_eq!(must(&real_server(&lab, &["FD00:88:0::0016"])), "", "a second run does nothing");
    fails(&real_server(&lab, &["--undo", "fd00:88::17"]), "fd00:88::17 was not prepared by this script");
    must(&real_server(&lab, &["--undo", "FD00:88:0:0:0::16"]));
    assert!(!lab.ip(Host::Web1, "address show dev lo").contains("fd00:88::16"));
    for wrong in ["127.0.0.1", "::1", "192.168.088.16"] {
        assert_eq!(real_server(&lab, &[wrong]).status.code(), Some(2), "{wrong}");
    }
    // One that was there before stays, and its settings do while it counts as prepared.
    let settings = || lab.on(Host::Web1, || fs::read_to_string("/proc/sys/net/ipv4/conf/lo/arp_ignore")).unwrap();
    lab.on(Host::Web1, || fs::write("/proc/sys/net/ipv4/conf/lo/arp_ignore", "0")).unwrap();
    must(&real_server(&lab, &["192.168.88.15", "192.168.88.16"]));
    must(&real_server(&lab, &["--undo", "192.168.88.16"]));
    assert_eq!(settings(), "1\n");
    must(&real_server(&lab, &["--undo", "192.168.88.15"]));
    assert_eq!(settings(), "0\n");
    assert!(lab.ip(Host::Web1, "address show dev lo").contains("192.168.88.15/32"));
}

#[test]
fn a_subnet_on_lo_is_refused_and_an_interface_that_is_gone_does_not_stop_an_undo() {
    let Some(lab) = Lab::up(Shape::default()) else { return };
    let before = lab.ip(Host::Web1, "-brief address show");
    for (vip, subnet) in [("192.168.99.15", "192.168.99.15/24"), ("fd00:99::15", "fd00:99::15/64")] {
        lab.ip(Host::Web1, &format!("address add {subnet} dev lo"));
        fails(&real_server(&lab, &[vip]), &format!("ip address del {subnet} dev lo"));
        lab.ip(Host::Web1, &format!("address del {subnet} dev lo"));
    }
    lab.ip(Host::Web1, "link add gone type veth peer name gone-too");
    lab.ip(Host::Web1, "address add 192.168.99.15/32 dev gone");
    must(&real_server(&lab, &["192.168.99.15", "192.168.99.16"]));
    lab.ip(Host::Web1, "link del gone");
    let undone = real_server(&lab, &["--undo"]);
    must(&undone);
    assert!(String::from_utf8_lossy(&undone.stderr).contains("there is no such interface any more"), "{undone:?}");
    assert_eq!(lab.ip(Host::Web1, "-brief address show"), before);
    assert!(!lab.scratch().join("state").exists());
}
