//! One connection as bytes: between a driver and a machine, with or without TLS. Shared by clients and backend legs.
//!
//! A pipe keeps what the machine has not consumed, what the driver has not taken, and the deadline that is armed. It stops
//! receiving when the machine cannot keep up, so both sides are bounded. How it fails: a TLS fault is returned and the
//! caller closes; everything else is an event of the driver.

use crate::base::buf::{Chain, Input, Output};
use crate::base::time::Instant;
use crate::base::tls::TlsFacts;
use crate::reactor::tls::{Tls, TlsError};
use crate::reactor::{Close, Driver, Id};

/// Unconsumed octets above which receiving stops; one large buffer more may still arrive.
const PENDING_OCTETS_MAX: usize = 64 * 1024;
/// Octets a machine may put out before what it has said is sent.
const OUTPUT_HIGH_WATER_OCTETS: usize = 128 * 1024;

/// What a protocol machine offers to its connection (design §3).
pub(super) trait Machine {
    /// The peer said.
    fn handle_bytes(&mut self, now: Instant, input: &mut Input<'_>);
    /// Bytes for the peer.
    fn poll_transmit(&mut self, out: &mut Output);
    /// Whether it can take bytes now.
    fn wants_input(&self) -> bool;
    /// The TLS handshake is done.
    fn tls_started(&mut self, now: Instant, facts: TlsFacts);
}

/// Both directions of COMPRESS=DEFLATE. About 300 KiB; only connections that asked for it have one.
struct Deflate {
    compress: flate2::Compress,
    decompress: flate2::Decompress,
    /// Compressed octets that have not been looked at: a small piece may hold a very large one.
    waiting: Vec<u8>,
    fault: Option<&'static str>,
}

impl Deflate {
    fn new() -> Deflate {
        Deflate {
            compress: flate2::Compress::new(flate2::Compression::fast(), false),
            decompress: flate2::Decompress::new(false),
            waiting: Vec::new(),
            fault: None,
        }
    }

    fn wait(&mut self, compressed: &[u8]) {
        self.waiting.extend_from_slice(compressed);
    }

    /// Puts at most `room` octets behind `plain`; the rest keeps waiting.
    fn inflate(&mut self, room: usize, plain: &mut Vec<u8>) {
        if self.fault.is_some() || room == 0 {
            return;
        }
        let before = plain.len();
        plain.resize(before + room, 0);
        let (read, written) = (self.decompress.total_in(), self.decompress.total_out());
        let result = self.decompress.decompress(&self.waiting, &mut plain[before..], flate2::FlushDecompress::Sync);
        let read = (self.decompress.total_in() - read) as usize;
        plain.truncate(before + (self.decompress.total_out() - written) as usize);
        self.waiting.drain(..read);
        match result {
            Ok(flate2::Status::Ok | flate2::Status::BufError) => {}
            Ok(flate2::Status::StreamEnd) => self.fault = Some("the compressed stream ended"),
            Err(_) => self.fault = Some("the compressed stream is damaged"),
        }
    }

    /// Everything, so that the peer can read it now (RFC 4978 §3).
    fn deflate(&mut self, said: &Chain) -> Chain {
        let mut out = Vec::with_capacity(said.octets() / 2 + 64);
        let last = said.segments().len().saturating_sub(1);
        for (index, segment) in said.segments().iter().enumerate() {
            let mut rest = segment.as_slice();
            let flush = if index == last { flate2::FlushCompress::Sync } else { flate2::FlushCompress::None };
            loop {
                if out.capacity() - out.len() < 256 {
                    out.reserve(16 * 1024);
                }
                let before = self.compress.total_in();
                // Into a vector with room it cannot fail.
                let _ = self.compress.compress_vec(rest, &mut out, flush);
                rest = &rest[(self.compress.total_in() - before) as usize..];
                // A flush is complete when it left room.
                if rest.is_empty() && out.len() < out.capacity() {
                    break;
                }
            }
        }
        Chain::from(out)
    }
}

/// How far a pipe is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Closing {
    No,
    /// Close when everything has been sent.
    AfterFlush,
    /// Given to the driver.
    Asked,
}

/// See the module's head.
pub(super) struct Pipe {
    pub id: Id,
    tls: Option<Box<Tls>>,
    deflate: Option<Box<Deflate>>,
    pending: Vec<u8>,
    pending_at: usize,
    out: Chain,
    sending: bool,
    broken: bool,
    receiving: bool,
    /// Not read from, whatever else wants it: the core is nearly full.
    held: bool,
    closing: Closing,
    armed: Instant,
    /// Octets given to the driver that nobody has counted yet.
    sent_octets: u64,
}

