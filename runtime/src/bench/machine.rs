//! What the system tells of processes, sockets and limits. Where it does not, figures are left out.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::backup::Address;

/// The server's process, if it runs on this machine and this one may look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
}

/// The processor time of a process so far, told in two ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    /// In hundredths of a second.
    ticks: Duration,
    /// To the nanosecond, without the threads that have ended.
    threads: Option<Duration>,
}

/// What `ticks` may be wrong by, twice.
const TICKS_ERROR: Duration = Duration::from_millis(20);

impl Cpu {
    /// How much it was since then.
    pub(super) fn since(self, earlier: Cpu) -> Duration {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        match (self.threads, earlier.threads) {
            // A thread that has ended took what it had with it.
            (Some(now), Some(then)) if now.saturating_sub(then) + TICKS_ERROR >= ticks => {
                now.saturating_sub(then)
            }
            _ => ticks,
        }
    }
}

impl Process {
    /// The process with this id, or the one that listens at this address of this machine.
    pub(super) fn find(pid: Option<u32>, address: &Address) -> Result<Option<Process>, String> {
        let Some(pid) = pid else { return Ok(listening_at(address)) };
        let process = Process { pid };
        match process.cpu() {
            Some(_) => Ok(Some(process)),
            None => Err(format!("there is no process {pid} that could be looked at")),
        }
    }

    /// The processor time that it has had.
    pub(super) fn cpu(self) -> Option<Cpu> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).ok();
        let threads = tasks.and_then(|tasks| {
            let mut sum = 0;
            for task in tasks.flatten() {
                // A thread may end right now.
                let Ok(told) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                sum += told.split_whitespace().next()?.parse::<u64>().ok()?;
            }
            (sum > 0).then(|| Duration::from_nanos(sum))
        });
        Some(Cpu { ticks: ticks_of(&stat)?, threads })
    }

    /// The memory that it takes right now, in bytes.
    pub(super) fn memory(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        memory_of(&status)
    }

    /// How many files it may have open.
    pub(super) fn files(self) -> Option<u64> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid)).ok()?;
        files_of(&limits)
    }
}

/// What the machine has done so far: figures of a machine that does other things beside are worth less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    server: Process,
    /// The time of all processors, and what of it they have worked.
    total: Duration,
    busy: Duration,
    /// What of that was for the server and this process.
    measured: Duration,
}

impl Usage {
    /// Of this machine, if the server is on it.
    pub(super) fn now(server: Option<Process>) -> Option<Usage> {
        let server = server?;
        let own = Process { pid: std::process::id() };
        let (total, busy) = usage_of(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Usage { server, total, busy, measured: server.cpu()?.ticks + own.cpu()?.ticks })
    }

    /// How much of the machine others have used since then, in percent.
    pub(super) fn of_others(self) -> Option<f64> {
        let now = Usage::now(Some(self.server))?;
        let measured = now.measured.saturating_sub(self.measured);
        let others = now.busy.saturating_sub(self.busy).saturating_sub(measured);
        Some(others.as_secs_f64() * 100.0 / now.total.checked_sub(self.total)?.as_secs_f64())
    }
}

/// The first line of `/proc/stat`, in hundredths of a second: the sum, and that without what was idle.
fn usage_of(stat: &str) -> Option<(Duration, Duration)> {
    // What guests use is in what their users use.
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    let (total, idle) = (ticks.iter().sum::<u64>(), ticks.get(3)? + ticks.get(4)?);
    Some((Duration::from_millis(total * 10), Duration::from_millis((total - idle) * 10)))
}

/// Fields 14 and 15 of a process's stat line, in hundredths of a second.
fn ticks_of(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis((fields.next()?? + fields.next()??) * 10))
}

fn memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn files_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

/// The process that listens at an address of this machine's loopback.
fn listening_at(address: &Address) -> Option<Process> {
    let at = address.lookup().to_socket_addrs().ok()?.next()?;
    if !at.ip().to_canonical().is_loopback() {
        return None;
    }
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners_of(&table, at.ip(), at.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut found = None;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if has_one_of(&process.path(), &sockets) {
            // Two that share the port: there is no telling which one it is.
            if found.is_some() {
                return None;
            }
            found = Some(Process { pid });
        }
    }
    found
}

fn has_one_of(process: &Path, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| {
        let target = fs::read_link(file.path()).unwrap_or_default();
        sockets.iter().any(|socket| Path::new(socket) == target)
    })
}

/// The inodes of the sockets that listen on this port: at this address, or at all of them.
fn listeners_of(table: &str, ip: IpAddr, port: u16) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let hex = |ip: IpAddr| -> String {
        let words = |bytes: &[u8]| -> String {
            let words = bytes.chunks(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            words.map(|word| format!("{word:08X}")).collect()
        };
        match ip {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        }
    };
    let mut here = vec![hex(ip), "0".repeat(8), "0".repeat(32)];
    if let IpAddr::V4(ip) = ip {
        here.push(hex(ip.to_ipv6_mapped().into()));
    }
    let lines = table.lines().skip(1);
    let listeners = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (at, at_port) = fields.get(1)?.split_once(':')?;
        let matches = *fields.get(3)? == LISTENING
            && u16::from_str_radix(at_port, 16) == Ok(port)
            && here.iter().any(|here| here == at);
        matches.then(|| fields.get(9)?.parse().ok()).flatten()
    });
    listeners.collect()
}

/// The processor time of this thread.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 12 34 0 0 20 0 9 0 1 1 1";
        assert_eq!(ticks_of(stat), Some(Duration::from_millis(460)));
        assert_eq!(memory_of("Name:\ta\nVmRSS:\t    12 kB\n"), Some(12 << 10));
        let usage = usage_of("cpu  10 0 20 50 5 1 2 3 10 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        assert_eq!(usage, Some((Duration::from_millis(910), Duration::from_millis(360))));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   20000   files\n";
        assert_eq!(files_of(limits), Some(1024));
    }

    #[test]
    fn whoever_listens_at_an_address_of_this_machine_is_found() {
        for host in ["127.0.0.1", "0.0.0.0", "[::]"] {
            let Ok(listener) = TcpListener::bind(format!("{host}:0")) else { continue };
            let port = listener.local_addr().expect("it listens").port();
            let address = Address::parse(&format!("ws://127.0.0.1:{port}"), None).expect("an address");
            let found = Process::find(None, &address).expect("nothing was asked for").expect("this process");
            assert_eq!(found.pid, std::process::id(), "{host}");
            assert!(found.cpu().is_some() && found.memory() > Some(0) && found.files() > Some(0));
        }
        let nobody =
            Process::find(Some(u32::MAX), &Address::parse("ws://127.0.0.1:1", None).expect("an address"));
        assert!(nobody.is_err());
    }

    #[test]
    fn threads_that_have_ended_are_not_forgotten() {
        let cpu = |ticks, threads| Cpu {
            ticks: Duration::from_millis(ticks),
            threads: Some(Duration::from_millis(threads)),
        };
        assert_eq!(cpu(1_010, 2_003).since(cpu(1_000, 2_000)), Duration::from_millis(3));
        assert_eq!(cpu(1_500, 1_900).since(cpu(1_000, 2_000)), Duration::from_millis(500));
    }
}
