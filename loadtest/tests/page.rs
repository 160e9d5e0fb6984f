//! The HTML report in a real browser: Debian's Chromium draws it, its script runs without an error, nothing is fetched.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test] functions")]

use serde_json::json;
use std::path::Path;
use std::process::Command;

/// The browser, where it is installed; where peers are required, a missing one is a failure.
fn chromium(page: &Path, args: &[&str]) -> Option<std::process::Output> {
    let program = std::env::split_paths(&std::env::var_os("PATH")?)
        .flat_map(|dir| ["chromium", "chromium-browser"].map(|name| dir.join(name)))
        .find(|p| p.is_file());
    let Some(program) = program else {
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "missing peer: chromium");
        println!("skipped: chromium not found");
        return None;
    };
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    command.args(["--hide-scrollbars", "--window-size=900,1600"]).args(args);
    // A profile of its own, so that nothing of the user's is touched.
    command.arg(format!("--user-data-dir={}", page.with_file_name("profile").display()));
    Some(command.arg(format!("file://{}", page.display())).output().unwrap())
}

/// Width, height, and how many different rows of pixels a PNG has, judged by its compressed size.
fn png(path: &Path) -> (u32, u32, usize) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20), bytes.len())
}

#[test]
fn a_page_is_drawn_and_its_script_runs() {
    let dir = tempfile::tempdir().unwrap();
    let result = |factor: f64| {
        let quantiles = json!({"count": 20000, "mean_ms": 2.0, "p50_ms": 1.5 * factor, "p90_ms": 3.0 * factor, "p99_ms": 12.0 * factor,
            "p999_ms": 80.0 * factor, "max_ms": 200.0 * factor});
        let timeline: Vec<_> = (0..60)
            .map(|n| json!({"at_s": f64::from(n), "server_cpu": 0.3 + f64::from(n % 7) / 20.0, "server_memory_octets": 5e7}))
            .collect();
        let client =
            json!({"latency": quantiles, "messages_per_s": 333.0, "errors": {"timed out": 3}, "loop_kind": "open"});
        let trial = json!({"clients": {"people": client, "newsletters": client}, "server": {"cpu_s": 9.0 * factor}, "timeline": timeline});
        json!({"scenario": "x", "title": "A title", "machine": "m", "trials": [trial],
            "verdicts": [{"text": "lost = 0", "passed": true, "found": "lost 0"}]})
    };
    let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
    std::fs::write(&a, result(1.0).to_string()).unwrap();
    std::fs::write(&b, result(1.3).to_string()).unwrap();
    let page = dir.path().join("page.html");
    let made =
        Command::new(env!("CARGO_BIN_EXE_gatepost-load")).arg("report").args([&a, &b]).arg("-o").arg(&page).output();
    assert!(made.unwrap().status.success());
    // The script is asked to do what its buttons do, and to say so in the title.
    let html = std::fs::read_to_string(&page).unwrap();
    let probe = "<script>document.getElementById('theme').click();\
                 document.querySelector('.legend button').click();\
                 document.title=document.documentElement.className+' '+\
                 document.querySelectorAll('.series[style*=none]').length+' '+performance.getEntriesByType('resource').length;\
                 </script></body>";
    let probed = dir.path().join("probed.html");
    std::fs::write(&probed, html.replace("</body>", probe)).unwrap();
    let Some(dom) = chromium(&probed, &["--dump-dom"]) else { return };
    let (dom, said) = (String::from_utf8_lossy(&dom.stdout), String::from_utf8_lossy(&dom.stderr));
    assert!(dom.contains("<title>dark 1 0</title>"), "theme, hidden series, fetched: {dom:.600}\n{said}");
    assert!(!said.contains("Uncaught") && !said.contains("SyntaxError"), "{said}");
    let shot = dir.path().join("page.png");
    let asked = format!("--screenshot={}", shot.display());
    chromium(&page, &[&asked]);
    let (width, height, octets) = png(&shot);
    assert_eq!((width, height), (900, 1600));
    // A blank page of this size takes some 6 KB.
    assert!(octets > 40_000, "{octets} octets: nearly nothing was drawn");
}

#[test]
fn servers_side_by_side_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let trial = |rate: f64, ms: f64| {
        let points: Vec<_> = (1..=10).map(|n| (1.0 - 0.5f64.powi(n), ms * f64::from(n))).collect();
        json!({"send": {"messages_per_s": rate, "latency": {"count": 5000, "p50_ms": ms, "p99_ms": 7.0 * ms, "max_ms": 10.0 * ms, "points": points}},
            "server_cpu_us_per_message": 1e6 / rate})
    };
    let row = |job: &str, peer: &str, rate: f64| {
        json!({"what": job, "peer": peer, "rate_per_s": {"median": rate}, "cpu_us": {"median": 1e6 / rate}, "syscalls": 9.0, "syncs": 1.0,
            "lost": 0, "trials": [trial(rate, 1e4 / rate), trial(rate * 1.1, 1e4 / rate)]})
    };
    let figure = |job: &str, value: f64| json!({"job": job, "value": value, "unit": "ms"});
    let store = |name: &str, ms: f64| json!([name, [figure("IMAP SELECT, CPU", ms), figure("IMAP SELECT, time", ms)]]);
    let result = json!({"machine": "m", "rows": [
            row("spool", "gatepost", 9000.0), row("spool", "postfix", 500.0), row("spool", "exim", 90.0), row("spool", "haraka", 130.0),
            row("plain", "gatepost", 5000.0), row("plain", "haproxy", 3000.0)],
        "skipped": ["skipped: stalwart: not on the PATH"],
        "mailstore": {"stores": [store("gatepost", 0.07), store("dovecot-maildir", 23.0)], "skipped": []}});
    let (json, page) = (dir.path().join("compare.json"), dir.path().join("page.html"));
    std::fs::write(&json, result.to_string()).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_gatepost-load")).arg("report").arg(&json).arg("-o").arg(&page).output();
    assert!(made.unwrap().status.success());
    // Bars as the browser lays them out: how many, and whether all stand inside the page.
    let html = std::fs::read_to_string(&page).unwrap();
    let probe = "<script>const r=[...document.querySelectorAll('.bar rect')].map(b=>b.getBoundingClientRect());\
                 document.title=r.length+' '+r.every(b=>b.width>0&&b.left>=0&&b.right<=innerWidth)+' '+\
                 document.querySelectorAll('polyline').length;</script></body>";
    let probed = dir.path().join("probed.html");
    std::fs::write(&probed, html.replace("</body>", probe)).unwrap();
    let Some(dom) = chromium(&probed, &["--dump-dom"]) else { return };
    let dom = String::from_utf8_lossy(&dom.stdout);
    // Two measures of six rows, two of two stores; a curve for each row.
    assert!(dom.contains("<title>16 true 6</title>"), "{dom:.400}");
    let shot = dir.path().join("page.png");
    let asked = format!("--screenshot={}", shot.display());
    chromium(&page, &[&asked]);
    assert!(png(&shot).2 > 40_000, "nearly nothing was drawn");
    if let Some(kept) = std::env::var_os("GATEPOST_SCREENSHOTS") {
        std::fs::copy(&shot, Path::new(&kept).join("compare.png")).unwrap();
    }
}
