//! Ping-pong through both drivers: 32 octets in, 14 octets out, one request outstanding on each of 50 connections.
//!
//! Prints requests per second, CPU of the server's thread per request and system calls per request, and the ratio of
//! the two drivers in this run. Every reply is checked. `cargo bench --bench reactor`.

#![allow(clippy::unwrap_used)] // a bench stops at the first surprise

use gatepost::base::buf::{Chain, Segment};
use gatepost::reactor::{Close, Done, Driver, Io, ReactorKnobs, listen, pin};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 50;
const REQUEST: &[u8; 32] = b"MAIL FROM:<someone@example.org>\n";
const REPLY: &[u8; 14] = b"250 2.1.0 Ok\r\n";

struct Measure {
    requests: u64,
    seconds: f64,
    cpu_us: f64,
    kernel_entries: u64,
    turns: u64,
}

/// CPU this thread has used, in microseconds.
fn thread_cpu_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1000.0
}

fn reply() -> Chain {
    let mut chain = Chain::new();
    chain.push(Segment::Static(REPLY));
    chain
}

fn serve(io: Io, stop: &AtomicBool, address: std::sync::mpsc::Sender<SocketAddr>) -> Option<Measure> {
    let _ = pin::to_core(pin::allowed_cores()[0]);
    let (mut driver, choice) = match Driver::open(&ReactorKnobs { driver: io, ..ReactorKnobs::default() }) {
        Ok(opened) => opened,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    println!("{choice}");
    let socket = listen::bind("127.0.0.1:0".parse().unwrap(), 128, false).unwrap();
    address.send(socket.local_addr().unwrap()).unwrap();
    driver.listen(socket).unwrap();
    let (mut out, mut requests) = (Vec::new(), 0);
    let mut begin = None;
    while !stop.load(Ordering::Relaxed) {
        driver.poll(&mut out, Some(Duration::from_millis(100))).unwrap();
        for done in out.drain(..) {
            match done {
                Done::Accepted { conn, .. } => driver.recv(conn, true),
                Done::Recv { conn, buf } => {
                    assert_eq!(&*buf, REQUEST);
                    requests += 1;
                    driver.send(conn, reply());
                }
                Done::RecvEnd { conn, .. } => driver.close(conn, Close::Graceful),
                _ => {}
            }
        }
        if begin.is_none() && requests > 50_000 {
            begin = Some((Instant::now(), thread_cpu_us(), driver.counters(), requests)); // warm
        }
    }
    let (start, cpu, before, already) = begin.unwrap();
    let after = driver.counters();
    Some(Measure {
        requests: requests - already,
        seconds: start.elapsed().as_secs_f64(),
        cpu_us: thread_cpu_us() - cpu,
        kernel_entries: after.kernel_entries - before.kernel_entries,
        turns: after.turns - before.turns,
    })
}

fn ask(to: SocketAddr, stop: &AtomicBool) {
    let _ = pin::to_core(*pin::allowed_cores().last().unwrap());
    let (mut driver, _) = Driver::open(&ReactorKnobs { driver: Io::Epoll, ..ReactorKnobs::default() }).unwrap();
    for _ in 0..CONNECTIONS {
        driver.connect(to, None).unwrap();
    }
    let mut out = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        driver.poll(&mut out, Some(Duration::from_millis(100))).unwrap();
        for done in out.drain(..) {
            let conn = match done {
                Done::Connected { conn, result } => {
                    result.unwrap();
                    driver.recv(conn, true);
                    conn
                }
                Done::Recv { conn, buf } => {
                    assert_eq!(&*buf, REPLY);
                    conn
                }
                _ => continue,
            };
            let mut chain = Chain::new();
            chain.push(Segment::Static(REQUEST));
            driver.send(conn, chain);
        }
    }
}

fn measure(io: Io, seconds: u64) -> Option<Measure> {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || serve(io, &stop, tell)
    });
    if let Ok(to) = told.recv() {
        let client = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || ask(to, &stop)
        });
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap();
    }
    server.join().unwrap()
}

fn main() {
    let mut cpu = [0.0; 2];
    for _ in 0..2 {
        for (n, io) in [Io::Epoll, Io::Uring].into_iter().enumerate() {
            let Some(m) = measure(io, 3) else { continue };
            let requests = m.requests as f64;
            cpu[n] = m.cpu_us / requests;
            println!(
                "  {:>8.0} requests/s  {:.2} us CPU/request  {:.2} system calls/request  {:.1} requests/turn",
                requests / m.seconds,
                cpu[n],
                m.kernel_entries as f64 / requests,
                requests / m.turns as f64
            );
        }
    }
    if cpu[0] > 0.0 && cpu[1] > 0.0 {
        println!("io_uring costs {:.2} times the CPU of epoll", cpu[1] / cpu[0]);
    }
}
