//! What the commands print. The one place that writes to the terminal.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

use std::sync::atomic::{AtomicBool, Ordering};

use owo_colors::{OwoColorize as _, Stream};

static ASIDE: AtomicBool = AtomicBool::new(false);

/// From now on everything but results goes to standard error, so that a program can read standard output.
pub fn aside() {
    ASIDE.store(true, Ordering::Relaxed);
}

fn tell(text: &str) {
    if ASIDE.load(Ordering::Relaxed) { eprintln!("{text}") } else { println!("{text}") }
}

/// A step that begins.
pub fn step(name: &str) {
    tell(&format!("{} {name}", "•".if_supports_color(Stream::Stdout, |text| text.cyan())));
}
/// Something that is done.
pub fn done(what: &str) {
    tell(&format!("{} {what}", "✔".if_supports_color(Stream::Stdout, |text| text.green())));
}
/// Something that is not as it might be.
pub fn warn(what: &str) {
    tell(&format!("{} {what}", "!".if_supports_color(Stream::Stdout, |text| text.yellow())));
}
/// A plain line.
pub fn line(text: &str) {
    tell(text);
}
/// The result, for a person or a program.
pub fn result(text: &str) {
    println!("{text}");
}
/// A piece of a line, at once.
pub fn piece(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    let _ = std::io::stdout().flush();
}
/// News of long work, on standard error, so that standard output holds the result alone.
pub fn news(text: &str) {
    eprintln!("{text}");
}
/// What went wrong.
pub fn error(text: &str) {
    eprintln!("{} {text}", "error:".if_supports_color(Stream::Stderr, |text| text.red()));
}
