//! The machine's floor for fan-out: one `write` of a prepared frame for each delivery, over as many loopback sockets,
//! at the same pace, from one thread to the readers that the server has, too.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::BenchError;
use super::clock::Moment;
use super::crowd::{AT_ONCE, Crowd, Groups, Plan, Seen};
use super::machine::thread_cpu;
use super::value::{Mark, Space, put_value};
use super::websocket::{ACCEPT, put_server_text};
use crate::backup::Address;

/// What is to be delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) subscribers: usize,
    pub(super) writes: u64,
    /// Between two writes.
    pub(super) pause: Duration,
    /// How long the text of a delivery is.
    pub(super) frame_bytes: usize,
}

/// What it takes the machine.
pub(super) struct Floor {
    pub(super) seen: Seen,
    /// The processor time of the thread that writes.
    pub(super) cpu: Duration,
}

/// How long a socket may not move.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures it.
pub(super) async fn measure(load: Load) -> Result<Floor, BenchError> {
    let failed = |error: io::Error| BenchError::Machine(format!("the floor can't be measured: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let space = Space { stream: "floor".to_owned(), groups: 1, items: 1 };
    let (begin, begun) = mpsc::channel();
    let (done, finished) = tokio::sync::oneshot::channel();
    let wanted = space.clone();
    std::thread::Builder::new()
        .name("floor".to_owned())
        .spawn(move || {
            // Whoever waits for it may have given up.
            let _ = done.send(serve(&listener, load, &wanted, &begun));
        })
        .map_err(failed)?;
    let streams = Address::parse(&format!("ws://127.0.0.1:{port}"), None)
        .map_err(|error| BenchError::Machine(error.to_string()))?;
    let plan = Plan {
        streams,
        space,
        members: load.subscribers,
        groups: Groups::One(0),
        first: 0,
        items: 0,
        at_once: AT_ONCE,
    };
    let crowd = Crowd::start(plan)?;
    crowd.joined().await?;
    let _ = begin.send(());
    let ended = finished.await.map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?;
    let (cpu, sockets) = ended.map_err(failed)?;
    crowd.delivered(load.writes * load.subscribers as u64).await;
    let seen = crowd.leave(load.writes).await?;
    drop(sockets);
    Ok(Floor { seen, cpu })
}

/// Serves that many subscribers, and gives the processor time that the deliveries took.
fn serve(
    listener: &TcpListener,
    load: Load,
    space: &Space,
    begun: &mpsc::Receiver<()>,
) -> io::Result<(Duration, Vec<TcpStream>)> {
    let mut sockets = Vec::with_capacity(load.subscribers);
    for _ in 0..load.subscribers {
        sockets.push(join(listener.accept()?.0, space)?);
    }
    begun.recv_timeout(PATIENCE).map_err(io::Error::other)?;
    let before = thread_cpu();
    let start = Instant::now();
    let (mut text, mut frame) = (Vec::new(), Vec::new());
    for number in 0..load.writes {
        let due = load.pause.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        if let Some(early) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(early);
        }
        put_change(&mut text, space, number, load.frame_bytes);
        frame.clear();
        put_server_text(&mut frame, &text);
        for socket in &mut sockets {
            socket.write_all(&frame)?;
        }
    }
    Ok((thread_cpu().saturating_sub(before), sockets))
}

/// Lets a subscriber in.
fn join(mut socket: TcpStream, space: &Space) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut received = Vec::new();
    // A request ends with an empty line; the join that follows the answer is one frame, which comes in one piece.
    while !received.ends_with(b"\r\n\r\n") {
        read(&mut socket, &mut received)?;
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes())?;
    read(&mut socket, &mut received)?;
    let sync = format!(
        r#"{{"type":"stream","timestamp":0,"streamName":"{}","groupId":"g0","id":null,"event":{{"type":"sync","data":[]}}}}"#,
        space.stream
    );
    let mut frame = Vec::new();
    put_server_text(&mut frame, sync.as_bytes());
    socket.write_all(&frame)?;
    Ok(socket)
}

fn read(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 1024];
    match socket.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => {
            received.extend_from_slice(&chunk[..len]);
            Ok(())
        }
    }
}

/// The text of a change, as long as those of the server.
fn put_change(text: &mut Vec<u8>, space: &Space, number: u64, bytes: usize) {
    const END: &[u8] = b"}}";
    text.clear();
    let _ = write!(
        text,
        r#"{{"type":"stream","timestamp":0,"streamName":"{}","groupId":"g0","id":"i0","event":{{"type":"update","data":"#,
        space.stream
    );
    let rest = bytes.saturating_sub(text.len() + END.len());
    put_value(text, 0, Mark { number, sent: Moment::now() }, rest);
    text.extend_from_slice(END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_floor_delivers_everything_at_its_pace() {
        let load = Load { subscribers: 5, writes: 20, pause: Duration::from_millis(1), frame_bytes: 300 };
        let Floor { seen, cpu } = measure(load).await.expect("loopback works");
        assert!(!seen.faults.any(), "{:?}", seen.faults);
        assert_eq!((seen.delivered, seen.frame_bytes(), seen.times.count()), (100, 300, 100));
        assert!(cpu > Duration::ZERO);
    }
}
