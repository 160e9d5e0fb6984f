//! Opening a listening socket so that every core can have its own on the same address.
//!
//! SO_REUSEPORT lets any process of the same user join a port, so a stale instance would silently take half of the
//! mail. [`bind`] therefore probes the address without that option first. How it fails: [`BindError`], one line that
//! says what to do.

use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address that was asked for.
    pub addr: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.addr)?;
        match self.error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                f.write_str("address already in use (another program or another gatepost holds it; see \"ss -ltnp\")")
            }
            Some(libc::EACCES | libc::EPERM) if self.addr.port() < 1024 => f.write_str(
                "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE, or a lower \
                 net.ipv4.ip_unprivileged_port_start)",
            ),
            Some(libc::EADDRNOTAVAIL) => f.write_str("this machine has no such address (see \"ip address\")"),
            Some(libc::EAFNOSUPPORT) => f.write_str("this kernel runs without that address family"),
            _ => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Listens on `addr`. With `reuse_port` further sockets of this process can [`join`] the port, one per core.
///
/// `[::]` listens on IPv6 only (IPV6_V6ONLY), so that it can stand beside `0.0.0.0`, as in nginx. TCP_NODELAY is set
/// here and inherited by the accepted sockets.
pub fn bind(addr: SocketAddr, backlog: u32, reuse_port: bool) -> Result<TcpListener, BindError> {
    if reuse_port && addr.port() != 0 {
        // Without listening, so that no client can land on the probe: bind alone refuses an address with a listener.
        drop(bound(addr, false).map_err(|error| BindError { addr, error })?);
    }
    open(addr, backlog, reuse_port)
}

/// One more socket on an address that this process has opened with `reuse_port`.
pub fn join(first: &TcpListener, backlog: u32) -> Result<TcpListener, BindError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let addr = first.local_addr().map_err(|error| BindError { addr: unknown, error })?;
    open(addr, backlog, true)
}

fn open(addr: SocketAddr, backlog: u32, reuse_port: bool) -> Result<TcpListener, BindError> {
    let attempt = || -> io::Result<TcpListener> {
        let socket = bound(addr, reuse_port)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    attempt().map_err(|error| BindError { addr, error })
}

fn bound(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // a restart must not wait for TIME_WAIT
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_port_in_use_is_one_clear_line_even_when_the_holder_shares_it() {
        let held = bind(any(), 16, true).unwrap();
        let addr = held.local_addr().unwrap();
        let error = bind(addr, 16, true).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {addr}: address already in use (another program or another gatepost holds it; \
                 see \"ss -ltnp\")"
            )
        );
        drop(held);
        bind(addr, 16, true).expect("free again at once");
    }

    #[test]
    fn one_socket_per_core_on_one_port() {
        let first = bind(any(), 128, true).unwrap();
        let second = join(&first, 128).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
        let _clients: Vec<TcpStream> =
            (0..64).map(|_| TcpStream::connect(first.local_addr().unwrap()).unwrap()).collect();
        let accepted = |l: &TcpListener| std::iter::from_fn(|| l.accept().ok()).count();
        let (a, b) = (accepted(&first), accepted(&second));
        assert_eq!(a + b, 64);
        assert!(a > 0 && b > 0, "the kernel spreads them: {a} and {b}");
    }

    #[test]
    fn an_address_of_another_machine() {
        let error = bind("192.0.2.1:2525".parse().unwrap(), 16, false).unwrap_err().to_string();
        assert!(error.contains("this machine has no such address"), "{error}");
    }
}
