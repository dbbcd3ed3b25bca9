//! Who vouches for a session: nobody needs to, or the `auth_function`.

use std::collections::BTreeMap;

use super::channels::Absence;
use super::{Hub, Progress, Session, joined, unauthorized};
use crate::call::{Answer, Outcome};
use crate::config::AuthFailure;
use crate::effect::Effect;
use crate::error::{CallError, code};
use crate::field;
use crate::json::Json;
use crate::key::SessionKey;
use crate::store::Joined;
use crate::time::Mono;
use crate::turn::Turn;

/// What a session may do.
#[derive(Debug)]
pub(super) enum Access {
    /// The `auth_function` has not answered: joins wait.
    Asked {
        /// What it is given.
        data: Json,
        /// When it must have answered.
        deadline: Mono,
    },
    /// It may ask for subscriptions; each join and leave is told the context.
    Granted { context: Option<Json> },
    /// Nobody vouches for it: every join is refused.
    Refused { close_at: Mono },
}

/// How long a session that nobody vouches for stays, in milliseconds: for its joins to be answered.
const REFUSED_STAYS: u64 = 5_000;
/// Longest context of a session, in bytes: it is kept, and goes with each of its joins and leaves.
const LONGEST_CONTEXT: usize = 64 << 10;

impl Hub {
    /// A session that may ask for subscriptions at once.
    pub(crate) fn connect(&mut self, key: SessionKey) {
        self.insert(key, Access::Granted { context: None });
    }

    /// A session whose joins wait until `data` was looked at, until `deadline` at the latest.
    pub(crate) fn connect_asked(&mut self, key: SessionKey, data: Json, deadline: Mono) {
        self.insert(key, Access::Asked { data, deadline });
    }

    fn insert(&mut self, key: SessionKey, access: Access) {
        let session = Session {
            access,
            subscriptions: BTreeMap::new(),
            targets: BTreeMap::new(),
            behind: false,
            absence: Absence::default(),
        };
        self.sessions.insert(key, session);
    }

    /// What the `auth_function` is asked about a session, while it is to be asked.
    pub(crate) fn asked(&self, key: SessionKey) -> Option<(Json, Mono)> {
        match &self.sessions.get(&key)?.access {
            Access::Asked { data, deadline } => Some((data.clone(), *deadline)),
            _ => None,
        }
    }

    /// Somebody vouches for a session. Returns its joins that are to be decided about.
    pub(crate) fn grant(
        &mut self,
        turn: &mut Turn<'_>,
        key: SessionKey,
        context: Option<Json>,
    ) -> Vec<Joined> {
        let Some(session) = self.sessions.get_mut(&key) else { return Vec::new() };
        if turn.config.access.auth_failure == AuthFailure::Http401 {
            turn.effects.push(Effect::Admit { session: key });
        }
        let mut joins = Vec::new();
        for (id, subscription) in &mut session.subscriptions {
            let Progress::Held(place) = subscription.state else { continue };
            subscription.state = Progress::Gated(None);
            joins.push((place, joined(id, &subscription.target, &context)));
        }
        session.access = Access::Granted { context };
        joins.sort_by_key(|(place, _)| *place);
        joins.into_iter().map(|(_, join)| join).collect()
    }

    /// Nobody vouches for a session: its joins are refused, and it is closed.
    pub(crate) fn deny(&mut self, turn: &mut Turn<'_>, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let close_at = turn.now.mono.after(REFUSED_STAYS);
        session.access = Access::Refused { close_at };
        for subscription in std::mem::take(&mut session.subscriptions).into_values() {
            turn.effects.push(unauthorized(key, &subscription.target, turn.now));
        }
        match turn.config.access.auth_failure {
            AuthFailure::Http401 => turn.effects.push(Effect::CloseSession { session: key }),
            AuthFailure::Close => {
                self.refused.insert((close_at, key));
            }
        }
    }

    /// Whether nobody vouches for a session.
    pub(crate) fn is_denied(&self, key: SessionKey) -> bool {
        self.sessions.get(&key).is_some_and(|session| matches!(session.access, Access::Refused { .. }))
    }

    /// Closes the sessions that nobody vouches for and whose time is up.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>) {
        while let Some(&(close_at, session)) = self.refused.first()
            && close_at <= turn.now.mono
        {
            self.refused.pop_first();
            turn.effects.push(Effect::CloseSession { session });
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.refused.first().map(|(close_at, _)| *close_at)
    }
}

/// What an `auth_function` says of a session: its context; or that nobody vouches for it, with the reason if the
/// operator should know.
pub(crate) fn context(outcome: Outcome) -> Result<Option<Json>, Option<CallError>> {
    let no_object = || CallError::new(code::INVOCATION_FAILED, "the `auth_function` returned no object");
    let value = match outcome {
        Ok(answer) if answer.denies() => return Err(None),
        Ok(Answer::Returned(value)) if value.as_str().starts_with('{') => value,
        Ok(_) => return Err(Some(no_object())),
        Err(error) => return Err(Some(error)),
    };
    let members = field::members(value.as_str()).ok_or_else(|| Some(no_object()))?;
    let context = members.get("context").map(|raw| raw.get()).filter(|text| *text != "null");
    match context.map_or(0, str::len) {
        len if len > LONGEST_CONTEXT => {
            let message = format!(
                "the `auth_function` returned a context of {len} bytes; the limit is {LONGEST_CONTEXT}"
            );
            Err(Some(CallError::new(code::INVOCATION_FAILED, message)))
        }
        _ => Ok(context.map(Json::trusted)),
    }
}
