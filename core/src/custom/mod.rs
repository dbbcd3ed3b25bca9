//! Streams that a worker keeps itself: one that has registered `stream::set(NAME)`, or a sibling of it, serves the
//! stream NAME.
//!
//! Calls for such a stream go to the worker, one at a time a group, in the order in which they came; so do the lists
//! that subscribers start from, so that events made after a list follow it. What the worker does with its values, and
//! whether they survive, is its own affair.

mod input;
mod names;
mod queue;
mod starts;

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Answer, Caller, Outcome, Purpose};
use crate::error::{CallError, code};
use crate::functions::{Absent, Answered, Ask, Functions};
use crate::json::Json;
use crate::key::SessionKey;
use crate::name::{FunctionId, GroupPath, ItemId, Line, StreamName, Target};
use crate::ops::Document;
use crate::store::{self, Audience, Builtin, Change, Command, Joined, Kept, State};
use crate::time::Now;
use crate::turn::Turn;
use crate::wire::worker::{Payload, PayloadData};

use names::serving;
use queue::{Queue, Request, Running, Step};
use starts::{Starts, Subscriber};

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Done {
    /// A call is answered.
    Reply { caller: Caller, outcome: Outcome },
    /// It is the turn of an event that is sent: that is done as for any other stream.
    Send { caller: Caller, command: Command },
    /// An item has changed.
    Changed { group: GroupPath, item: ItemId, change: Change, value: Json },
    /// The worker has told the state of something.
    Told(Kept),
    /// There is nothing to start from until the worker registers again.
    NotLoaded { subscribers: BTreeSet<Subscriber>, target: Target, error: CallError },
}

/// All streams that workers keep, and the calls that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Custom {
    /// With the functions that are known to serve them. A stream stays one of these when its worker goes away, and when
    /// the server is started again: else its calls would go to the server's own store for a while.
    streams: BTreeMap<StreamName, BTreeSet<Builtin>>,
    lines: BTreeMap<Line, Queue>,
    starts: Starts,
    /// How many loads are in all lines.
    loads: usize,
    done: Vec<Done>,
}

/// Most streams that workers keep.
const MOST_STREAMS: usize = 100_000;
/// Most loads that wait for their turn or their answer: subscribers come and go while a worker is slow.
const MOST_LOADS: usize = 100_000;

