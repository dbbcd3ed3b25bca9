//! The real machine.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use headwater_core::time::{Mono, Now, WallMs};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{Listener, Platform};
use crate::store::Folder;

/// Tokio's sockets and tasks, the system's clocks and randomness, a folder on disk.
#[derive(Clone, Debug)]
pub struct System {
    started: Instant,
}

impl System {
    /// Starts the monotonic clock.
    pub fn new() -> System {
        System { started: Instant::now() }
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}

impl Platform for System {
    type Listener = TcpListener;
    type Disk = Folder;

    fn now(&self) -> Now {
        // A clock before 1970 reads as 1970: timestamps then count up from there.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(millis(self.started.elapsed())), wall: WallMs(millis(wall)) }
    }

    fn entropy(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        bytes
    }

    async fn bind(&self, host: &str, port: u16) -> io::Result<TcpListener> {
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host((host, port)).await? {
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(refused) => error = refused,
            }
        }
        Err(error)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn spawn_thread(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(task))?;
        Ok(())
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Frames are small and answered at once: waiting to fill a packet only adds latency.
        // It fails only for a peer that is gone already; the handshake finds that out.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// Connections that wait to be accepted: as many as the system lets wait. When a server comes back, all its clients do.
const BACKLOG: u32 = i32::MAX as u32;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
