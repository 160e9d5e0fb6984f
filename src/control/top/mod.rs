//! `gatepost top`: the running server on a terminal, refreshed once a second; `q` ends it.
//!
//! How it fails: one line when there is no server, no terminal, or the server ends; the terminal is given back as it was,
//! also after a panic.

mod view;

use crate::control::cli::{DataArgs, Failure};
use crate::control::status::server;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use view::Model;

/// How to watch.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print one look as text and end (two measurements, an interval apart)
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Lines of a look that is printed.
const ONCE_SIZE: (u16, u16) = (110, 42);

/// Runs the command.
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    let mut client = server(&args.data)?;
    let mut look = || -> Result<Value, Failure> {
        client.read("/api/v1/overview").map_err(|error| Failure::new(error.to_string()))
    };
    let interval = Duration::from_secs(args.interval);
    let mut model = Model::default();
    model.look(look()?);
    if args.once {
        std::thread::sleep(interval);
        model.look(look()?);
        return crate::control::cli::print(&view::text(&model, ONCE_SIZE));
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("standard output is no terminal; --once prints one look"));
    }
    // From here on a panic gives the terminal back, too.
    let mut terminal = ratatui::init();
    let watched = watch(&mut terminal, &mut model, interval, &mut look);
    ratatui::restore();
    watched
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    interval: Duration,
    look: &mut dyn FnMut() -> Result<Value, Failure>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("the terminal: {error}"));
    let mut next = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view::draw(frame, model)).map_err(failed)?;
        let wait = next.saturating_duration_since(Instant::now());
        if event::poll(wait).map_err(failed)? {
            if let Event::Key(key) = event::read().map_err(failed)?
                && key.kind == KeyEventKind::Press
            {
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Char('p') => model.paused = !model.paused,
                    _ => {}
                }
            }
            continue;
        }
        next = Instant::now() + interval;
        if !model.paused {
            model.look(look()?);
        }
    }
}
