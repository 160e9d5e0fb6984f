//! Tests of the machine: traces (`../traces/*.trace`) on a small model of a mailstore, and properties over arbitrary input.

mod changes;
mod harness;
mod mail;
mod model;
mod properties;
mod script;

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
    append,
    append_early,
    append_limits,
    append_spill,
    auth_failures,
    auth_refused,
    authenticate,
    binary,
    compress,
    condstore,
    copy,
    cram_md5,
    deleted,
    errors,
    esearch,
    evolution,
    exposed,
    expunge,
    external,
    fetch,
    fetch_empty,
    fetch_large,
    fetch_lost,
    half_closed,
    http,
    idle,
    idle_early,
    idle_time,
    list,
    list_extended,
    literal_minus,
    login,
    namespace,
    partial,
    pipelining,
    qresync,
    quota,
    replace,
    rev2,
    search,
    select,
    shutdown,
    slow_command,
    smtp_client,
    sort,
    status,
    store,
    thunderbird,
    times,
    tls_garbage,
    tls_missing,
    two_sessions,
    utf8
);
