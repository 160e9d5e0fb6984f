//! The gateway, and the relays that are one process and need no root: Haraka, KumoMTA, Stalwart.
//!
//! How they fail: as every server does, see [`super`].

use super::{Missing, Mode, Place, failed, find};
use std::fs;
use std::process::Command;

/// The gateway.
pub(super) fn gatepost(mode: Mode, place: &Place<'_>) -> Result<Command, Missing> {
    let setting = place.setting;
    let binary = setting.gatepost.as_ref().ok_or_else(|| {
        Missing::Skipped("gatepost not found beside gatepost-load (build it, or name it with --gatepost)".into())
    })?;
    let mode = if mode == Mode::Spool { "spool" } else { "cut-through" };
    let mut command = Command::new(binary);
    command
        .args(["serve", "--domain", "example.test", "--hostname", "edge.example.test", "--log-level", "error"])
        .args(["--mode", mode, "--io", &setting.io, "--cores", &setting.cores.to_string()])
        .args(["--backend", &place.backend.to_string(), "--listen", &format!("mx={}", place.address)])
        .args(
            ["submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps"]
                .map(|l| format!("--listen={l}=off")),
        )
        // The descriptors are the limit, as for the others.
        .args(["--set", &format!("server.connections_max={}", setting.descriptors)])
        .arg("--data")
        .arg(place.dir.join("data"))
        .args(&setting.gatepost_args);
    Ok(command)
}

/// Haraka, as npm has it.
pub(super) fn haraka(mode: Mode, place: &Place<'_>) -> Result<Command, Missing> {
    let installed = ["node_modules/Haraka", "usr/lib/node_modules/Haraka", "usr/local/lib/node_modules/Haraka"];
    let program = [place.setting.cache.join("haraka"), place.setting.root.clone()]
        .iter()
        .flat_map(|root| installed.map(|i| root.join(i).join("bin/haraka")))
        .find(|p| p.is_file())
        .ok_or_else(|| Missing::Skipped("haraka not found (loadtest/peers/setup haraka fetches it with npm)".into()))?;
    let node = find(place.setting, "node", &["usr/bin/node", "usr/local/bin/node"])?;
    let queue = if mode == Mode::Spool { "yes" } else { "no" };
    // A process for each core, and for one core just one.
    let nodes = if place.setting.cores > 1 { place.setting.cores } else { 0 };
    let fill = |text: &str| place.fill(text).replace("@QUEUE@", queue).replace("@NODES@", &nodes.to_string());
    for made in ["config", "plugins", "queue"] {
        place.folder(made, 0o755)?;
    }
    for (name, text) in [
        ("config/smtp.ini", include_str!("../../../peers/haraka/config/smtp.ini")),
        ("config/connection.ini", include_str!("../../../peers/haraka/config/connection.ini")),
        ("config/outbound.ini", include_str!("../../../peers/haraka/config/outbound.ini")),
        ("config/smtp_forward.ini", include_str!("../../../peers/haraka/config/smtp_forward.ini")),
        ("config/loglevel", include_str!("../../../peers/haraka/config/loglevel")),
        ("plugins/gate.js", include_str!("../../../peers/haraka/plugins/gate.js")),
        ("config/plugins", if mode == Mode::Spool { "gate\n" } else { "gate\nqueue/smtp_forward\n" }),
    ] {
        place.write(name, &fill(text))?;
    }
    let mut command = Command::new(node);
    command.arg(program).arg("-c").arg(place.dir);
    Ok(command)
}

/// KumoMTA, which has no package.
pub(super) fn kumomta(place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "kumomta", &["opt/kumomta/sbin/kumod"]).map_err(|_| no_package("kumod"))?;
    let policy = place.write("init.lua", &place.fill(include_str!("../../../peers/kumomta/init.lua")))?;
    let mut command = Command::new(binary);
    command.arg("--policy").arg(policy);
    if super::is_root() {
        command.args(["--user", "root"]);
    }
    Ok(command)
}

/// Stalwart, which has no package.
pub(super) fn stalwart(place: &Place<'_>) -> Result<Command, Missing> {
    let places = ["opt/stalwart/bin/stalwart", "usr/local/bin/stalwart-mail"];
    let binary = find(place.setting, "stalwart", &places).map_err(|_| no_package("stalwart"))?;
    fs::create_dir_all(place.dir.join("data")).map_err(failed)?;
    let config = place.write("config.toml", &place.fill(include_str!("../../../peers/stalwart/config.toml")))?;
    let mut command = Command::new(binary);
    command.arg("--config").arg(config);
    Ok(command)
}

fn no_package(name: &str) -> Missing {
    Missing::Skipped(format!("{name} is not on the PATH, and there is no package to take it from"))
}
