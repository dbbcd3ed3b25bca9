//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NetConfig;

/// Files that are no connections: the store's, the ports', and those of connections that are being refused. A quarter of
/// all, within these bounds.
const OTHERS: (u64, u64) = (32, 256);

/// Lets this process open as many files as it may, and says how many that are.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // What is refused is as before.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

/// Lowers the bounds of connections to what there are files for. At the bound, who comes is told so, and those who are
/// there live on; without files, nobody could be told, and the store could not go on to its next one.
pub fn fit(net: &mut NetConfig, files: u64) {
    let others = (files / 4).clamp(OTHERS.0, OTHERS.1);
    let connections = usize::try_from(files.saturating_sub(others)).unwrap_or(usize::MAX).max(4);
    if net.worker_connections.saturating_add(net.stream_connections) > connections {
        let workers = net.worker_connections;
        net.worker_connections = workers.min(connections / 4);
        net.stream_connections = net.stream_connections.min(connections - net.worker_connections);
        net.worker_connections = workers.min(connections - net.stream_connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(workers: usize, subscribers: usize, files: u64) -> (usize, usize) {
        let mut net = NetConfig {
            worker_connections: workers,
            stream_connections: subscribers,
            ..NetConfig::default()
        };
        fit(&mut net, files);
        (net.worker_connections, net.stream_connections)
    }

    #[test]
    fn there_are_never_more_connections_than_files_for_them() {
        assert_eq!(fitted(10, 100, 1_000_000), (10, 100));
        assert_eq!(fitted(10_000, 100_000, u64::MAX), (10_000, 100_000));
        assert_eq!(fitted(10_000, 100_000, 1_256), (250, 750));
        assert_eq!(fitted(10, 100_000, 1_256), (10, 990));
        assert_eq!(fitted(10_000, 10, 1_256), (990, 10));
        assert_eq!(fitted(900, 200, 1_256), (800, 200));
        assert_eq!(fitted(10_000, 100_000, 256), (48, 144));
        assert_eq!(fitted(10_000, 100_000, 0), (1, 3));
    }
}
