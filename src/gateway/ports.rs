//! The ports: opened here, or taken over from systemd or from the process that is replaced. They stay open as long as the
//! process lives, so that a successor finds every client that has connected meanwhile still waiting.
//!
//! Cores get duplicates of the sockets. A socket whose last holder closes it resets the clients in its queue; here that
//! is nobody before a successor has them. How it fails: a port that cannot be had is one [`StartError`] that names the
//! listener.

use super::config::{Config, Listener, StartError};
use crate::reactor::inherit::Inherited;
use crate::reactor::listen;
use std::net::{SocketAddr, TcpListener};

/// Every listener with its sockets.
#[derive(Debug)]
pub struct Ports {
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    listener: Listener,
    sockets: Vec<TcpListener>,
}

impl Ports {
    /// Opens what `config` names, as far as it is not among what was inherited.
    pub fn open(config: &Config, mut inherited: Vec<Inherited>) -> Result<Ports, StartError> {
        let cores = super::core_count(config);
        let backlog = config.settings.io.backlog;
        let mut ports = Vec::new();
        for listener in &config.listeners {
            let mut sockets = Vec::new();
            let mut address = listener.address;
            for taken in inherited.extract_if(.., |i| belongs(i, listener)) {
                address =
                    taken.socket.local_addr().map_err(|e| StartError(format!("listener {}: {e}", listener.name)))?;
                sockets.push(taken.socket);
            }
            let taken_over = !sockets.is_empty();
            if !taken_over {
                let fail = |e: &dyn std::fmt::Display| StartError(format!("listener {}: {e}", listener.name));
                let socket = listen::bind(address, backlog, true).map_err(|e| fail(&e))?;
                address = socket.local_addr().map_err(|e| fail(&e))?;
                sockets.push(socket);
            }
            // One for each core, as long as this process is who opened the first: the kernel lets nobody else join.
            while sockets.len() < cores {
                match listen::join(&sockets[0], backlog) {
                    Ok(socket) => sockets.push(socket),
                    // Opened by somebody else, or without SO_REUSEPORT: the cores share what there is.
                    Err(_) if taken_over => break,
                    Err(e) => return Err(StartError(format!("listener {}: {e}", listener.name))),
                }
            }
            ports.push(Port { listener: Listener { address, ..listener.clone() }, sockets });
        }
        // What a predecessor had and the new configuration has not is closed; systemd's word is not ignored in silence.
        match inherited.iter().find(|i| i.from_systemd) {
            Some(left) => Err(StartError(format!(
                "systemd passed the socket {:?} on {}, but no listener has that name or address; name it in a \
                 [[listener]], or with FileDescriptorName= in the socket unit",
                left.name,
                address_of(&left.socket).map_or("an unknown address".to_owned(), |a| a.to_string()),
            ))),
            None => Ok(Ports { ports }),
        }
    }

    /// The listeners, with the addresses as they really are.
    pub fn listeners(&self) -> Vec<Listener> {
        self.ports.iter().map(|p| p.listener.clone()).collect()
    }

    /// Every socket by the name of its listener, for a successor.
    pub fn sockets(&self) -> impl Iterator<Item = (&str, &TcpListener)> {
        self.ports.iter().flat_map(|p| p.sockets.iter().map(|s| (p.listener.name.as_str(), s)))
    }

    /// Closes them: nobody takes over, and who connects now should hear so at once.
    pub(super) fn close(&mut self) {
        self.ports.iter_mut().for_each(|port| port.sockets.clear());
    }

    /// Duplicates for `cores` cores, each with the number of its listener. Every core has its own socket on every port
    /// where the kernel spreads clients over several (SO_REUSEPORT), else all share one; none is left out.
    pub(super) fn share(&self, cores: usize) -> Result<Vec<Vec<(TcpListener, usize)>>, StartError> {
        let mut shares: Vec<Vec<(TcpListener, usize)>> = (0..cores).map(|_| Vec::new()).collect();
        for (number, port) in self.ports.iter().enumerate() {
            for index in 0..port.sockets.len().max(cores) {
                let socket = &port.sockets[index % port.sockets.len()];
                let duplicate =
                    socket.try_clone().map_err(|e| StartError(format!("listener {}: {e}", port.listener.name)))?;
                shares[index % cores].push((duplicate, number));
            }
        }
        Ok(shares)
    }
}

/// Whether an inherited socket is that of `listener`: by name and address, from systemd by either.
fn belongs(inherited: &Inherited, listener: &Listener) -> bool {
    let Some(address) = address_of(&inherited.socket) else { return false };
    let same_address = address.ip() == listener.address.ip()
        && (address.port() == listener.address.port() || listener.address.port() == 0);
    let same_name = inherited.name == listener.name;
    match inherited.from_systemd {
        true => same_name || same_address && listener.address.port() != 0,
        false => same_name && same_address,
    }
}

fn address_of(socket: &TcpListener) -> Option<SocketAddr> {
    socket.local_addr().ok()
}
