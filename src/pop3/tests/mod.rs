//! Tests of the POP3 machine: traces (`../traces/*.trace`), and properties over arbitrary input and answers.

mod ahead;
mod harness;
mod properties;
mod script;
mod store;

use script::check;

/// One test per trace file.
macro_rules! traces {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), include_str!(concat!("../traces/", stringify!($name), ".trace")));
        })+
    };
}

traces!(
    apop,
    auth,
    auth_failures,
    broken_text,
    capa,
    clients,
    delete,
    errors,
    expire,
    expunged,
    foreign,
    half_closed,
    language,
    limits,
    lock,
    long_lines,
    octets,
    order,
    patient,
    pipelining,
    plain,
    raw_utf8,
    refused,
    retr,
    rpop,
    session,
    shared,
    shutdown,
    store_fails,
    stored,
    stls,
    timeout,
    timeout_login,
    tls_garbage,
    top,
    uidl,
    utf8,
);
