//! How much memory the process may use.

use std::fs;

/// The machine's memory, or less if a control group allows less; `None` if the system does not tell.
pub(crate) fn bytes() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

/// The first line of `/proc/meminfo`, `MemTotal:  24689764 kB`.
fn total_of(meminfo: &str) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_its_memory_in_kilobytes() {
        assert_eq!(total_of("MemTotal:       24689764 kB\nMemFree:        1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(total_of("MemTotal:       many kB\n"), None);
        assert_eq!(total_of(""), None);
    }
}
