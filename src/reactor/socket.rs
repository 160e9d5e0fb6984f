//! Small calls on sockets that both drivers make.
//!
//! How it fails: with the kernel's error; [`discard`] has nothing to say.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// Unread octets thrown away before a graceful close, at most.
const DISCARD_OCTETS_MAX: usize = 256 * 1024;

/// An address as policy wants to see it: IPv4 wherever it is IPv4.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => addr,
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddr::from((v4, v6.port())),
            IpAddr::V6(_) => addr,
        },
    }
}

/// A socket for an outgoing connection, bound when an address is given.
pub(super) fn outgoing_socket(to: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(ip) = bind {
        // The port is chosen at connect, by the whole four-tuple: otherwise 28,000 connections exhaust the address.
        // A kernel without the option (before Linux 4.2) binds the port early, which works too.
        let _ = set_int(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    Ok(socket)
}

fn set_int(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let octets = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads one int, which is alive during the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), octets) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Throws away what has arrived and was not read, up to a bound: a socket closed over unread data sends a reset, which
/// can overtake the last reply. Returns the system calls made.
pub(super) fn discard(stream: &TcpStream) -> u64 {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC a TCP socket drops the octets instead of writing them (tcp(7)), so no memory is touched.
    unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), DISCARD_OCTETS_MAX, flags) };
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:25".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "192.0.2.7:25");
        let six: SocketAddr = "[2001:db8::1]:25".parse().unwrap();
        assert_eq!(canonical(six), six);
    }
}