impl Pipe {
    pub fn new(id: Id) -> Pipe {
        Pipe {
            id,
            tls: None,
            deflate: None,
            pending: Vec::new(),
            pending_at: 0,
            out: Chain::new(),
            sending: false,
            broken: false,
            receiving: false,
            held: false,
            closing: Closing::No,
            armed: Instant::FAR,
            sent_octets: 0,
        }
    }

    /// Octets given to the driver since the last call.
    pub fn take_sent_octets(&mut self) -> u64 {
        std::mem::take(&mut self.sent_octets)
    }

    /// Octets it holds in memory, beside those of TLS.
    pub fn held_octets(&self) -> usize {
        self.pending.capacity() + self.out.octets()
    }

    /// Whether TLS protects it.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Starts or stops receiving.
    pub fn receive(&mut self, driver: &mut Driver, on: bool) {
        let on = on && !self.held;
        if self.receiving != on && self.closing == Closing::No {
            self.receiving = on;
            driver.recv(self.id, on);
        }
    }

    /// Keeps from receiving, or lets it go on.
    pub fn hold(&mut self, driver: &mut Driver, on: bool) {
        self.held = on;
        if on { self.receive(driver, false) } else { self.balance(driver) }
    }

    /// From now on bytes are TLS records. What was received in clear is dropped: it was not protected (RFC 3207 §5).
    pub fn start_tls(&mut self, tls: Tls) {
        self.pending = Vec::new();
        self.pending_at = 0;
        self.tls = Some(Box::new(tls));
    }

    /// As [`Pipe::start_tls`], for a port with implicit TLS: what is pending are records already.
    pub fn start_tls_with_pending<M: Machine>(
        &mut self,
        now: Instant,
        tls: Tls,
        machine: &mut M,
    ) -> Result<(), TlsError> {
        let records = std::mem::take(&mut self.pending).split_off(std::mem::take(&mut self.pending_at));
        self.tls = Some(Box::new(tls));
        if records.is_empty() {
            return Ok(());
        }
        self.received(now, machine, &records)
    }

    /// Bytes came from the driver: decrypts them and shows them to the machine.
    pub fn received<M: Machine>(&mut self, now: Instant, machine: &mut M, bytes: &[u8]) -> Result<(), TlsError> {
        match self.tls.as_mut() {
            None => self.offer(now, machine, bytes),
            Some(tls) => {
                let mut plain = Vec::new();
                let state = tls.received(bytes, &mut plain)?;
                if state.handshake_done_now
                    && let Some(facts) = tls.facts()
                {
                    machine.tls_started(now, facts);
                }
                self.offer(now, machine, &plain);
            }
        }
        Ok(())
    }

    /// From now on octets in both directions are DEFLATE (RFC 4978); what is pending is so already.
    pub fn start_deflate(&mut self) {
        let mut deflate = Box::new(Deflate::new());
        deflate.wait(&self.pending[self.pending_at..]);
        self.pending = Vec::new();
        self.pending_at = 0;
        self.deflate = Some(deflate);
    }