impl Custom {
    /// What the log knows at the start.
    pub(crate) fn remember<'a>(&mut self, streams: impl Iterator<Item = &'a StreamName>) {
        self.streams = streams.map(|stream| (stream.clone(), BTreeSet::new())).collect();
    }

    /// A function was registered; if it serves a stream, the stream is its worker's from now on. Returns the stream if
    /// it was the server's own before: its `subscriptions` start afresh.
    pub(crate) fn registered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        id: &FunctionId,
        subscriptions: impl FnOnce(&StreamName) -> Vec<(Target, Subscriber)>,
    ) -> Option<StreamName> {
        let (builtin, stream) = serving(id)?;
        let new = !self.keeps(&stream);
        if new {
            if self.streams.len() >= MOST_STREAMS {
                return None;
            }
            for (target, subscriber) in subscriptions(&stream) {
                self.starts.insert_unserved(&target, subscriber);
            }
        }
        self.streams.entry(stream.clone()).or_default().insert(builtin);
        for target in self.starts.retry(&stream, |target| queue::reads(target) == builtin) {
            self.push_load(turn, functions, target);
        }
        new.then_some(stream)
    }

    /// A worker has taken a function back. Returns its stream if that was the last: it is the server's own now.
    pub(crate) fn unregistered(&mut self, id: &FunctionId) -> Option<StreamName> {
        let (builtin, stream) = serving(id)?;
        let served = self.streams.get_mut(&stream)?;
        served.remove(&builtin);
        if !served.is_empty() {
            return None;
        }
        self.streams.remove(&stream);
        self.starts.remove_all(&stream);
        Some(stream)
    }

    /// Whether a worker keeps this stream.
    pub(crate) fn keeps(&self, stream: &StreamName) -> bool {
        self.streams.contains_key(stream)
    }

    /// A call for a stream that a worker keeps.
    pub(crate) fn run(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        caller: Caller,
        command: Command,
    ) {
        let Some(line) = line_of(&command) else { return };
        let limit = turn.config.limits.calls_in_flight;
        let error = if command.wants_revisions() {
            let message =
                "a worker keeps this stream, and it has no revisions: leave out `expect` and `revision`";
            CallError::new(code::UNSUPPORTED, message)
        } else if self.lines.get(&line).is_some_and(|queue| queue.calls() >= limit) {
            let message = format!("{limit} calls wait for this group already; try again later");
            CallError::new(code::OVERLOADED, message)
        } else {
            return self.push(turn, functions, &line, Request::Call { caller, command });
        };
        self.done.push(Done::Reply { caller, outcome: Err(error) });
    }

    /// A subscription needs the state of its target.
    pub(crate) fn load(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        target: Target,
        subscriber: Subscriber,
    ) {
        if self.loads >= MOST_LOADS {
            self.starts.insert_unserved(&target, subscriber.clone());
            let error = CallError::new(code::OVERLOADED, "too many subscriptions wait for workers");
            self.done.push(Done::NotLoaded { subscribers: BTreeSet::from([subscriber]), target, error });
        } else if self.starts.insert(&target, subscriber) {
            self.push_load(turn, functions, target);
        }
    }

    /// A subscription has ended: it needs nothing any more.
    pub(crate) fn left(&mut self, session: SessionKey, join: &Joined) {
        self.starts.remove(&join.target, &(session, join.subscription.clone()));
    }

    /// A worker has answered the call whose turn it is in this line.
    pub(crate) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        line: &Line,
        answered: Answered,
    ) {
        let Some(running) = self.lines.get_mut(line).and_then(Queue::take_running) else { return };
        self.step(turn, functions, line, running, answered.outcome);
        self.go_on(turn, functions, line);
    }

    /// The server stops and waits no longer: nothing gets its turn any more.
    pub(crate) fn stop_all(&mut self) {
        for queue in self.lines.values_mut() {
            while let Some((request, _)) = queue.pop() {
                if let Request::Call { caller, .. } = request {
                    let message = "the server stopped before it was this call's turn";
                    let error = CallError::new(code::INVOCATION_STOPPED, message);
                    self.done.push(Done::Reply { caller, outcome: Err(error) });
                }
            }
        }
    }

    /// What has come of requests since this was asked last.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn push_load(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, target: Target) {
        self.loads += 1;
        let line = Line::of_group(&target.group);
        self.push(turn, functions, &line, Request::Load { target });
    }

    fn push(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, line: &Line, request: Request) {
        let deadline = turn.now.mono.after(turn.config.timeouts.call_ms);
        let queue = self.lines.entry(line.clone()).or_default();
        queue.push(request, deadline);
        self.go_on(turn, functions, line);
    }

    /// Makes the next call of a line, unless one is under way.
    fn go_on(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, line: &Line) {
        loop {
            let Some(queue) = self.lines.get_mut(line) else { return };
            if queue.is_running() {
                return;
            }
            let Some((request, deadline)) = queue.pop() else {
                self.lines.remove(line);
                return;
            };
            match request {
                Request::Load { target } if !self.starts.ask(&target) => self.loads -= 1,
                request if deadline <= turn.now.mono => {
                    let message = "the calls before it took too long (`call_ms`)";
                    self.fail(turn, request, CallError::new(code::TIMEOUT, message));
                }
                Request::Call { caller, command: command @ Command::Send { .. } } => {
                    self.done.push(Done::Send { caller, command });
                }
                request => {
                    let step = first_step(functions, turn.now, &request);
                    self.call(turn, functions, line, Running { request, step, deadline });
                }
            }
        }
    }

    /// Calls the worker; what comes of it comes back to [`Custom::answered`].
    fn call(&mut self, turn: &mut Turn<'_>, functions: &mut Functions, line: &Line, running: Running) {
        let (builtin, data) = running.next_call();
        let ask = Ask {
            purpose: Purpose::Custom(line.clone()),
            function: names::function(builtin, &line.stream),
            payload: Payload { data: PayloadData::Json(data), ..Payload::default() },
            deadline: Some(running.deadline),
            absent: Absent::Fails,
        };
        if let Some(queue) = self.lines.get_mut(line) {
            queue.run(running);
        }
        functions.ask(turn, ask);
    }

    /// Takes the worker's answer to one step of a request.
    fn step(
        &mut self,
        turn: &mut Turn<'_>,
        functions: &mut Functions,
        line: &Line,
        running: Running,
        outcome: Outcome,
    ) {
        let Running { request, step, deadline } = running;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return self.fail(turn, request, error),
        };
        match (request, step) {
            (Request::Call { caller, command }, Step::GetToUpdate) => match updated(&command, answer, turn) {
                Ok((answer, new)) => {
                    let request = Request::Call { caller, command };
                    let step = Step::SetUpdated { answer: Box::new(answer), new };
                    self.call(turn, functions, line, Running { request, step, deadline });
                }
                Err(error) => self.done.push(Done::Reply { caller, outcome: Err(error) }),
            },
            (Request::Call { caller, command }, Step::SetUpdated { answer, .. }) => {
                if let (Some(item), Answer::Changed { old, new, .. }) = (command.item(), &*answer) {
                    let change = if old.is_some() { Change::Updated } else { Change::Created };
                    let (group, item, value) = (item.group.clone(), item.id.clone(), new.clone());
                    self.changed(turn, group, item, change, value);
                }
                self.done.push(Done::Reply { caller, outcome: Ok(*answer) });
            }
            (Request::Call { caller, command }, Step::Only) => {
                self.tell(turn, &command, &answer);
                self.done.push(Done::Reply { caller, outcome: Ok(answer) });
            }
            (Request::Load { target }, _) => match input::state(&target, &answer) {
                Ok(state) => {
                    self.loads -= 1;
                    let audience = Audience::Starting(self.starts.answered(&target));
                    self.done.push(Done::Told(Kept { target, state, audience }));
                }
                Err(error) => self.fail(turn, Request::Load { target }, error),
            },
            (Request::Refresh { target }, _) => match (input::state(&target, &answer), target) {
                (Ok(State::Item(value)), Target { group, item: Some(item) }) => {
                    let value = value.unwrap_or_else(Json::null);
                    self.changed_somehow(turn, group, item, Change::Updated, value);
                }
                (Ok(state), target) => {
                    self.done.push(Done::Told(Kept { target, state, audience: Audience::All }));
                }
                (Err(_), _) => {}
            },
        }
    }

    /// Tells of a change, as far as the worker's answer says what it was.
    fn tell(&mut self, turn: &Turn<'_>, command: &Command, answer: &Answer) {
        let Some(item) = command.item() else { return };
        let (group, id) = (item.group.clone(), item.id.clone());
        let told = input::told(answer);
        match command {
            Command::Set { data, .. } => {
                let value = told.new.unwrap_or_else(|| data.clone());
                match told.old {
                    Some(None) => self.changed(turn, group, id, Change::Created, value),
                    Some(Some(_)) => self.changed(turn, group, id, Change::Updated, value),
                    None => self.changed_somehow(turn, group, id, Change::Updated, value),
                }
            }
            Command::Update { .. } => match (told.old, told.new) {
                (Some(None), Some(new)) => self.changed(turn, group, id, Change::Created, new),
                (Some(Some(_)), Some(new)) => self.changed(turn, group, id, Change::Updated, new),
                (None, Some(new)) => self.changed_somehow(turn, group, id, Change::Updated, new),
                // What the item is now is not known; it can be asked.
                (_, None) => self.refresh(turn, Target { group, item: Some(id) }),
            },
            Command::Delete { .. } => match told.old {
                Some(Some(old)) => self.changed(turn, group, id, Change::Deleted, old),
                // It was not there.
                Some(None) => {}
                None => self.changed_somehow(turn, group, id, Change::Deleted, Json::null()),
            },
            _ => {}
        }
    }

    /// A change whose kind is not known for sure: the group's subscribers get its list.
    fn changed_somehow(
        &mut self,
        turn: &Turn<'_>,
        group: GroupPath,
        item: ItemId,
        change: Change,
        value: Json,
    ) {
        let known = !value.is_null();
        self.changed(turn, group.clone(), item, change, value);
        if known {
            self.refresh(turn, Target { group, item: None });
        }
    }

    /// A change; one with the value null can't be told to the group's subscribers, who get its list.
    fn changed(&mut self, turn: &Turn<'_>, group: GroupPath, item: ItemId, change: Change, value: Json) {
        let null = value.is_null();
        self.done.push(Done::Changed { group: group.clone(), item, change, value });
        if null {
            self.refresh(turn, Target { group, item: None });
        }
    }

    /// Has the worker asked for the state of something, next.
    fn refresh(&mut self, turn: &Turn<'_>, target: Target) {
        let deadline = turn.now.mono.after(turn.config.timeouts.call_ms);
        if let Some(queue) = self.lines.get_mut(&Line::of_group(&target.group)) {
            queue.refresh(target, deadline);
        }
    }

    fn fail(&mut self, turn: &Turn<'_>, request: Request, error: CallError) {
        match request {
            Request::Call { caller, .. } => self.done.push(Done::Reply { caller, outcome: Err(error) }),
            Request::Load { target } => {
                self.loads -= 1;
                let subscribers = self.starts.failed(&target);
                self.done.push(Done::NotLoaded { subscribers, target, error });
            }
            // The item can't be told; what the group is can be asked.
            Request::Refresh { target: Target { group, item: Some(_) } } => {
                self.refresh(turn, Target { group, item: None });
            }
            Request::Refresh { .. } => {}
        }
    }
}

