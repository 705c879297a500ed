//! What the broker's processes use: processor time and memory, read from `/proc`.
//!
//! A process counts with all its children: what starts RabbitMQ is a script, and the broker itself
//! is a child of it. The processor time is what has been used between two looks by the processes
//! that both have seen.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::param::{clock_ticks_per_second, page_size};

use crate::schedule::approximate;

/// One look at some processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    processes: BTreeMap<u32, Process>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
    resident_pages: u64,
}

/// What was used between two looks, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Used {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
}

impl Used {
    /// User and system time.
    pub(crate) fn seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

impl Look {
    /// Looks at these processes and their children.
    ///
    /// # Errors
    /// If there is no such process.
    pub(crate) fn at(pids: &[u32]) -> Result<Look> {
        if pids.is_empty() {
            return Ok(Look::default());
        }
        let mut all = BTreeMap::new();
        let entries = fs::read_dir("/proc").context("cannot read /proc")?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end between the two.
            let stat = fs::read_to_string(entry.path().join("stat"));
            if let Some(process) = stat.ok().as_deref().and_then(Process::parse) {
                all.insert(pid, process);
            }
        }
        for pid in pids {
            ensure!(all.contains_key(pid), "there is no process {pid}");
        }
        all.retain({
            let parents: BTreeMap<u32, u32> = all.iter().map(|(p, of)| (*p, of.parent)).collect();
            move |pid, _| descends(*pid, pids, &parents)
        });
        Ok(Look { processes: all })
    }

    /// What was used since an earlier look.
    pub(crate) fn since(&self, earlier: &Look) -> Used {
        let tick = 1.0 / approximate(clock_ticks_per_second());
        let mut used = Used::default();
        for (pid, process) in &self.processes {
            if let Some(before) = earlier.processes.get(pid) {
                let user = process.user_ticks.saturating_sub(before.user_ticks);
                let system = process.system_ticks.saturating_sub(before.system_ticks);
                used.user_seconds += approximate(user) * tick;
                used.system_seconds += approximate(system) * tick;
            }
        }
        used
    }

    /// Memory that the processes have in use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pages: u64 = self.processes.values().map(|p| p.resident_pages).sum();
        pages * page_size() as u64
    }
}

/// Whether a process is one of these or comes from one of them.
fn descends(pid: u32, pids: &[u32], parents: &BTreeMap<u32, u32>) -> bool {
    let mut pid = pid;
    // A chain of parents ends at 0; the bound is for numbers that were used again meanwhile.
    for _ in 0..parents.len() {
        if pids.contains(&pid) {
            return true;
        }
        match parents.get(&pid) {
            Some(parent) => pid = *parent,
            None => return false,
        }
    }
    false
}

impl Process {
    /// Reads a line of `/proc/PID/stat`. The name, in parentheses, may contain anything.
    fn parse(stat: &str) -> Option<Process> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the state, field 3, comes first here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Process {
            parent: u32::try_from(field(4)?).ok()?,
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 99 1000 321 1";
        let process = Process {
            parent: 7,
            user_ticks: 150,
            system_ticks: 25,
            resident_pages: 321,
        };
        assert_eq!(Process::parse(stat), Some(process));
        assert_eq!(Process::parse("42 (cut) S 7"), None);
    }

    #[test]
    fn children_belong_to_their_parents() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 30)]);
        let of_ten = |pid| descends(pid, &[10], &parents);
        assert!(of_ten(10) && of_ten(11) && of_ten(12));
        assert!(!of_ten(1) && !of_ten(20) && !of_ten(30) && !of_ten(99));
    }

    #[test]
    fn own_process_uses_time_and_memory() {
        let own = [std::process::id()];
        let before = Look::at(&own).expect("we are there");
        let mut sum = 0_u64;
        let begin = crate::clock::process_time();
        while crate::clock::process_time() < begin + 50_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        let after = Look::at(&own).expect("we are there");
        assert!(after.since(&before).seconds() >= 0.02);
        assert!(after.resident_bytes() > 100_000);
        assert!(Look::at(&[u32::MAX]).is_err());
    }
}
