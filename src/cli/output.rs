use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tasklog_log::{Millis, StoreError};

use crate::Error;
pub(crate) use crate::show::number;

/// Something is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something is right.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// A heading.
pub(crate) const HEAD: Style = Style::new().bold();
/// What can be passed over.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// The longest text in a cell of a human table, in characters: a SHA-256 in hex fits.
const CELL_CHARS_MAX: usize = 64;
/// How often a progress bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// How a verb writes.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// One JSON value per line.
    pub(crate) json: bool,
    /// Sensitive values in the clear.
    pub(crate) show_sensitive: bool,
}

impl Output {
    pub(crate) fn new(json: bool, show_sensitive: bool) -> Self {
        Self { json, show_sensitive }
    }

    /// A line to standard output.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Error> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_ref().as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .map_err(|error| io("writing to standard output", error))
    }

    /// A table for people: boxed on a terminal, plain columns in a pipe.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.load_style(presets::NOTHING);
        table.set_header(header);
        for row in rows {
            table.add_row(row.iter().map(|cell| cut(cell).into_owned()).collect::<Vec<_>>());
        }
        // Styled afterwards: escape codes would count as columns.
        let text = table.trim_fmt();
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        self.line(format!("{}{head}{}\n{rest}", HEAD.render(), HEAD.render_reset()))
    }
}

/// A text that fits a cell.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    }
}

/// An error of standard input or output.
pub(crate) fn io(doing: &str, error: io::Error) -> Error {
    StoreError::unavailable_because(doing, error).into()
}

/// Whether the reader of standard output went away.
pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    let Error::Store(error) = error else { return false };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// An instant as RFC 3339, in UTC.
pub(crate) fn time(ms: Millis) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| format!("{at:.3}"))
}

/// A progress bar on standard error, if a person is looking.
pub(crate) fn progress(total: Option<u64>, unit: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = match total {
        Some(_) => format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{rate}}  {{eta}} left  {{msg}}"),
        None => format!("{{spinner}} {{human_pos}} {unit}  {{rate}}  {{msg}}"),
    };
    if let Ok(style) = ProgressStyle::with_template(&template) {
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // What cannot be drawn is drawn the next time.
            let _ = write!(out, "{}/s", number(state.per_sec() as u64));
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}
