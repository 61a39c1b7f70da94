use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tasklog_log::{Millis, StoreError};

pub(crate) use crate::show::number;
use crate::{
    Error,
    show::visible::{visible, visible_json},
};

/// Something is wrong.
pub(crate) const BAD: Style = Style("1;31");
/// Something is right.
pub(crate) const GOOD: Style = Style("32");
/// A heading.
pub(crate) const HEAD: Style = Style("1");
/// What can be passed over.
pub(crate) const FAINT: Style = Style("2");

/// The longest text in a cell of a human table, in characters: a SHA-256 in hex fits.
const CELL_CHARS_MAX: usize = 64;
/// How often a progress bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// How the program styles a text of its own. What [`Style::render`] gives becomes an escape sequence when it is written, and
/// nothing else does: it begins with a mark that no stored text can know.
#[derive(Clone, Copy)]
pub(crate) struct Style(&'static str);

/// Begins a style in a text that is yet to be written.
static MARK: LazyLock<String> = LazyLock::new(|| format!("\u{1b}{}:", hex::encode(rand::random::<[u8; 16]>())));

impl Style {
    /// Begins it.
    pub(crate) fn render(self) -> String {
        format!("{}{}m", *MARK, self.0)
    }

    /// Ends it.
    pub(crate) fn render_reset(self) -> String {
        format!("{}0m", *MARK)
    }
}

/// A text with its styles, and with everything else that a terminal would obey written out.
fn painted(text: &str) -> Cow<'_, str> {
    let Some((first, rest)) = text.split_once(&**MARK) else { return visible(text) };
    let mut painted = visible(first).into_owned();
    for part in rest.split(&**MARK) {
        let (style, text) = part.split_once('m').unwrap_or(("0", part));
        painted.push_str(&format!("\u{1b}[{style}m{}", visible(text)));
    }
    painted.into()
}

/// Tells a person something on standard error, a line for each of the text's own.
pub(crate) fn say(text: &str) {
    for line in text.split('\n') {
        anstream::eprintln!("{}", painted(line));
    }
}

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

    /// A line to standard output: JSON, or a text for people, in which what a terminal would obey is written out.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Error> {
        let text = text.as_ref();
        self.verbatim(&if self.json { visible_json(text) } else { painted(text) })
    }

    /// Text for people that the program has laid out in lines itself.
    pub(crate) fn lines(&self, text: &str) -> Result<(), Error> {
        text.split('\n').try_for_each(|line| self.line(line))
    }

    /// Text that is meant to be kept as it is, and its line end.
    pub(crate) fn verbatim(&self, text: &str) -> Result<(), Error> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())
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
        table.set_header(header.iter().map(|name| visible(name)));
        for row in rows {
            table.add_row(row.iter().map(|cell| cut(&visible(cell)).into_owned()).collect::<Vec<_>>());
        }
        // Styled afterwards: escape codes would count as columns.
        let text = table.trim_fmt();
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        self.lines(&format!("{}{head}{}\n{rest}", HEAD.render(), HEAD.render_reset()))
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
