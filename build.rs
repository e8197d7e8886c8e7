//! Compiles the BPF programs in `bpf/` with clang; `src/xdp/object.rs` embeds the results.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

const PROGRAMS: [&str; 4] = ["redirect", "redirect_errors", "mark", "softirq"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    for program in PROGRAMS {
        if let Err(message) = compile(program) {
            // Cargo fails the build and shows these lines, and no back trace.
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            return;
        }
    }
}

fn compile(program: &str) -> Result<(), String> {
    let source = Path::new("bpf").join(format!("{program}.bpf.c"));
    let output = PathBuf::from(variable("OUT_DIR")?).join(format!("{program}.bpf.o"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let target = if variable("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };

    let result = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", target])
        // bpf/bpf_helpers.h, of the libbpf that is linked in.
        .arg(format!("-I{}", variable("DEP_BPF_INCLUDE")?))
        // asm/types.h: Debian and Ubuntu keep it in a directory per architecture, where clang does not look for BPF.
        .arg(format!("-I/usr/include/{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?))
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&output)
        .output();
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "{clang:?} is not installed, and the XDP program is compiled with it: apt-get install clang libelf-dev"
        )),
        Err(error) => Err(format!("{clang:?} could not be started: {error}")),
        Ok(result) if result.status.success() => Ok(()),
        Ok(result) => Err(format!(
            "{clang:?} could not compile {}:\n{}",
            source.display(),
            String::from_utf8_lossy(&result.stderr)
        )),
    }
}

fn variable(name: &str) -> Result<String, String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).map_err(|error| format!("the variable {name}, which cargo sets: {error}"))
}
