//! A scripted milter: what it negotiates, and what it answers to each command.
//!
//! How it fails: it closes at what it cannot read, as libmilter does.

use crate::fake::{Fake, Line, Notes};
use gatepost::wire::milter::{Actions, Command, Negotiation, Response, Steps, VERSION, frame};

/// Answers to one command; none at all where there is nothing to say.
pub type Answers = Vec<Response<'static>>;

/// Everything, and an answer to each step.
pub fn all() -> Negotiation<'static> {
    Negotiation { version: VERSION, actions: Actions::ALL, steps: Steps::SKIP, symbols: Vec::new() }
}

/// A filter on a free port.
pub fn filter(agreed: Negotiation<'static>, answer: impl Fn(&Command<'_>) -> Answers + Send + Sync + 'static) -> Fake {
    Fake::start(move |line, _, notes| serve(line, notes, &agreed, &answer))
}

/// What is said to a command by somebody who has nothing against anything.
pub fn go_on(command: &Command<'_>, steps: Steps) -> Answers {
    let quiet = match command {
        Command::Connect { .. } => Steps::QUIET_CONNECT,
        Command::Helo(_) => Steps::QUIET_HELO,
        Command::Mail(_) => Steps::QUIET_MAIL,
        Command::Recipient(_) => Steps::QUIET_RECIPIENTS,
        Command::Data => Steps::QUIET_DATA,
        Command::Header { .. } => Steps::QUIET_HEADERS,
        Command::EndOfHeaders => Steps::QUIET_END_OF_HEADERS,
        Command::Body(_) => Steps::QUIET_BODY,
        Command::EndOfMessage(_) => return vec![Response::Continue],
        _ => return Vec::new(),
    };
    if steps.has(quiet) { Vec::new() } else { vec![Response::Continue] }
}

/// One connection.
pub fn serve(
    line: &mut dyn Line,
    notes: &Notes,
    agreed: &Negotiation<'static>,
    answer: &(dyn Fn(&Command<'_>) -> Answers + Send + Sync),
) {
    let mut input = Vec::new();
    loop {
        let mut output = Vec::new();
        loop {
            let Ok(found) = frame(&input) else { return };
            let Some((frame, taken)) = found else { break };
            let Ok(command) = Command::parse(frame) else { return };
            notes.note(summary(&command));
            match &command {
                Command::Negotiate(_) => Response::Negotiated(agreed.clone()).put(&mut output),
                Command::Quit => return,
                other => answer(other).iter().for_each(|response| response.put(&mut output)),
            }
            input.drain(..taken);
        }
        if line.write_all(&output).is_err() {
            return;
        }
        let mut some = [0; 8192];
        match line.read(&mut some) {
            Ok(n) if n > 0 => input.extend_from_slice(&some[..n]),
            _ => return,
        }
    }
}

/// A command on one line.
pub fn summary(command: &Command<'_>) -> String {
    let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
    let texts = |all: &[std::borrow::Cow<'_, [u8]>]| all.iter().map(|t| text(t)).collect::<Vec<_>>().join(" ");
    match command {
        Command::Negotiate(offer) => format!("negotiate {} {:#x} {:#x}", offer.version, offer.actions.0, offer.steps.0),
        Command::Macros(stage, pairs) => {
            let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
            format!("macros {stage:?} {}", pairs.join(" "))
        }
        Command::Connect { host, peer } => format!("connect {} {peer:?}", text(host)),
        Command::Helo(name) => format!("helo {}", text(name)),
        Command::Mail(all) => format!("mail {}", texts(all)),
        Command::Recipient(all) => format!("rcpt {}", texts(all)),
        Command::Data => "data".into(),
        Command::Header { name, value } => format!("header {}:{}", text(name), text(value)),
        Command::EndOfHeaders => "eoh".into(),
        Command::Body(octets) => format!("body {} {}", octets.len(), text(octets)),
        Command::EndOfMessage(octets) => format!("eom {}", octets.len()),
        Command::Abort => "abort".into(),
        Command::Quit => "quit".into(),
        Command::QuitNewConnection => "quit_nc".into(),
        Command::Unknown(verb) => format!("unknown {}", text(verb)),
    }
}
