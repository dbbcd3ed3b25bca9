use serde_json::json;

use crate::{Server, Subscriber, Worker, item};

/// A worker and a subscriber that do as they should, on the server under test.
pub struct Bystander {
    /// The worker.
    pub worker: Worker,
    /// The subscriber, of a group of its own.
    pub subscriber: Subscriber,
    revision: u64,
}

impl Bystander {
    /// Connects both to a stream of their own.
    pub async fn of(server: &Server) -> Bystander {
        let mut worker = Worker::connect(server.workers()).await;
        worker.set("bystander", "g", "i", json!(0)).await;
        let (subscriber, sync) = Subscriber::of_group(server.streams(), "bystander", "g").await;
        assert_eq!(sync.data(), json!([0]));
        Bystander { worker, subscriber, revision: 1 }
    }

    /// Both connections are the ones they were, and nothing reached them that they did not cause.
    pub async fn notices_nothing(&mut self) {
        self.revision += 1;
        let value = json!(self.revision);
        self.worker.set("bystander", "g", "i", &value).await;
        assert_eq!(
            self.worker.result_of("stream::get", item("bystander", "g", "i")).await,
            Some(value.clone())
        );
        let frame = self.subscriber.next_of("update").await;
        assert_eq!((frame.stream_name.as_str(), frame.group_id.as_str()), ("bystander", "g"));
        assert_eq!((frame.data(), frame.revision), (value, Some(self.revision)));
    }
}

/// The worker answers calls, and what it got before the answer was nothing else.
pub async fn still_works(worker: &mut Worker) {
    assert_eq!(worker.call("stream::get", item("no", "such", "item")).await, Ok(None));
}

/// The subscriber can join and leave.
pub async fn still_joins(subscriber: &mut Subscriber) {
    let sync = subscriber.join("check", "no", "such group", None).await;
    assert_eq!(sync.data(), json!([]));
    subscriber.leave("check", "no", "such group", None).await;
}
