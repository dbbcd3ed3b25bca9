//! What happened in a world: everything that its clients sent and got, as decoded messages with times, and, where a world
//! can tell, what the server did about it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, in simulated milliseconds since the world began.
    pub at: u64,
    /// To whom.
    pub who: Who,
    /// What.
    pub what: What,
}

/// One of a client's connections, or the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The client's name.
    pub client: Arc<str>,
    /// The number of its connection: 1, 2, 3, … A client has one at a time; 0 is the server.
    pub connection: u64,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The client has a new connection, made with this path and query.
    Connected(String),
    /// The client knows that its connection is gone. It gets nothing more from it.
    Lost,
    /// The client sent a message.
    Sent(Value),
    /// The client got a message.
    Got(Value),
    /// The server knows of the connection. From here to [`What::Gone`] only worlds of the core can tell.
    Opened,
    /// The server has taken this message of the client's. Messages are taken in the order in which they were sent; what
    /// was sent and is not taken when the connection goes is lost.
    Took(Value),
    /// The server has this message for the client: it waits to be sent, and is dropped only by an overflow or with the
    /// connection. What is queued at the same moment as what led to it follows that without anything between.
    Queued(Value),
    /// Too much waits for the client, and all events and syncs among it are dropped.
    Overflowed,
    /// What was left then is sent, and the client is served again.
    Resumed,
    /// The server knows that the connection is gone.
    Gone,
    /// The server stopped dead.
    Crashed(Loss),
    /// The server was started again.
    Restarted,
    /// The server is told to stop in good order; for people, how.
    Stops(String),
    /// The server stopped in good order.
    Stopped,
    /// An operation of the server's disk has failed. Worlds of the whole server don't tell.
    DiskFailed,
    /// The server told its operator something that ought not to happen.
    Complained(String),
    /// From here on there are no faults.
    Healed,
    /// The world does something that no client sees; for people.
    Did(String),
}

/// What goes with a server that stops dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process alone: the disk will get what it wrote.
    Process,
    /// The machine's power: what was not synced may be lost.
    Power,
}

/// All that happened, in order.
pub type Trace = Vec<Entry>;

impl Who {
    /// A connection of a client.
    pub fn new(client: &str, connection: u64) -> Who {
        Who { client: client.into(), connection }
    }

    /// The server.
    pub fn server() -> Who {
        Who::new("server", 0)
    }
}

/// Where clients write down what happens to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Rc<RefCell<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    trace: Trace,
    /// How many connections each client has had.
    connections: BTreeMap<Arc<str>, u64>,
}

impl Recorder {
    /// Writes down what happened at `at`.
    pub(crate) fn note_at(&self, at: u64, who: &Who, what: What) {
        self.0.borrow_mut().trace.push(Entry { at, who: who.clone(), what });
    }

    /// Writes down what happens now to a client in a simulation.
    pub(crate) fn note(&self, who: &Who, what: What) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.note_at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), who, what);
    }

    /// Writes down that a client has a new connection; its name.
    pub(crate) fn connected(&self, client: &str, path: &str) -> Who {
        let client: Arc<str> = client.into();
        let connection = {
            let mut recorded = self.0.borrow_mut();
            let count = recorded.connections.entry(Arc::clone(&client)).or_default();
            *count += 1;
            *count
        };
        let who = Who { client, connection };
        self.note(&who, What::Connected(path.to_owned()));
        who
    }

    /// All that was written down.
    pub(crate) fn take(&self) -> Trace {
        self.0.take().trace
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            0 => f.write_str(&self.client),
            connection => write!(f, "{}#{connection}", self.client),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:<14} ", self.at, self.who.to_string())?;
        match &self.what {
            What::Connected(path) => write!(f, "connected to {path}"),
            What::Lost => f.write_str("lost its connection"),
            What::Sent(message) => write!(f, "-> {message}"),
            What::Got(message) => write!(f, "<- {message}"),
            What::Opened => f.write_str("is known to the server"),
            What::Took(message) => write!(f, "-> server {message}"),
            What::Queued(message) => write!(f, "<- server {message}"),
            What::Overflowed => f.write_str("is too slow: what waited for it is dropped"),
            What::Resumed => f.write_str("is served again"),
            What::Gone => f.write_str("is gone for the server"),
            What::Crashed(Loss::Process) => f.write_str("is killed"),
            What::Crashed(Loss::Power) => f.write_str("loses its power"),
            What::Restarted => f.write_str("starts"),
            What::Stops(how) => f.write_str(how),
            What::Stopped => f.write_str("has stopped"),
            What::DiskFailed => f.write_str("has a failing disk"),
            What::Complained(what) => write!(f, "complains: {what}"),
            What::Healed => f.write_str("no faults from here on"),
            What::Did(what) => f.write_str(what),
        }
    }
}
