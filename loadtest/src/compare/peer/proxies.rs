//! Proxies: the limits that a mail gateway is measured against. They promise nothing of their own.
//!
//! How they fail: as every server does, see [`super`].

use super::{Missing, Place, find, root_of, with_libraries};
use std::path::PathBuf;
use std::process::Command;

/// HAProxy, `mode tcp`.
pub(super) fn haproxy(place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "haproxy", &["usr/sbin/haproxy", "usr/local/sbin/haproxy"])?;
    let file = place.write("haproxy.cfg", &place.fill(include_str!("../../../peers/haproxy/haproxy.cfg")))?;
    let mut command = Command::new(&binary);
    command.arg("-db").arg("-f").arg(file);
    with_libraries(&mut command, &root_of(&binary, 3));
    Ok(command)
}

/// nginx with its stream or its mail module.
pub(super) fn nginx(module: &str, place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "nginx", &["usr/sbin/nginx"])?;
    let root = root_of(&binary, 3);
    let name = format!("ngx_{module}_module.so");
    let modules = ["usr/lib/nginx/modules", "usr/lib64/nginx/modules"].map(|m| root.join(m));
    let modules: &PathBuf = modules
        .iter()
        .find(|m| m.join(&name).is_file())
        .ok_or_else(|| Missing::Skipped(format!("nginx is here without {name} (Debian: libnginx-mod-{module})")))?;
    let proxy = match module {
        "stream" => include_str!("../../../peers/nginx/stream.conf"),
        _ => include_str!("../../../peers/nginx/mail.conf"),
    };
    let text = include_str!("../../../peers/nginx/nginx.conf").replace("@PROXY@", proxy);
    let text = text.replace("@MODULES@", &modules.to_string_lossy()).replace("@MODULE@", &name);
    let file = place.write("nginx.conf", &place.fill(&text))?;
    let mut command = Command::new(&binary);
    command.arg("-c").arg(file).arg("-p").arg(place.dir);
    with_libraries(&mut command, &root);
    Ok(command)
}
