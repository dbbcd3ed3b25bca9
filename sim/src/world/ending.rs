//! The end of a world: everything is well again, comes to rest, and everybody must know the same; then the power goes
//! once more.

use serde_json::{Value, json};

use super::World;
use super::worker::{Mood, STREAM, Worker};
use crate::oracle::{CLOSER, Law};
use crate::random::Random;
use crate::trace::{Loss, What, Who};

/// How long nothing may happen before a world counts as at rest: longer than every time limit.
const REST_MS: u64 = 70_000;
/// More rounds than any world needs, and more moves in all of them.
const MOST_ROUNDS: usize = 20_000;
const MOST_MOVES: usize = 500_000;
/// What one queue may do in a round: what makes work for itself does not keep the others from theirs.
const TURN: usize = 1_000;

impl World<'_> {
    pub(super) fn end(&mut self) {
        let mut random = Random::new(self.plan.seed ^ 0x00e0_00e0);
        self.heal(&mut random);
        self.rest(&mut random);
        self.write_last(&mut random);
        self.list_each(&mut random);
        for at in 0..self.subscribers.len() {
            if let Some(link) = self.subscribers[at].link {
                self.hang_up(link, true);
            }
        }
        let subscribers = std::mem::take(&mut self.subscribers);
        self.rest(&mut random);
        self.subscribers = subscribers;
        if self.broken.is_some() {
            return;
        }
        self.die(Loss::Power, &mut random);
        self.close_after_death(&mut random);
    }

    /// Nothing goes wrong any more, and everybody comes back.
    fn heal(&mut self, random: &mut Random) {
        self.healed = true;
        self.machine.loss = None;
        self.machine.disk.heal();
        if self.machine.node.is_some() {
            self.machine.power.restore();
        }
        self.note(&Who::server(), What::Healed);
        for link in &mut self.links {
            link.stalled_until = 0;
            link.unread_until = 0;
        }
        // Who was refused tries again with what is good.
        for at in 0..self.subscribers.len() {
            if let Some(link) = self.subscribers[at].link.filter(|_| self.subscribers[at].is_refused) {
                self.hang_up(link, true);
            }
        }
        for worker in &mut self.workers {
            worker.asked.iter_mut().for_each(|asked| asked.not_before = 0);
        }
        self.machine.starts_at = 0;
        self.come_back(random);
        // What was taken back is registered again.
        for at in 0..self.workers.len() {
            let registrations = self.workers[at].registrations();
            if let Some(link) = self.workers[at].link {
                registrations.into_iter().for_each(|message| self.send(link, message));
            }
        }
    }

    /// Goes on until nothing happens any more.
    fn rest(&mut self, random: &mut Random) {
        let mut quiet_since = self.now.mono.0;
        let mut moves = 0;
        for _ in 0..MOST_ROUNDS {
            if self.broken.is_some() {
                return;
            }
            if moves > MOST_MOVES {
                break;
            }
            let moved = self.round(random);
            moves += moved;
            if moved > 0 {
                quiet_since = self.now.mono.0;
            } else if self.now.mono.0 - quiet_since > REST_MS {
                return self.must_be_at_rest();
            } else {
                let due = self.machine.node.as_ref().and_then(|node| node.process.core.next_deadline());
                let wait = due.map_or(5_000, |due| due.0.saturating_sub(self.now.mono.0));
                self.pass(wait.clamp(1, 5_000));
            }
        }
        self.broken.get_or_insert(Law::Converges.broken("it does not come to rest"));
    }

    /// Everything that can move moves. Returns how often anything did.
    fn round(&mut self, random: &mut Random) -> usize {
        self.come_back(random);
        let mut moved = 0;
        for at in 0..self.links.len() {
            moved += self.turn(|world| world.move_one(at, true, random));
            moved += self.turn(|world| {
                let flushed = world.links[at].server_has_it && world.flush(at);
                world.move_one(at, false, random) || flushed
            });
        }
        moved += self.turn(World::tell);
        moved += self.turn(|world| {
            let task = world.machine.node.as_ref().and_then(|node| node.process.next_task());
            task.map(|task| world.work(task)).is_some()
        });
        for at in 0..self.workers.len() {
            moved += self.turn(|world| {
                let is_asked = !world.workers[at].asked.is_empty() && world.workers[at].link.is_some();
                if is_asked {
                    world.handle_one(at, Mood::Good, random);
                }
                is_asked
            });
        }
        moved
    }

    /// Moves something until it does not move, or its turn is over.
    fn turn(&mut self, mut moves: impl FnMut(&mut Self) -> bool) -> usize {
        (0..TURN).take_while(|_| moves(self)).count()
    }

    fn must_be_at_rest(&mut self) {
        let open = |worker: &Worker| worker.open.keys().cloned().collect::<Vec<_>>();
        let waiting: Vec<String> = self.workers.iter().flat_map(open).collect();
        if !waiting.is_empty() {
            let how = format!("nothing happens any more, and these calls wait: {waiting:?}");
            self.broken.get_or_insert(Law::Converges.broken(how));
        }
    }

    /// The closer writes to each group: it works again. From some it takes that back, so that they may be empty.
    fn write_last(&mut self, random: &mut Random) {
        self.workers.push(Worker::new(CLOSER, Vec::new()));
        let closer = self.workers.len() - 1;
        self.connect_worker(closer, random);
        let (seed, groups) = (self.plan.seed, self.plan.setup.groups);
        let last = |group| json!({"stream_name": STREAM, "group_id": format!("g{group}"), "item_id": "last"});
        for group in 0..groups {
            let mut data = last(group);
            data["data"] = json!({"id": "last", "n": 1});
            self.ask("stream::set", &data);
        }
        self.rest(random);
        for group in (0..groups).filter(|group| seed.wrapping_add(*group) % 2 == 1) {
            self.ask("stream::delete", &last(group));
        }
        self.rest(random);
    }

    /// The closer asks for each group, and then for the names of those that there are.
    fn list_each(&mut self, random: &mut Random) {
        for group in 0..self.plan.setup.groups {
            let data = json!({"stream_name": STREAM, "group_id": format!("g{group}")});
            self.ask("stream::list", &data);
        }
        self.rest(random);
        self.ask("stream::list_groups", &json!({"stream_name": STREAM}));
        self.ask("stream::list_all", &json!({}));
        self.rest(random);
    }

    /// The closer, who is the last of the workers, calls.
    fn ask(&mut self, function: &str, data: &Value) {
        let Some(closer) = self.workers.last_mut() else { return };
        let Some(link) = closer.link else { return };
        let message = closer.calling(function, data);
        self.send(link, message);
    }

    /// Only the closer comes back, and lists what is there.
    fn close_after_death(&mut self, random: &mut Random) {
        for at in 0..self.links.len() {
            self.hang_up(at, true);
        }
        self.subscribers.clear();
        let closer = self.workers.pop();
        self.workers.clear();
        self.workers.extend(closer);
        self.come_back(random);
        self.list_each(random);
    }
}
