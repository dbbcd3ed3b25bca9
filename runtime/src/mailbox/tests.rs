use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use headwater_core::call::Answer;
use headwater_core::json::Json;
use headwater_core::log::Revision;
use headwater_core::name::{GroupName, GroupPath, StreamName, SubscriptionId, Target};
use headwater_core::rng::Uuid;
use headwater_core::store::{Durable, Snapshot, State as Contents};
use headwater_core::time::Stamp;
use headwater_core::wire::stream::SyncFrame;
use headwater_core::wire::worker::ToWorker;
use tokio::io::{AsyncReadExt as _, duplex};

use super::*;

fn group() -> GroupPath {
    GroupPath { stream: StreamName::trusted("s"), group: GroupName::trusted("g") }
}

fn state(revision: u64) -> Arc<SharedSync> {
    let state = Durable {
        stamp: Stamp(revision),
        revision: Revision(revision),
        state: Contents::Group(Snapshot::default()),
    };
    let target = Target { group: group(), item: None };
    Arc::new(SharedSync::new(SyncFrame { target, state, epoch: Uuid::from_random(0) }))
}

/// All that a mailbox sends for now, as its peer gets it.
async fn sent<Q: Queue>(mailbox: &Mailbox<Q>) -> Vec<u8> {
    let (mut peer, own) = duplex(1 << 20);
    let attached = mailbox.attach(own);
    let pending = poll_fn(|cx| Poll::Ready(mailbox.poll_send(cx).is_pending())).await;
    assert!(pending, "it is not closed");
    drop(attached);
    let mut sent = Vec::new();
    peer.read_to_end(&mut sent).await.expect("it is there");
    sent
}

fn event(text: &str) -> Bytes {
    frame::text(|out| out.push_str(text))
}

#[tokio::test]
async fn a_groups_state_that_newer_state_replaces_is_never_encoded() {
    let mailbox = Mailbox::new(SessionQueue::new(1_000), Arc::default());
    let (older, newer) = (state(1), state(2));
    assert_eq!(mailbox.push_group(group(), Arc::clone(&older)), Push::First);
    assert_eq!(mailbox.push_group(group(), Arc::clone(&newer)), Push::Again);
    assert_eq!(sent(&mailbox).await, newer.encoded());
    assert!(older.encoded.get().is_none());
}

#[tokio::test]
async fn what_is_delivered_leaves_at_once_but_for_what_must_be_encoded_first() {
    let mailbox = Mailbox::new(SessionQueue::new(1_000), Arc::default());
    let (mut peer, own) = duplex(1_000);
    let _attached = mailbox.attach(own);
    let task = Context::from_waker(Waker::noop());
    assert!(mailbox.poll_send(&task).is_pending());

    let [one, two] = ["one", "two"].map(event);
    assert_eq!(mailbox.push_event(one.clone(), None), Push::First);
    let state = state(1);
    assert_eq!(mailbox.push_group(group(), Arc::clone(&state)), Push::Again);
    assert_eq!(mailbox.push_event(two.clone(), None), Push::Again);
    mailbox.deliver();
    assert!(state.encoded.get().is_none(), "that is the work of the connection's task");
    assert!(mailbox.poll_send(&task).is_pending());
    let expected = [one, state.encoded(), two].concat();
    let mut got = vec![0; expected.len()];
    peer.read_exact(&mut got).await.expect("all of it");
    assert_eq!(got, expected);

    let three = event("three");
    assert_eq!(mailbox.push_event(three.clone(), None), Push::First);
    mailbox.deliver();
    let mut got = vec![0; three.len()];
    peer.read_exact(&mut got).await.expect("without the task");
    assert_eq!(got, three);
}

#[tokio::test]
async fn what_waits_for_a_slow_peer_can_be_dropped_and_what_was_begun_leaves() {
    let mailbox = Mailbox::new(SessionQueue::new(1_000), Arc::default());
    let (mut peer, own) = duplex(7);
    let _attached = mailbox.attach(own);
    let task = Context::from_waker(Waker::noop());
    assert!(mailbox.poll_send(&task).is_pending());
    let [one, two] = ["first", "second"].map(event);
    for frame in [&two, &one, &two] {
        let _ = mailbox.push_event(frame.clone(), None);
    }
    mailbox.deliver();
    let queued_behind = mailbox.push_event(one, None);
    assert_eq!(queued_behind, Push::First);
    mailbox.cut();
    let mut got = Vec::new();
    while got.len() < two.len() {
        peer.read_buf(&mut got).await.expect("it is open");
        assert!(mailbox.poll_drain(&task).is_ready());
    }
    assert_eq!(got, two);
    assert_eq!(mailbox.push_event(two, None), Push::Again, "it takes nothing any more");
    assert!(mailbox.state().queue.is_empty());
}

#[tokio::test]
async fn a_batch_that_is_larger_than_the_bound_does_not_make_a_peer_slow() {
    let mailbox = Mailbox::new(SessionQueue::new(10), Arc::default());
    let (mut peer, own) = duplex(1_000);
    let _attached = mailbox.attach(own);
    assert!(mailbox.poll_send(&Context::from_waker(Waker::noop())).is_pending());
    let [one, two] = ["first", "second"].map(event);
    let _ = mailbox.push_event(one.clone(), None);
    let _ = mailbox.push_event(two.clone(), None);
    mailbox.deliver();
    let mut got = vec![0; one.len() + two.len()];
    peer.read_exact(&mut got).await.expect("both");
    assert_eq!(got, [one, two].concat());
    assert_eq!(mailbox.state().queue.0.overflows(), 0);
}

