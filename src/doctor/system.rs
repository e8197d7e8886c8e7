//! Files of /proc and /sys, below a root that tests put in place of `/`.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Where /proc and /sys are.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// Below `root`; `/` is this machine.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A file's text without the white space around it, if it can be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one value.
    pub(super) fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A file that holds a list of CPUs; empty where there is none.
    pub(super) fn cpus(&self, path: &str) -> Vec<usize> {
        self.text(path).map(|text| cpu_list(&text)).unwrap_or_default()
    }

    /// The names in a directory; none where it is not there.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// The most CPUs that a list is read for.
const MAX_CPUS: usize = 1 << 16;

/// Reads a list of CPUs as the kernel writes them: `0-3,8`. What is no number is passed over.
pub fn cpu_list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(MAX_CPUS))
    });
    ranges.flatten().collect()
}

/// A list of CPUs as the kernel writes them.
pub(super) fn show_cpus(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let shown = parts.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_cpus() {
        for (text, cpus) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-2,5\n", vec![0, 1, 2, 5]),
            ("x,3", vec![3]),
            ("4-2", vec![]),
            ("(null)", vec![]),
        ] {
            assert_eq!(cpu_list(text), cpus, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_list_that_is_shown_reads_back(cpus in prop::collection::btree_set(0..500_usize, 0..40)) {
            let cpus: Vec<usize> = cpus.into_iter().collect();
            prop_assert_eq!(cpu_list(&show_cpus(&cpus)), cpus);
        }

        #[test]
        fn any_text_ends(text in ".{0,60}") {
            let _ = cpu_list(&text);
        }
    }
}
