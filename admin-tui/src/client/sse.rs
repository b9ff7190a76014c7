//! Server-sent events out of bytes, as the HTML standard describes the format. What one event may hold is bounded.

/// Bytes of one event at most: a snapshot of a node with a hundred documents and events is far below.
const EVENT_MAX: usize = 4 << 20;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub event: String,
    /// Its data, lines joined.
    pub data: String,
}

/// Takes bytes as they come, gives events as they are whole.
#[derive(Debug, Default)]
pub struct Messages {
    line: Vec<u8>,
    message: Message,
}

impl Messages {
    /// Takes bytes; whole events go to `whole`.
    ///
    /// # Errors
    /// An event is longer than any that a node sends.
    pub fn feed(&mut self, bytes: &[u8], whole: &mut Vec<Message>) -> Result<(), &'static str> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.message.data.len() > EVENT_MAX {
                    return Err("an event of the stream is longer than 4 MiB");
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            whole.extend(self.end_of_line(line.strip_suffix(b"\r").unwrap_or(&line)));
        }
        Ok(())
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return Some(message).filter(|message| !message.data.is_empty());
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text = ": hello\n\nevent: snapshot\ndata: {\"a\":\ndata: 1}\n\nevent: change\r\ndata: 2\r\nid: 7\r\n\r\n";
        let message = |event: &str, data: &str| Message { event: event.into(), data: data.into() };
        for step in 1..text.len() {
            let (mut messages, mut whole) = (Messages::default(), Vec::new());
            text.as_bytes().chunks(step).for_each(|part| messages.feed(part, &mut whole).unwrap());
            assert_eq!(whole, [message("snapshot", "{\"a\":\n1}"), message("change", "2")], "{step}");
        }
    }

    #[test]
    fn an_endless_event_is_an_error_and_not_memory() {
        let (mut messages, mut whole) = (Messages::default(), Vec::new());
        let part = vec![b'a'; 1 << 20];
        assert!((0..8).any(|_| messages.feed(&part, &mut whole).is_err()));
    }
}
