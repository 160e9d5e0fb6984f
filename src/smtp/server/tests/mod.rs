//! Tests of the server machine: traces (`../traces/*.trace`), and properties over arbitrary input and answers.

mod harness;
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
    addresses,
    auth,
    auth_failures,
    bdat,
    bdat_syntax,
    data,
    early,
    errors,
    half_closed,
    http,
    idle,
    limits,
    lmtp,
    long_list,
    normalise,
    order,
    parameters,
    patient,
    policy,
    policy_421,
    policy_stages,
    proxy,
    proxy_missing,
    session,
    shutdown,
    slow_data,
    smuggling,
    starttls,
    times,
    tls_garbage,
    xclient
);