    /// What is wrong with what the peer compressed.
    pub fn fault(&self) -> Option<&'static str> {
        self.deflate.as_ref().and_then(|deflate| deflate.fault)
    }

    fn offer<M: Machine>(&mut self, now: Instant, machine: &mut M, plain: &[u8]) {
        if let Some(deflate) = self.deflate.as_mut() {
            deflate.wait(plain);
            self.feed(now, machine);
            return;
        }
        if self.pending.is_empty() && machine.wants_input() {
            let mut input = Input::new(plain);
            machine.handle_bytes(now, &mut input);
            self.pending.extend_from_slice(input.rest());
        } else {
            self.pending.extend_from_slice(plain);
            self.feed(now, machine);
        }
    }

    /// Shows the machine what it left, if it can take it now; whether it took any.
    pub fn feed<M: Machine>(&mut self, now: Instant, machine: &mut M) -> bool {
        if !machine.wants_input() {
            return false;
        }
        if let Some(deflate) = self.deflate.as_mut() {
            let room = PENDING_OCTETS_MAX.saturating_sub(self.pending.len() - self.pending_at);
            deflate.inflate(room, &mut self.pending);
        }
        let mut input = Input::new(&self.pending[self.pending_at..]);
        machine.handle_bytes(now, &mut input);
        let consumed = input.consumed();
        self.pending_at += consumed;
        if self.pending_at == self.pending.len() {
            // An idle connection holds no buffer.
            self.pending = Vec::new();
            self.pending_at = 0;
        } else if self.pending_at > PENDING_OCTETS_MAX / 2 {
            self.pending.drain(..self.pending_at);
            self.pending_at = 0;
        }
        consumed > 0
    }

    /// Back-pressure: receiving stops while too much is unconsumed and goes on when it has been.
    pub fn balance(&mut self, driver: &mut Driver) {
        let compressed = self.deflate.as_ref().map_or(0, |deflate| deflate.waiting.len());
        let unconsumed = self.pending.len() - self.pending_at + compressed;
        if unconsumed > PENDING_OCTETS_MAX {
            self.receive(driver, false);
        } else if unconsumed <= PENDING_OCTETS_MAX / 2 {
            self.receive(driver, true);
        }
    }

    /// Takes what the machine (and TLS) want sent and gives it to the driver, one chain at a time.
    pub fn flush<M: Machine>(&mut self, driver: &mut Driver, machine: &mut M) {
        if self.sending || self.closing == Closing::Asked {
            return;
        }
        self.collect(machine);
        self.push_out(driver);
    }

    /// Takes what the machine has said so far as it is to travel now, also while the driver is busy: for the moment
    /// before the form of what travels changes.
    pub fn say<M: Machine>(&mut self, driver: &mut Driver, machine: &mut M) {
        self.collect(machine);
        if !self.sending && self.closing != Closing::Asked {
            self.push_out(driver);
        }
    }

    fn collect<M: Machine>(&mut self, machine: &mut M) {
        let mut output = Output::new(OUTPUT_HIGH_WATER_OCTETS);
        machine.poll_transmit(&mut output);
        let mut said = output.take();
        if let Some(deflate) = self.deflate.as_mut()
            && !said.is_empty()
        {
            said = deflate.deflate(&said);
        }
        match self.tls.as_mut() {
            None => self.out.append(said),
            Some(tls) => {
                if !said.is_empty() {
                    tls.send(&said, &mut self.out);
                }
                tls.pending(&mut self.out);
            }
        }
    }

    fn push_out(&mut self, driver: &mut Driver) {
        if !self.out.is_empty() {
            self.sending = true;
            self.sent_octets += self.out.octets() as u64;
            driver.send(self.id, std::mem::take(&mut self.out));
        } else if self.closing == Closing::AfterFlush {
            self.closing = Closing::Asked;
            driver.close(self.id, Close::Graceful);
        }
    }

    /// The driver took everything.
    pub fn sent(&mut self) {
        self.sending = false;
    }

    /// A send failed: nothing more goes out, what had arrived may still be read.
    pub fn broken(&mut self) {
        self.sending = true;
        self.broken = true;
    }

    /// Closes once everything has been sent (with close_notify under TLS).
    pub fn close_after_flush<M: Machine>(&mut self, driver: &mut Driver, machine: &mut M) {
        if self.closing != Closing::No {
            return;
        }
        if self.broken {
            return self.close_now(driver);
        }
        self.receive(driver, false);
        self.flush(driver, machine);
        if let Some(tls) = self.tls.as_mut() {
            tls.close(&mut self.out);
        }
        self.closing = Closing::AfterFlush;
        if !self.sending {
            self.push_out(driver);
        }
    }

    /// Sends a last word as it is, and closes.
    pub fn part(&mut self, driver: &mut Driver, word: Chain) {
        if self.closing != Closing::No {
            return;
        }
        self.receive(driver, false);
        if !word.is_empty() && !self.sending {
            self.sending = true;
            driver.send(self.id, word);
        }
        self.closing = Closing::Asked;
        driver.close(self.id, Close::Graceful);
    }

    /// Closes now; what was not sent is lost.
    pub fn close_now(&mut self, driver: &mut Driver) {
        if self.closing != Closing::Asked {
            self.closing = Closing::Asked;
            driver.close(self.id, Close::Reset);
        }
    }

    /// Whether the connection is on its way out.
    pub fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    /// The next deadline to file in the wheel, if an earlier one than is filed is wanted.
    pub fn deadline_to_arm(&mut self, wanted: Option<Instant>) -> Option<Instant> {
        let at = wanted?;
        if at < self.armed {
            self.armed = at;
            return Some(at);
        }
        None
    }

    /// The wheel fired for this pipe: whatever was armed is gone.
    pub fn fired(&mut self) {
        self.armed = Instant::FAR;
    }
}
