//! Manual pages and completions, read by the programs that they are for. One that is missing is said by its name.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use program::{Workspace, run};

fn is_there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !found {
        // Not by eprintln!, which the test runner captures.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {program} is not installed");
        assert!(
            std::env::var_os("CI").is_none(),
            "CI is set, but {program} is missing: scripts/install-deps brings it"
        );
    }
    found
}

fn pages(workspace: &Workspace) -> BTreeSet<String> {
    let said = run(["man", "--dir", workspace.directory().to_str().unwrap()]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""));
    fs::read_dir(workspace.directory()).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect()
}

/// Subcommands of subcommands as well, by what `--help` lists.
fn subcommands(above: &[String]) -> Vec<Vec<String>> {
    let words = above.iter().map(String::as_str).chain(["--help"]);
    let help = run(words).out;
    let mut all = vec![above.to_vec()];
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        // `ipvs` has ipvsadm's help, which calls its options commands.
        if name != "help" && !name.starts_with('-') {
            all.extend(subcommands(&[above, &[name.to_owned()]].concat()));
        }
    }
    all
}

#[test]
fn every_subcommand_has_a_page_that_groff_takes_without_a_warning() {
    let workspace = Workspace::new();
    let pages = pages(&workspace);
    let commands = subcommands(&[]);
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let page = format!("pointsman{}.1", command.iter().map(|word| format!("-{word}")).collect::<String>());
        assert!(pages.contains(&page), "{page}: {pages:?}");
    }
    assert!(pages.contains("pointsman.toml.5"), "{pages:?}");
    if is_there("groff") {
        for page in &pages {
            let output =
                Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(workspace.path(page)).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{page}: {output:?}");
        }
    }
}

#[test]
fn the_page_of_the_configuration_has_every_key() {
    let workspace = Workspace::new();
    pages(&workspace);
    let page = fs::read_to_string(workspace.path("pointsman.toml.5")).unwrap();
    for key in pointsman::config::accepted_keys() {
        assert!(page.contains(key.name), "{}", key.name);
    }
    assert!(!page.contains("](") && !page.contains("**"), "no Markdown is left");
}

#[test]
fn shells_take_their_completions_and_complete() {
    let workspace = Workspace::new();
    for (shell, file) in [("bash", "pointsman"), ("zsh", "_pointsman"), ("fish", "pointsman.fish")] {
        let said = run(["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{shell}");
        workspace.file(file, said.out);
    }
    let directory = workspace.directory();
    if is_there("bash") {
        let script = "source ./pointsman && COMP_WORDS=(pointsman ru) COMP_CWORD=1 && _pointsman pointsman ru pointsman \
                      && echo ${COMPREPLY[@]}";
        assert_eq!(said_by(directory, "bash", &["--norc", "-c", script]), "run\n");
    }
    if is_there("zsh") {
        // The completion's function is called by zsh's own editor alone; that it is made and known is seen here.
        let script = "fpath=($PWD $fpath); autoload -U compinit && compinit -u -D && print $_comps[pointsman]";
        assert_eq!(said_by(directory, "zsh", &["-f", "-c", script]), "_pointsman\n");
        assert_eq!(said_by(directory, "zsh", &["-n", "_pointsman"]), "");
    }
    if is_there("fish") {
        let script = "source pointsman.fish; complete --do-complete 'pointsman ru' | string split -f1 \\t";
        assert_eq!(said_by(directory, "fish", &["--no-config", "-c", script]), "run\n");
    }
}

fn said_by(directory: &Path, shell: &str, arguments: &[&str]) -> String {
    let output = Command::new(shell).args(arguments).current_dir(directory).env("HOME", directory).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