#[tokio::test]
async fn who_has_missed_sent_events_is_told_so_once_in_a_state_that_is_shared_all_the_same() {
    let mailbox = Mailbox::new(SessionQueue::new(10), Arc::default());
    let target = Arc::new(Target { group: group(), item: None });
    let [one, two] = ["first", "second"].map(event);
    let _ = mailbox.push_event(one, Some(&target));
    // That is too much, as the way out is not open.
    let _ = mailbox.push_event(two, Some(&target));
    mailbox.resume(&[(*target).clone()].into());
    let state = state(1);
    let [first, second] = ["1", "2"].map(SubscriptionId::trusted);
    let _ = mailbox.push_sync(first, Arc::clone(&state), 3);
    let _ = mailbox.push_sync(second, Arc::clone(&state), 0);
    let mut expected = String::new();
    state.frame.encode_onto(&mut expected, 5);
    let expected = [event(&expected), state.encoded()].concat();
    assert_eq!(sent(&mailbox).await, expected);
    assert_eq!(mailbox.metrics.skipped.get(), 5);
}

#[tokio::test]
async fn a_frame_that_comes_in_parts_leaves_whole_or_not_at_all() {
    for taken in 0..9 {
        let mut wire = Wire::default();
        let (mut peer, own) = duplex(taken.max(1));
        wire.attach(Box::new(own));
        wire.set_task(Waker::noop());
        wire.push_parts(["one", "two", "three"].map(Bytes::from));
        wire.push(Bytes::from("four"));
        if taken > 0 {
            assert!(wire.poll_send().is_pending());
        }
        wire.cut();
        let mut got = Vec::new();
        while wire.poll_send().is_pending() {
            peer.read_buf(&mut got).await.expect("it is open");
        }
        drop(wire);
        peer.read_to_end(&mut got).await.expect("the rest");
        let expected: &[u8] = if taken > 0 { b"onetwothree" } else { b"" };
        assert_eq!(got, expected, "{taken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_read_is_not_silent() {
    let mailbox = Mailbox::new(SessionQueue::new(10), Arc::default());
    let begun = Instant::now();
    mailbox.pause(tokio::time::sleep(Duration::from_secs(100))).await;
    assert!(matches!(mailbox.seen(), Seen::At(at) if at - begun >= Duration::from_secs(100)));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(matches!(mailbox.seen(), Seen::At(at) if at - begun < Duration::from_secs(101)));
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_asks_for_answers_and_takes_none_keeps_nobody_busy() {
    let mailbox = Mailbox::new(SessionQueue::new(10), Arc::default());
    let (_peer, own) = duplex(1);
    let _attached = mailbox.attach(own);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let task = Context::from_waker(&waker);
    assert!(mailbox.poll_send(&task).is_pending());
    while mailbox.poll_push(&task, b"an answer").is_ready() {
        assert!(mailbox.poll_send(&task).is_pending());
    }
    let before = woken.0.load(Ordering::Relaxed);
    assert!(mailbox.poll_push(&task, b"one more").is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_peer_is_let_in_or_closed_whatever_is_queued() {
    let refused = Mailbox::new(SessionQueue::new(1_000), Arc::default());
    let _ = refused.push_notice("queued".into());
    let refusing = async { refused.close(CloseCode::Policy, "unauthorized") };
    assert_eq!(tokio::join!(refused.admission(), refusing).0, Err(CloseCode::Policy));

    let admitted = Mailbox::new(SessionQueue::new(1_000), Arc::default());
    let admitting = async {
        let _ = admitted.push_notice(event("queued"));
        tokio::task::yield_now().await;
        admitted.admit();
    };
    assert_eq!(tokio::join!(admitted.admission(), admitting).0, Ok(()));
    admitted.close(CloseCode::Policy, "unauthorized");
    assert_eq!(admitted.admission().await, Ok(()), "it was let in first");
    let (mut peer, own) = duplex(100);
    let attached = admitted.attach(own);
    let Poll::Ready(SendingEnded::Closing(close)) = admitted.poll_send(&Context::from_waker(Waker::noop()))
    else {
        panic!("all was sent")
    };
    assert_eq!(close.code, CloseCode::Policy);
    drop(attached);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.expect("what was queued");
    assert_eq!(got, event("queued"));
}

fn returned(bytes: usize) -> ToWorker {
    let value = Json::trusted("1".repeat(bytes));
    ToWorker::Result {
        invocation_id: "1".to_owned(),
        function_id: "f".to_owned(),
        outcome: Ok(Answer::Returned(value)),
    }
}

#[tokio::test]
async fn what_was_returned_and_finds_no_room_is_answered_with_overloaded() {
    let mailbox = Mailbox::new(WorkerQueue::new(20_000), Arc::default());
    mailbox.push(returned(9_000)).expect("it is no call");
    mailbox.push(returned(9_000)).expect("it is no call");
    let text = String::from_utf8_lossy(&sent(&mailbox).await).into_owned();
    assert_eq!(text.matches("\"result\":1").count(), 1);
    assert_eq!(text.matches("\"code\":\"overloaded\"").count(), 1);
}

#[tokio::test]
async fn what_is_parked_for_a_crowd_is_unparked_when_the_crowd_has_left() {
    let mailbox = Mailbox::new(WorkerQueue::new(20_000), Arc::default());
    assert!(!mailbox.park(), "nobody waits");
    mailbox.push(returned(9_000)).expect("it is no call");
    assert!(mailbox.park());
    let leaving = async {
        tokio::task::yield_now().await;
        sent(&mailbox).await;
    };
    tokio::join!(mailbox.unparked(), leaving);
    let reads = poll_fn(|cx| Poll::Ready(pin!(mailbox.uncrowded()).poll(cx).is_ready()));
    assert!(!reads.await, "something is set aside, which comes first");
    mailbox.unpark();
    mailbox.uncrowded().await;
    assert!(!mailbox.park());
}
