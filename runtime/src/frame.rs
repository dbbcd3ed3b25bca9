//! Whole WebSocket frames of the server: made once, and the same for everybody who gets them.

use bytes::Bytes;

/// The longest head of a frame that is not masked.
const HEAD: usize = 10;

/// A frame may wait for long, and is counted by its length: it keeps no more memory beside that.
const SPARE: usize = 1 << 10;

/// A text frame whose text `write` appends: one piece of memory, which no copy is made of.
///
/// As RFC 6455 has it in section 5.2; what servers send is not masked (5.1).
pub(crate) fn text(write: impl FnOnce(&mut String)) -> Bytes {
    // The head's length depends on the text's: it gets its place before it is known.
    let mut text = String::with_capacity(256);
    text.push_str("          ");
    write(&mut text);
    let mut frame = text.into_bytes();
    if frame.capacity() - frame.len() > SPARE {
        frame.shrink_to_fit();
    }
    let (head, len) = head(frame.len() - HEAD);
    let start = HEAD - len;
    frame[start..HEAD].copy_from_slice(&head[..len]);
    Bytes::from(frame).slice(start..)
}

/// A text frame that ends like this instead of with its last byte, in pieces: most of it is that frame's.
pub(crate) fn ending(frame: &Bytes, end: &str) -> [Bytes; 3] {
    let start = match frame[1] {
        127 => HEAD,
        126 => 4,
        _ => 2,
    };
    let text = frame.slice(start..frame.len() - 1);
    let (head, len) = head(text.len() + end.len());
    [Bytes::copy_from_slice(&head[..len]), text, Bytes::copy_from_slice(end.as_bytes())]
}

/// The head of a text frame, and how much of it counts.
fn head(len: usize) -> ([u8; HEAD], usize) {
    const TEXT: u8 = 0x81;
    let mut head = [TEXT; HEAD];
    let long = (len as u64).to_be_bytes();
    match len {
        0..126 => {
            head[1] = long[7];
            (head, 2)
        }
        126..65_536 => {
            head[1] = 126;
            head[2..4].copy_from_slice(&long[6..]);
            (head, 4)
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&long);
            (head, HEAD)
        }
    }
}

/// Asks the peer for a sign of life.
pub(crate) const PING: Bytes = Bytes::from_static(&[0x89, 0]);

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
    use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

    use super::*;

    fn read_by_the_library(frame: &[u8]) -> Message {
        let config = WebSocketConfig::default().max_frame_size(None);
        let mut peer = WebSocket::from_raw_socket(Cursor::new(frame.to_vec()), Role::Client, Some(config));
        peer.read().expect("it is a whole frame")
    }

    #[test]
    fn a_frame_of_any_length_is_read_as_the_text_that_it_was_made_of() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let expected = "x".repeat(len);
            let frame = text(|out| out.push_str(&expected));
            assert_eq!(read_by_the_library(&frame), Message::text(expected), "{len}");
        }
        assert!(matches!(read_by_the_library(&PING), Message::Ping(empty) if empty.is_empty()));
    }

    #[test]
    fn a_frame_with_another_end_is_one_frame_of_the_same_memory() {
        for len in [1, 10, 124, 125, 126, 65_533, 65_535, 65_536, 200_000] {
            let text = "x".repeat(len);
            let frame = self::text(|out| out.push_str(&text));
            let [head, middle, end] = ending(&frame, "the end");
            assert_eq!(middle.as_ptr_range().end, frame[..frame.len() - 1].as_ptr_range().end, "no copy");
            let expected = text[1..].to_owned() + "the end";
            assert_eq!(read_by_the_library(&[head, middle, end].concat()), Message::text(expected), "{len}");
        }
    }
}
