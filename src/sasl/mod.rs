//! Authentication mechanisms, server and client side; credentials are asked for, never held.
