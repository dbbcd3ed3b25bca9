//! What a connection's subscriptions mean, one by one and together.

use headwater_core::config::Limits;
use headwater_tests::{Bystander, Server, Subscriber, Worker, still_joins};
use serde_json::json;

#[tokio::test]
async fn a_connection_gets_each_event_once_however_many_of_its_subscriptions_match() {
    let server = Server::start().await;
    let mut writer = Worker::connect(server.workers()).await;
    let mut subscriber = Subscriber::connect(server.streams()).await;
    subscriber.join("item", "s", "g", Some("a")).await;
    subscriber.join("group", "s", "g", None).await;
    subscriber.join("group again", "s", "g", None).await;
    subscriber.join("item again", "s", "g", Some("a")).await;

    writer.set("s", "g", "a", json!(1)).await;
    writer.set("s", "g", "b", json!(2)).await;
    let send = json!({ "stream_name": "s", "group_id": "g", "id": "a", "type": "t", "data": 3 });
    writer.result_of("stream::send", send).await;
    writer.set("s", "g", "a", json!(4)).await;

    let mut seen = Vec::new();
    for _ in 0..4 {
        let frame = subscriber.next().await;
        seen.push((frame.event.kind.clone(), frame.id.clone(), frame.revision));
    }
    let a = Some("a".to_owned());
    let expected = [
        ("create".to_owned(), a.clone(), Some(1)),
        ("create".to_owned(), Some("b".to_owned()), Some(2)),
        ("event".to_owned(), a.clone(), Some(2)),
        ("update".to_owned(), a, Some(3)),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_same_subscription_id_means_one_subscription() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut worker = Worker::connect(server.workers()).await;
    worker.set("s", "g", "i", json!(1)).await;
    let (mut subscriber, first) = Subscriber::of_group(server.streams(), "s", "g").await;

    // For the same target: a fresh sync.
    let again = subscriber.join("group", "s", "g", None).await;
    assert_eq!((again.data(), again.revision), (first.data(), first.revision));
    // For another: an error that echoes the names, and nothing of the other target.
    for (stream, group, id) in [("s", "other", None), ("other", "g", None), ("s", "g", Some("i"))] {
        subscriber.send_join("group", stream, group, id).await;
        let frame = subscriber.next().await;
        assert_eq!(frame.error_code(), "duplicate_subscription");
        assert_eq!((frame.stream_name.as_str(), frame.group_id.as_str()), (stream, group));
    }
    worker.set("s", "other", "i", json!(1)).await;
    worker.set("s", "g", "i", json!(2)).await;
    let update = subscriber.next_of("update").await;
    assert_eq!((update.group_id.as_str(), update.data()), ("g", json!(2)));
    // Joined twice, left once: left.
    subscriber.leave("group", "s", "g", None).await;
    still_joins(&mut subscriber).await;
    worker.set("s", "g", "i", json!(3)).await;
    still_joins(&mut subscriber).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn leave_without_join_is_an_error_and_nothing_more() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let (mut subscriber, _) = Subscriber::of_group(server.streams(), "s", "g").await;
    subscriber.leave("never joined", "s", "g", None).await;
    assert_eq!(subscriber.next_error().await, "unknown_subscription");
    subscriber.leave("group", "s", "g", None).await;
    subscriber.leave("group", "s", "g", None).await;
    assert_eq!(subscriber.next_error().await, "unknown_subscription");
    // Somebody else's subscription is unknown as well.
    bystander.subscriber.join("mine", "bystander", "other", None).await;
    subscriber.leave("mine", "bystander", "other", None).await;
    assert_eq!(subscriber.next_error().await, "unknown_subscription");
    still_joins(&mut subscriber).await;
    bystander.notices_nothing().await;
}

#[tokio::test]
async fn a_connection_has_a_bounded_number_of_subscriptions() {
    let server = Server::start().await;
    let mut bystander = Bystander::of(&server).await;
    let mut subscriber = Subscriber::connect(server.streams()).await;
    let limit = Limits::default().subscriptions;
    for n in 0..limit {
        subscriber.join(&format!("{n}"), "s", &format!("g{n}"), None).await;
    }
    subscriber.send_join("one more", "s", "g", None).await;
    assert_eq!(subscriber.next_error().await, "too_many_subscriptions");
    // One that is left makes room for another, and those there are still work.
    subscriber.leave("0", "s", "g0", None).await;
    subscriber.join("one more", "s", "g", None).await;
    bystander.worker.set("s", "g1", "i", json!(1)).await;
    assert_eq!(subscriber.next_of("create").await.group_id, "g1");
    bystander.notices_nothing().await;
}
