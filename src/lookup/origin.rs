//! Where an address belongs, AS number and country, from database files in MaxMind's format.
//!
//! The files are read into memory, so that an answer costs a core about a microsecond; the lane looks whether they have
//! changed. How it fails: a file that is missing or broken is said once for each change, and left out; what was read
//! before stays in use. Without any database everything is [`Finding::Unknown`].

use super::names::unknown;
use super::records::Reach;
use crate::base::inquiry::Finding;
use maxminddb::{PathElement, Reader};
use parking_lot::{Mutex, RwLock};
use std::future::pending;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Octets of one database at most: the largest public ones have about 150 MiB.
const OCTETS_MAX: u64 = 1 << 30;

type Database = Reader<Vec<u8>>;

/// The databases.
pub(super) struct Origins {
    shared: Arc<Shared>,
}

struct Shared {
    files: Vec<PathBuf>,
    every: Duration,
    databases: RwLock<Vec<Option<Arc<Database>>>>,
    looked: Mutex<Looked>,
}

/// When the files were looked at, and what they were.
struct Looked {
    at: Instant,
    states: Vec<State>,
}

/// What tells a file from the one that was read: its size and time, or that it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Never,
    Read(u64, Option<SystemTime>),
    Missing(String),
}

impl Origins {
    /// Reads the files; blocks, so it belongs before the start.
    pub(super) fn open(files: &[PathBuf], every: Duration) -> Origins {
        let looked = Looked { at: Instant::now(), states: vec![State::Never; files.len()] };
        let shared = Shared {
            files: files.to_vec(),
            every,
            databases: RwLock::new(vec![None; files.len()]),
            looked: Mutex::new(looked),
        };
        shared.look();
        Origins { shared: Arc::new(shared) }
    }

    /// AS number and country of `ip`.
    pub(super) async fn find(&self, ip: IpAddr, reach: Reach) -> Finding {
        if self.shared.files.is_empty() {
            return unknown(format_args!("origin of {ip}"), "no database is configured (lookup.origin_databases)");
        }
        if self.shared.is_due() {
            if reach == Reach::Local {
                return pending().await;
            }
            let shared = self.shared.clone();
            // Whether it could look or not: what is in memory answers.
            let _ = tokio::task::spawn_blocking(move || shared.look()).await;
        }
        self.shared.read(ip.to_canonical())
    }
}

impl Shared {
    fn is_due(&self) -> bool {
        self.looked.lock().at.elapsed() >= self.every
    }

    /// Reads the files that have changed.
    fn look(&self) {
        let states = {
            let mut looked = self.looked.lock();
            looked.at = Instant::now(); // the others go on with what is there
            looked.states.clone()
        };
        let mut now = Vec::with_capacity(states.len());
        for (i, (file, before)) in self.files.iter().zip(&states).enumerate() {
            let state = state(file);
            if state != *before {
                match load(file, &state) {
                    Ok(database) => {
                        let kind = database.metadata.database_type.clone();
                        tracing::info!("{} ({kind}) is read", file.display());
                        self.databases.write()[i] = Some(Arc::new(database));
                    }
                    Err(why) => tracing::warn!("lookup.origin_databases: {}: {why}", file.display()),
                }
            }
            now.push(state);
        }
        self.looked.lock().states = now;
    }

    fn read(&self, ip: IpAddr) -> Finding {
        let databases = self.databases.read().clone();
        let (mut asn, mut country) = (None, None);
        for database in databases.iter().flatten() {
            // A broken file is an operating error; the library's checks of it are its own.
            let found = catch_unwind(AssertUnwindSafe(|| entry(database, ip))).unwrap_or_default();
            asn = asn.or(found.0);
            country = country.or(found.1);
        }
        match databases.iter().any(Option::is_some) {
            true => Finding::Origin { asn, country },
            false => unknown(format_args!("origin of {ip}"), "no database could be read"),
        }
    }
}

fn state(file: &Path) -> State {
    match std::fs::metadata(file) {
        Ok(meta) => State::Read(meta.len(), meta.modified().ok()),
        Err(e) => State::Missing(e.to_string()),
    }
}

fn load(file: &Path, state: &State) -> Result<Database, String> {
    match state {
        State::Missing(why) => return Err(why.clone()),
        State::Read(octets, _) if *octets > OCTETS_MAX => {
            return Err(format!("{octets} octets, where {OCTETS_MAX} are allowed"));
        }
        _ => {}
    }
    let read = || Database::open_readfile(file).map_err(|e| format!("expected a database in MaxMind's format: {e}"));
    catch_unwind(read).unwrap_or_else(|_| Err("expected a database in MaxMind's format".into()))
}

/// What one database knows: fields by the names of MaxMind's GeoIP2 and of the databases that follow it.
fn entry(database: &Database, ip: IpAddr) -> (Option<u32>, Option<Box<str>>) {
    let Ok(found) = database.lookup(ip) else { return (None, None) };
    let number = |key: &str| found.decode_path::<u32>(&[PathElement::Key(key)]).ok().flatten();
    let text = |path: &[PathElement<'_>]| found.decode_path::<String>(path).ok().flatten();
    let asn = number("autonomous_system_number").or_else(|| {
        let text = text(&[PathElement::Key("asn")])?;
        text.trim_start_matches("AS").parse().ok()
    });
    let country = ["country", "registered_country"]
        .iter()
        .find_map(|key| text(&[PathElement::Key(key), PathElement::Key("iso_code")]))
        .or_else(|| text(&[PathElement::Key("country_code")]))
        .map(|code| code.to_ascii_uppercase())
        .filter(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()));
    (asn, country.map(Into::into))
}
