//! The classic mail servers: each keeps a message on its disk before the 250, and delivers it from there.
//!
//! They are started by root only, in a mount name space of their own (`loadtest/peers/inside`), where the users exist that
//! their packages would have made and the folders that are compiled into them belong to the run. How they fail: as every
//! server does, see [`super`].

use super::{Missing, Mode, Place, failed, find, is_root, root_of, with_libraries};
use std::path::Path;
use std::process::Command;

/// Numbers that `inside` gives to users this machine does not have.
const EXIM_UID: u32 = 64701;
const POSTFIX_UID: u32 = 64704;

/// `program` in a mount name space of its own, with those paths covered by folders of the run.
fn inside(place: &Place<'_>, program: &Path, covered: &[(&str, &Path)]) -> Result<Command, Missing> {
    if !is_root() {
        return Err(Missing::Skipped("it takes root to start it".into()));
    }
    // Every directory above must let its user through.
    for open in [&place.setting.scratch, place.dir] {
        std::fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(failed)?;
    }
    let script = place.write("inside", include_str!("../../../peers/inside"))?;
    let mut command = Command::new("unshare");
    // A host name of its own as well: Sendmail waits a minute for one that has a dot.
    command.args(["-m", "-u", "sh", "-c", "hostname edge.example.test; exec sh \"$@\"", "sh"]).arg(script);
    command.arg(place.dir);
    covered.iter().for_each(|(path, target)| {
        command.arg(format!("{path}={}", target.display()));
    });
    command.arg("--").arg(program);
    with_libraries(&mut command, &root_of(program, 3));
    Ok(command)
}

/// The number of a user of this machine, or the one `inside` gives it.
fn uid(name: &str, otherwise: u32) -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find_map(|l| l.strip_prefix(&format!("{name}:")));
    line.and_then(|l| l.split(':').nth(1)?.parse().ok()).unwrap_or(otherwise)
}

fn give(path: &Path, uid: u32) -> Result<(), Missing> {
    std::os::unix::fs::chown(path, Some(uid), None).map_err(failed)
}

/// Postfix.
pub(super) fn postfix(place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "postfix", &["usr/sbin/postfix"])?;
    let above = root_of(&binary, 3);
    let root = above.to_string_lossy();
    let root = root.trim_end_matches('/');
    let meta = if above.join("etc/postfix/postfix-files").exists() { "etc/postfix" } else { "usr/share/postfix" };
    let fill = |text: &str| {
        let text = text.replace("@ROOT@", root).replace("@SHLIB@", &format!("{root}/usr/lib/postfix"));
        place.fill(&text.replace("@META@", &format!("{root}/{meta}")))
    };
    let config = place.folder("config", 0o755)?;
    place.folder("queue", 0o755)?;
    give(&place.folder("data", 0o755)?, uid("postfix", POSTFIX_UID))?;
    place.write("config/main.cf", &fill(include_str!("../../../peers/postfix/main.cf")))?;
    place.write("config/master.cf", &fill(include_str!("../../../peers/postfix/master.cf")))?;
    let mut command = inside(place, &binary, &[])?;
    command.arg("-c").arg(config).arg("start-fg");
    Ok(command)
}

/// Exim.
pub(super) fn exim(mode: Mode, place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "exim", &["usr/sbin/exim4", "usr/sbin/exim"])?;
    let (chunking, cut) = match mode {
        Mode::Spool => ("", ""),
        // Exim cuts through only where the sender does not use BDAT.
        Mode::CutThrough => ("chunking_advertise_hosts =", "    control = cutthrough_delivery"),
    };
    let text = include_str!("../../../peers/exim/exim.conf")
        .replace("@PROGRAM@", &binary.to_string_lossy())
        .replace("@CHUNKING@", chunking)
        .replace("@CUTTHROUGH@", cut);
    let config = place.write("exim.conf", &place.fill(&text))?;
    let user = uid("Debian-exim", EXIM_UID);
    give(&place.folder("spool", 0o750)?, user)?;
    give(place.dir, user)?;
    let mut command = inside(place, &binary, &[])?;
    command.arg("-C").arg(config).args(["-bdf", "-q1m"]);
    Ok(command)
}

/// OpenSMTPD.
pub(super) fn opensmtpd(place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "opensmtpd", &["usr/sbin/smtpd"])?;
    let config = place.write("smtpd.conf", &place.fill(include_str!("../../../peers/opensmtpd/smtpd.conf")))?;
    let (spool, empty, run) =
        (place.folder("spool", 0o711)?, place.folder("empty", 0o755)?, place.folder("run", 0o755)?);
    // What would only measure the name server.
    let names = place.write("resolv.conf", "lookup file\n")?;
    let covered: [(&str, &Path); 4] = [
        ("/var/spool/smtpd", &spool),
        ("/var/lib/opensmtpd/empty", &empty),
        ("/run", &run),
        ("/etc/resolv.conf", &names),
    ];
    let mut command = inside(place, &binary, &covered)?;
    command.arg("-d").arg("-f").arg(config);
    Ok(command)
}

/// Sendmail.
pub(super) fn sendmail(place: &Place<'_>) -> Result<Command, Missing> {
    let binary = find(place.setting, "sendmail", &["usr/libexec/sendmail/sendmail"])?;
    let root = root_of(&binary, 4);
    // /usr/lib/sendmail is the name every mail server has for its own program.
    if !root.join("usr/share/sendmail/cf/m4/cf.m4").is_file() {
        return Err(Missing::Skipped("sendmail not found (loadtest/peers/setup sendmail unpacks it)".into()));
    }
    let root = root.to_string_lossy();
    let text = include_str!("../../../peers/sendmail/sendmail.mc").replace("@ROOT@", root.trim_end_matches('/'));
    let source = place.write("sendmail.mc", &place.fill(&text))?;
    let made = Command::new("m4").arg(source).output();
    let made =
        made.map_err(|_| Missing::Skipped("sendmail's configuration is made by m4, which is not here".into()))?;
    if !made.status.success() {
        return Err(Missing::Failed(format!("m4: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    let config = place.write("sendmail.cf", &String::from_utf8_lossy(&made.stdout))?;
    place.folder("queue", 0o700)?;
    place.write("switch", "hosts files\naliases files\n")?;
    let mut command = inside(place, &binary, &[])?;
    command.arg("-bD").arg("-C").arg(config).arg("-q1m");
    Ok(command)
}
