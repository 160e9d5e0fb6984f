//! Licences of every crate in the binary, as their manifests state them, against the list in `deny.toml`. `cargo deny check`
//! does the same and asks for known vulnerabilities as well, where it is installed; this needs nothing but cargo.
//!
//! How it fails: the panic names the crates and what they state.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

/// Whether an SPDX expression can be satisfied with licences of the list.
fn allowed(expression: &str, list: &[String]) -> bool {
    // OR binds weaker than AND; parentheses are rare enough to be taken apart by hand where they stand.
    let expression = expression.replace('/', " OR ");
    let mut depth = 0usize;
    let split = |text: &str, word: &str| -> Vec<String> {
        let (mut parts, mut current, mut level) = (Vec::new(), String::new(), 0usize);
        for token in text.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
            match token {
                "(" => level += 1,
                ")" => level = level.saturating_sub(1),
                _ => {}
            }
            if token == word && level == 0 {
                parts.push(std::mem::take(&mut current));
            } else {
                current.push_str(token);
                current.push(' ');
            }
        }
        parts.push(current);
        parts.into_iter().map(|p| p.trim().to_owned()).collect()
    };
    let alternatives = split(&expression, "OR");
    if alternatives.len() > 1 {
        return alternatives.iter().any(|a| allowed(a, list));
    }
    let all = split(&expression, "AND");
    if all.len() > 1 {
        return all.iter().all(|a| allowed(a, list));
    }
    let inner = expression.trim();
    if let Some(stripped) = inner.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        depth += 1;
        assert!(depth < 8, "{expression}");
        return allowed(stripped, list);
    }
    list.iter().any(|l| l == inner)
}

#[test]
fn expressions() {
    let list = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).to_vec();
    for yes in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "ISC AND (MIT OR GPL-2.0)", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(allowed(yes, &list), "{yes}");
    }
    for no in ["GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR GPL-2.0", "", "ISC AND (GPL-2.0 OR LGPL-3.0)"] {
        assert!(!allowed(no, &list), "{no}");
    }
}

#[test]
fn every_crate_in_the_binary_has_a_licence_we_allow() {
    let deny: toml::Table = include_str!("../deny.toml").parse().unwrap();
    let list: Vec<String> =
        deny["licenses"]["allow"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned()).collect();
    assert!(list.iter().all(|l| !l.contains("GPL")), "{list:?}");
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut refused = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        if !allowed(licence, &list) {
            refused.push(format!("{} {}: {licence:?}", package["name"], package["version"]));
        }
    }
    assert!(refused.is_empty(), "not on the list of deny.toml:\n{}", refused.join("\n"));
}
