//! The policy that a configuration names, compiled: the file and its lists, or the default policy.
//!
//! How it fails: every finding of the policy as text, or one line when the file cannot be read.

use crate::gateway::config::Config;
use crate::policy::{Builtins, Files, Policy};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Octets of a policy file at most.
const POLICY_OCTETS_MAX: u64 = 16 << 20;
/// Octets of a list file at most: some millions of networks.
const LIST_OCTETS_MAX: u64 = 1 << 30;

/// List files; relative names are relative to the policy file's directory.
#[derive(Clone, Debug)]
pub struct PolicyFiles {
    base: PathBuf,
}

impl PolicyFiles {
    /// The files of the policy that `config` names.
    pub fn new(config: &Config) -> PolicyFiles {
        PolicyFiles::beside(config.settings.server.policy.as_deref())
    }
    /// The files of this policy; those of the one compiled in are relative to the working directory.
    pub fn beside(policy: Option<&Path>) -> PolicyFiles {
        PolicyFiles { base: policy.and_then(Path::parent).unwrap_or(Path::new("")).to_owned() }
    }
    /// Where a file of the policy is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }
}

impl Files for PolicyFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read(&self.path(path), LIST_OCTETS_MAX)
    }
}

/// Compiles the policy that `config` names. Warnings are in the policy.
pub fn load(config: &Config) -> Result<Policy, String> {
    load_from(config, config.settings.server.policy.as_deref())
}

/// Compiles another policy file for the server of `config`; none is the policy compiled in.
pub fn load_from(config: &Config, file: Option<&Path>) -> Result<Policy, String> {
    let domains = config.domains.iter().map(|d| d.lower());
    let routes = config.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
    let helpers = config.helpers.iter().map(|helper| helper.name.clone()).collect::<Vec<_>>();
    let builtins = Builtins::new(domains)?.with_routes(routes).with_helpers(helpers);
    let (name, source) = match file {
        Some(path) => (path.display().to_string(), text(path)?),
        None => ("edge.toml (compiled in)".to_owned(), Policy::DEFAULT.to_owned()),
    };
    Policy::compile(&name, &source, &PolicyFiles::beside(file), &builtins)
        .map_err(|found| found.iter().map(|d| format!("{d}\n")).collect())
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = read(path, POLICY_OCTETS_MAX).map_err(|e| format!("the policy file: {e}"))?;
    String::from_utf8(bytes).map_err(|_| format!("the policy file {} is not UTF-8", path.display()))
}

fn read(path: &Path, octets_max: u64) -> Result<Vec<u8>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
    let mut bytes = Vec::new();
    file.take(octets_max + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if bytes.len() as u64 > octets_max {
        return Err(fail(&format!("it has more than {octets_max} octets")));
    }
    Ok(bytes)
}