/// An update by a worker that has no function for updates takes two calls.
fn first_step(functions: &Functions, now: Now, request: &Request) -> Step {
    match request {
        Request::Call { command: Command::Update { item, .. }, .. }
            if !functions.has(&names::function(Builtin::Update, &item.group.stream), now.mono) =>
        {
            Step::GetToUpdate
        }
        _ => Step::Only,
    }
}

/// In which line a call waits; `None` for a call that is about all streams.
fn line_of(command: &Command) -> Option<Line> {
    match command {
        Command::ListGroups { stream } => Some(Line { stream: stream.clone(), group: None }),
        command => command.group().map(Line::of_group),
    }
}

/// What an update makes of the worker's value, as the answer to the caller and as the value to set.
fn updated(command: &Command, answer: Answer, turn: &Turn<'_>) -> Result<(Answer, Json), CallError> {
    let Command::Update { ops, .. } = command else {
        return Err(CallError::new(code::BAD_INPUT, "this is no update"));
    };
    // A handler that has nothing to return returns null.
    let old = match answer {
        Answer::Returned(value) if !value.is_null() => Some(value),
        _ => None,
    };
    let mut document = Document::new(old.as_ref());
    let (after, errors) = store::update(&mut document, ops, &turn.config.limits)
        .map_err(|message| CallError::new(Builtin::Update.error_code(), message))?;
    Ok((Answer::Changed { old, new: after.clone(), errors, revision: None }, after))
}
