//! BDAT (RFC 3030 §2). How it fails: the octets of a refused chunk are swallowed before the reply, so that the session
//! stays in step; a size that cannot be read, or is beyond all reason, ends the connection.

use super::{data, end_of_data};
use crate::base::buf::Input;
use crate::base::envelope::BodyType;
use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::{
    Ask, Chunks, Flow, Intake, OpenChunk, Pending, Refusal, Server, Skip, State, Then, Verdict, repeat,
};
use crate::wire::command::{self, Chunk};
use crate::wire::data::Framing;
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

/// A refused chunk is read to its end when it is at most this many times the largest message; beyond that nobody means it.
const SWALLOW_FACTOR: u64 = 4;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    let chunk = match command::parse_bdat(argument) {
        Ok(chunk) => chunk,
        // How many octets follow is unknown: reading them as commands would let a message speak.
        Err(_) => return server.respond_after(now, Duration::ZERO, vec![replies::bdat_syntax()], Then::Close),
    };
    // An empty chunk that is not the last is legal and useless.
    if chunk.octets == 0 && !chunk.last && !server.count_idle() {
        return;
    }
    if let Err(reply) = check(server, chunk) {
        return refuse_chunk(server, now, chunk, Refusal::now(reply));
    }
    let Some(transaction) = &mut server.transaction else { return };
    match std::mem::take(&mut transaction.chunks) {
        Chunks::Open(intake) => begin(server, now, chunk, intake),
        _ => {
            let declared = transaction.parameters.size.or(chunk.last.then_some(chunk.octets));
            server.ask(Ask::Data { declared }, Pending::Chunk(chunk));
        }
    }
}

fn check(server: &Server, chunk: Chunk) -> Result<(), Reply> {
    if !ext::is_offered(server, "CHUNKING") {
        return Err(replies::hello_first()); // extensions need EHLO (RFC 5321 §2.2.1)
    }
    let Some(transaction) = &server.transaction else { return Err(replies::mail_first()) };
    data::check_recipients(transaction)?;
    let so_far = match &transaction.chunks {
        Chunks::None => 0,
        Chunks::Open(intake) => intake.octets(),
        Chunks::Refused => return Err(replies::chunks_refused()), // RFC 3030 §2
    };
    if so_far.saturating_add(chunk.octets) > server.config.knobs.message_octets_max.0 {
        return Err(replies::size_too_large()); // RFC 1870 §6.3
    }
    Ok(())
}

/// After the policy has let the first chunk come.
pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, chunk: Chunk, verdict: Verdict) {
    match verdict {
        Verdict::Go(_) => {
            let parameters = server.transaction.as_ref().map(|t| (t.parameters.body, t.parameters.size));
            let (body, size) = parameters.unwrap_or_default();
            let declared = size.or(Some(chunk.octets));
            let binary = body == BodyType::BinaryMime;
            let intake = Intake::new(&server.config.knobs, Framing::Chunks, binary, declared, now);
            begin(server, now, chunk, Box::new(intake));
        }
        Verdict::No(refusal) => refuse_chunk(server, now, chunk, refusal),
    }
}

fn begin(server: &mut Server, now: Instant, chunk: Chunk, intake: Box<Intake>) {
    let open = OpenChunk { left: chunk.octets, octets: chunk.octets, last: chunk.last, intake };
    resume(server, now, Box::new(open));
}

/// Goes on with a chunk, or ends it.
pub(in crate::smtp) fn resume(server: &mut Server, now: Instant, chunk: Box<OpenChunk>) {
    if chunk.left > 0 {
        server.enter(State::Chunk(chunk), now);
    } else {
        end_chunk(server, now, *chunk);
    }
}

pub(in crate::smtp) fn read_chunk(
    server: &mut Server,
    now: Instant,
    input: &mut Input<'_>,
    mut chunk: Box<OpenChunk>,
) -> Flow {
    let rest = input.rest();
    let take = usize::try_from(chunk.left).map_or(rest.len(), |left| left.min(rest.len()));
    let fed = chunk.intake.feed(&rest[..take]);
    input.consume(fed.consumed);
    server.counters.text_octets += fed.consumed as u64;
    chunk.left -= fed.consumed as u64;
    if chunk.intake.must_spill() {
        let (first, octets) = chunk.intake.spill();
        server.ask(Ask::Spill { first, chunk: octets }, Pending::SpillChunk(chunk));
    } else if chunk.left == 0 {
        end_chunk(server, now, *chunk);
    } else {
        server.stay(State::Chunk(chunk), now);
    }
    Flow::Again
}

fn end_chunk(server: &mut Server, now: Instant, mut chunk: OpenChunk) {
    if chunk.last {
        chunk.intake.finish();
        return end_of_data::run(server, now, chunk.intake);
    }
    // RFC 3030 §2: each chunk has its reply, and the first refused one refuses the message.
    let failure = chunk.intake.failure();
    let Some(transaction) = &mut server.transaction else { return };
    let reply = match failure {
        Some(reply) => {
            transaction.chunks = Chunks::Refused;
            reply
        }
        None => {
            transaction.chunks = Chunks::Open(chunk.intake);
            replies::chunk_ok(chunk.octets)
        }
    };
    server.respond(now, reply);
}

/// Reads past the chunk, then says why.
fn refuse_chunk(server: &mut Server, now: Instant, chunk: Chunk, refusal: Refusal) {
    let swallow_max = server.config.knobs.message_octets_max.0.saturating_mul(SWALLOW_FACTOR);
    let recipients = server.transaction.as_ref().map_or(0, |t| t.recipients.len());
    if let Some(transaction) = &mut server.transaction {
        transaction.chunks = Chunks::Refused;
    }
    // RFC 2033 §4.2: the last chunk has a reply for each recipient there is.
    let replies = if chunk.last && recipients > 0 {
        repeat(refusal.reply, server.config.service, recipients)
    } else {
        vec![refusal.reply]
    };
    if refusal.close || chunk.octets > swallow_max {
        return server.respond_after(now, refusal.after, replies, Then::Close);
    }
    if chunk.last {
        server.end_transaction();
    }
    let skip = Skip { left: chunk.octets, replies };
    if skip.left == 0 {
        server.respond_after(now, refusal.after, skip.replies, Then::Command);
    } else {
        server.enter(State::Swallow(Box::new(skip)), now);
    }
}

pub(in crate::smtp) fn swallow(server: &mut Server, now: Instant, input: &mut Input<'_>, mut skip: Box<Skip>) -> Flow {
    let available = input.rest().len();
    let take = usize::try_from(skip.left).map_or(available, |left| left.min(available));
    input.consume(take);
    skip.left -= take as u64;
    if skip.left == 0 {
        server.respond_after(now, Duration::ZERO, skip.replies, Then::Command);
    } else {
        server.stay(State::Swallow(skip), now);
    }
    Flow::Again
}
