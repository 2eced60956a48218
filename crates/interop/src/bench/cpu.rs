//! What daemons cost: processor time of all their threads, and memory.

use std::fs;

/// Processor time in nanoseconds, as the scheduler has charged it, of all threads that live now.
pub(super) fn nanos(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(of_thread).sum()
}

/// Resident memory in KiB: now, and at most so far.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

/// What the machine did and what was stolen from it so far, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    busy: u64,
    stolen: u64,
}

impl Machine {
    pub(super) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let tick = |at: usize| ticks.get(at).copied().unwrap_or(0);
        Self {
            // user, nice, system, irq, softirq
            busy: tick(0) + tick(1) + tick(2) + tick(5) + tick(6),
            stolen: tick(7),
        }
    }

    /// The part of what the scheduler charged since `before` that was really had.
    pub(super) fn had_since(self, before: Self) -> f64 {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let stolen = self.stolen.saturating_sub(before.stolen) as f64;
        if busy + stolen == 0.0 {
            return 1.0;
        }
        busy / (busy + stolen)
    }
}
