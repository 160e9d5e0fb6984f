//! DATA (RFC 5321 §4.1.1.4). How it fails: 503 out of order, 554 without a valid recipient; offences in the text are
//! answered at its end.

use super::end_of_data;
use crate::base::buf::Input;
use crate::base::envelope::BodyType;
use crate::base::time::Instant;
use crate::smtp::server::{Ask, Chunks, Flow, Intake, Pending, Server, State, Then, Transaction, Verdict};
use crate::wire::data::Framing;
use crate::wire::replies;
use crate::wire::reply::Reply;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    match check(server, argument) {
        Ok(declared) => server.ask(Ask::Data { declared }, Pending::Data),
        Err(reply) => server.respond(now, reply),
    }
}

fn check(server: &Server, argument: &str) -> Result<Option<u64>, Reply> {
    let Some(transaction) = &server.transaction else { return Err(replies::mail_first()) };
    if !argument.is_empty() {
        return Err(replies::no_argument_expected());
    }
    if !matches!(transaction.chunks, Chunks::None) {
        return Err(replies::not_after_bdat()); // RFC 3030 §2
    }
    if transaction.parameters.body == BodyType::BinaryMime {
        return Err(replies::binary_needs_bdat()); // RFC 3030 §3
    }
    check_recipients(transaction)?;
    Ok(transaction.parameters.size)
}

/// RFC 5321 §3.3: no text without a recipient.
pub(in crate::smtp) fn check_recipients(transaction: &Transaction) -> Result<(), Reply> {
    match (transaction.recipients.is_empty(), transaction.refused) {
        (false, _) => Ok(()),
        (true, 0) => Err(replies::rcpt_first()),
        (true, _) => Err(replies::no_valid_recipients()),
    }
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, verdict: Verdict) {
    match verdict {
        Verdict::Go(after) => {
            let declared = server.transaction.as_ref().and_then(|t| t.parameters.size);
            let intake = Intake::new(&server.config.knobs, Framing::Dots, false, declared, now + after);
            let then = Then::Data(Box::new(intake));
            server.respond_after(now, after, vec![replies::start_mail_input()], then);
        }
        Verdict::No(refusal) => server.refuse(now, refusal),
    }
}

pub(in crate::smtp) fn read_text(
    server: &mut Server,
    now: Instant,
    input: &mut Input<'_>,
    mut intake: Box<Intake>,
) -> Flow {
    let fed = intake.feed(input.rest());
    input.consume(fed.consumed);
    server.counters.text_octets += fed.consumed as u64;
    if fed.end {
        end_of_data::run(server, now, intake);
    } else if intake.must_spill() {
        let (first, chunk) = intake.spill();
        server.ask(Ask::Spill { first, chunk }, Pending::SpillData(intake));
    } else {
        server.stay(State::Data(intake), now);
    }
    Flow::Again
}

pub(in crate::smtp) fn resume(server: &mut Server, now: Instant, intake: Box<Intake>) {
    server.enter(State::Data(intake), now);
}
