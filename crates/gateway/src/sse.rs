//! Reads server-sent events from a provider: any cut, bounded lines.

/// The most bytes of one line, and of one event's data.
pub const MAX_LINE: usize = 4 << 20;

/// Reads events as their bytes come.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
}

/// A line or an event longer than [`MAX_LINE`], or not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEvents;

/// An event: its name (empty where it has none) and its data.
pub type Event = (String, String);

impl Parser {
    /// Takes the next bytes; gives the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, NotEvents> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                return Err(NotEvents);
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = std::str::from_utf8(&line).map_err(|_| NotEvents)?;
                events.extend(self.line(line.trim_end_matches(['\n', '\r']))?);
            }
        }
        Ok(events)
    }

    /// What an end without a blank line leaves: some servers end so.
    pub fn finish(mut self) -> Result<Option<Event>, NotEvents> {
        let mut events = self.feed(b"\n\n")?;
        Ok(events.pop())
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, NotEvents> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return Ok(std::mem::take(&mut self.has_data).then_some((name, data)));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.data.len() + value.len() > MAX_LINE {
                    return Err(NotEvents);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments, ids, retry times.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_cut() {
        let text = b": hi\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\n\n\ndata: \xc3\xa9\n\nid: 1\n\ndata: end";
        let expected = [("a", "1\n2"), ("", "é")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let mut parser = Parser::default();
        assert_eq!(parser.feed(text).unwrap(), expected);
        assert_eq!(parser.finish(), Ok(Some((String::new(), "end".to_owned()))));
        let mut parser = Parser::default();
        let events: Vec<Event> = text.iter().flat_map(|byte| parser.feed(&[*byte]).unwrap()).collect();
        assert_eq!(events, expected);
    }

    #[test]
    fn hostile_lines_are_refused() {
        assert_eq!(Parser::default().feed(&vec![b'x'; MAX_LINE + 1]), Err(NotEvents));
        assert_eq!(Parser::default().feed(b"data: \xff\n"), Err(NotEvents));
        let mut parser = Parser::default();
        let half = format!("data: {}\n", "x".repeat(MAX_LINE / 2 + 1));
        assert_eq!(parser.feed(half.as_bytes()), Ok(Vec::new()));
        assert_eq!(parser.feed(half.as_bytes()), Err(NotEvents));
    }
}
