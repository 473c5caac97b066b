//! What people and programs see: results on standard output, prose on standard error. Colour comes only to terminals,
//! never where `NO_COLOR` is set, and never carries a meaning alone.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

/// Bold.
pub const BOLD: Style = Style::new().bold();
/// Of less interest.
pub const DIM: Style = Style::new().dimmed();
/// Good.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Open.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Bad.
pub const RED: Style = AnsiColor::Red.on_default().bold();

/// `text` in `style`.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A line of the result. A closed pipe ends the output, not the process with a panic.
pub fn out(line: &str) {
    let _ = writeln!(anstream::stdout().lock(), "{line}");
}

/// A line of prose.
pub fn note(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// A result as JSON: on one line, or indented on a terminal.
pub fn json(value: &Value) {
    let pretty = std::io::stdout().is_terminal();
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let _ = writeln!(std::io::stdout().lock(), "{}", text.unwrap_or_default());
}

/// An error in three parts.
pub fn error(what: &str, causes: &[String], hint: Option<&str>) {
    note(&format!("{}: {}", styled(RED, "error"), plain(what)));
    for cause in causes {
        note(&format!("  caused by: {}", plain(cause)));
    }
    if let Some(hint) = hint {
        note(&format!("  hint: {}", plain(hint)));
    }
}

/// Text from outside without control characters: a file must not write to the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A passing message on a terminal, gone when dropped.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shows `text`, if standard error is a terminal.
    pub fn new(text: &str) -> Self {
        let shown = std::io::stderr().is_terminal();
        if shown {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{text} ...").and_then(|()| stderr.flush());
        }
        Self { shown }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K").and_then(|()| stderr.flush());
        }
    }
}

/// The stages of long work: a passing message on a terminal; elsewhere, where asked for, a line each.
#[derive(Debug)]
pub struct Stages {
    begun: Instant,
    expected: Duration,
    lines: bool,
    passing: Option<Progress>,
}

impl Stages {
    /// `lines`: whether to tell stages where standard error is no terminal; `expected`: how long it should take.
    pub fn new(lines: bool, expected: Duration) -> Self {
        Self { begun: Instant::now(), expected, lines, passing: None }
    }

    /// A stage begins.
    pub fn begin(&mut self, stage: &str) {
        let seconds = [self.begun.elapsed(), self.expected].map(|time| time.as_secs_f64());
        let text = format!("{:.1} of about {:.1} s: {stage}", seconds[0], seconds[1]);
        self.passing = None;
        if std::io::stderr().is_terminal() {
            self.passing = Some(Progress::new(&text));
        } else if self.lines {
            note(&text);
        }
    }
}

/// Columns, each as wide as its widest cell; two spaces between.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", plain(cell))).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}
