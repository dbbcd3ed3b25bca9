//! What happened in a world, as its clients saw it.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde_json::Value;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, in simulated milliseconds.
    pub at: u64,
    /// To whom.
    pub who: String,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A client has a new connection.
    Connected,
    /// The client's connection is gone.
    Lost,
    /// The client sent a message.
    Sent(Value),
    /// The client got a message.
    Got(Value),
    /// The server stopped dead.
    Crashed,
    /// The server was started again.
    Restarted,
}

/// All that happened, in order.
pub type Trace = Vec<Entry>;

/// Where clients write down what happens to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Rc<RefCell<Trace>>);

impl Recorder {
    /// Writes down what happened at `at`.
    pub(crate) fn note_at(&self, at: u64, who: &str, what: What) {
        self.0.borrow_mut().push(Entry { at, who: who.to_owned(), what });
    }

    /// Writes down what happens now to a client in a simulation.
    pub(crate) fn note(&self, who: &str, what: What) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.note_at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), who, what);
    }

    /// All that was written down.
    pub(crate) fn take(&self) -> Trace {
        self.0.take()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:<12} ", self.at, self.who)?;
        match &self.what {
            What::Connected => f.write_str("connected"),
            What::Lost => f.write_str("lost its connection"),
            What::Sent(message) => write!(f, "-> {message}"),
            What::Got(message) => write!(f, "<- {message}"),
            What::Crashed => f.write_str("crashes"),
            What::Restarted => f.write_str("starts"),
        }
    }
}
