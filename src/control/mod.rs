//! Configuration, command line, admin socket, logs.
