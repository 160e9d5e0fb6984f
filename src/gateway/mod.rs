//! Wires the rooms: cores, lanes, listeners, the life of a message, reload, shutdown.
