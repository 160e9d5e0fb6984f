//! `gatepost check`: everything that can be known without starting.
//!
//! How it fails: each offence is a diagnostic or a line; the exit code is 1 when there is one.

use crate::control::cli::{Failure, ServeArgs, print};
use crate::gateway::config::{Certificate, Config};
use crate::gateway::policy_file;
use crate::gateway::targets::{RouteConfig, Target, Verify};
use crate::reactor::tls::{CertificateFiles, ServerTls};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Checks what `serve` would start with the same flags.
pub fn check(args: &ServeArgs) -> Result<(), Failure> {
    let loaded = args.load()?;
    let config = &loaded.config;
    let mut problems = Vec::new();
    files(config, |what, path| {
        if let Err(error) = readable(path) {
            problems.push(format!("error: cannot read {what} {}: {error}", path.display()));
        }
    });
    if let Err(error) = certificates(config) {
        problems.push(format!("error: {error}"));
    }
    // A policy file that cannot be read is among its findings.
    match policy_file::load(config) {
        Ok(policy) => policy.warnings().iter().for_each(|warning| eprintln!("{warning}")),
        Err(findings) if findings.contains('\n') => problems.push(findings.trim_end().to_owned()),
        Err(error) => problems.push(format!("error: {error}")),
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        let plural = if problems.len() == 1 { "" } else { "s" };
        return Err(Failure::new(format!("the configuration has {} problem{plural}", problems.len())));
    }
    print(&summary(config))
}

/// Loads the certificates as the server would: readable, whole, each with its key.
fn certificates(config: &Config) -> Result<(), String> {
    let files = |c: &Certificate| CertificateFiles { chain: c.chain.clone(), key: c.key.clone() };
    let files: Vec<CertificateFiles> = config.certificates.iter().map(files).collect();
    if files.is_empty() {
        return Ok(()); // one is made at the start
    }
    ServerTls::load(&files, &config.settings.tls).map(drop).map_err(|error| error.to_string())
}

/// Calls `found` for every other file the configuration names.
fn files(config: &Config, mut found: impl FnMut(&str, &Path)) {
    for route in config.routes.iter().filter(|route| route.knobs.verify == Verify::Table) {
        route.knobs.table.iter().for_each(|path| found("the table of recipients", path));
    }
    for helper in &config.helpers {
        helper.knobs.password_file.iter().for_each(|path| found("the password of a helper", path));
    }
    for backend in config.pools.iter().flat_map(|pool| &pool.backends) {
        backend.password_file.iter().for_each(|path| found("the password file", path));
        backend.tls_ca.iter().for_each(|path| found("the certificate authorities", path));
    }
}

/// Opens and reads a little: a directory opens, but does not read.
fn readable(path: &Path) -> std::io::Result<()> {
    File::open(path)?.read(&mut [0; 1]).map(drop)
}

/// What would be served, for the administrator to compare with what was meant.
fn summary(config: &Config) -> String {
    let mut text = String::new();
    let file = config.file.as_ref().map_or("none, defaults".to_owned(), |f| f.display().to_string());
    let domains: Vec<&str> = config.domains.iter().map(|d| d.as_str()).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "configuration  {file}");
    let _ = writeln!(text, "host name      {}", config.hostname);
    let _ = writeln!(text, "local domains  {}", domains.join(" "));
    let _ = writeln!(text, "data           {}", config.settings.server.data.display());
    for l in &config.listeners {
        let _ = writeln!(text, "listener       {} {} {} tls={}", l.name, l.address, l.service.word(), l.tls.word());
    }
    for route in &config.routes {
        let _ = writeln!(text, "route          {}", route_line(config, route));
    }
    for helper in &config.helpers {
        let _ = writeln!(text, "helper         {helper}");
    }
    text.push_str("ok\n");
    text
}

fn route_line(config: &Config, route: &RouteConfig) -> String {
    let mut matched: Vec<&str> = route.knobs.domains.iter().chain(&route.knobs.addresses).map(String::as_str).collect();
    if matched.is_empty() {
        matched.push("everything else");
    }
    let target = match &route.target {
        Target::Pool(index) => match config.pools.get(*index) {
            Some(pool) => {
                let backends: Vec<String> =
                    pool.backends.iter().flat_map(|b| &b.address).map(ToString::to_string).collect();
                format!("pool {} ({})", pool.name, backends.join(" "))
            }
            None => "no pool".to_owned(),
        },
        Target::Mx => "the recipients' own servers (MX)".to_owned(),
        Target::Smarthost(host) => format!("smarthost {host}"),
        Target::Mailboxes => "to the mailboxes of local accounts".to_owned(),
    };
    format!("{}: {} → {target}, {}", route.name, matched.join(" "), route.mode.word())
}
