//! One run of a scenario: everything started, faults at their times, everybody heard, everything ended.
//!
//! How it fails: what does not come up ends the run with one line; whatever was started is ended by its id in any case.

use super::file::{ClientPlan, Kind, Scenario};
use super::place::Places;
use super::process::{Process, free_port, set_up};
use super::result::{self, Sample, ServerUse, Trial};
use super::setting::{Dir, Setting, beside, this_program};
use crate::live::Line;
use crate::{ledger, proc};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How often everything is looked at.
const TURN: Duration = Duration::from_millis(50);
/// How often a moment is written down.
const SAMPLE: Duration = Duration::from_millis(500);
/// Beyond its time a client gets this long to finish; then it is asked to end.
const CLIENT_GRACE: Duration = Duration::from_secs(30);
/// Moments that are kept.
const SAMPLES_MAX: usize = 200_000;

struct Run<'a> {
    scenario: &'a Scenario,
    setting: &'a Setting,
    dir: &'a Path,
    places: Places,
    addresses: BTreeMap<String, SocketAddr>,
    server: Option<Process>,
    /// What the server's start took, which is none of the clients' doing.
    cpu_start: Duration,
    /// Processor time of the lives of the server that are over, and of the one that goes on when it was last seen.
    cpu_before: Duration,
    cpu_now: Duration,
    memory_max: u64,
    restarts: u64,
    sink: Option<Process>,
    sinks: u64,
    timeline: Vec<Sample>,
}

enum Stage {
    Waiting,
    Working(Process, Instant),
    Done,
}

/// Runs `scenario` once.
pub fn run(scenario: &Scenario, setting: &Setting) -> Result<Trial, String> {
    let dir = Dir::make(setting)?;
    let mut run = Run {
        scenario,
        setting,
        dir: &dir.path,
        places: Places::default(),
        addresses: BTreeMap::new(),
        server: None,
        cpu_start: Duration::ZERO,
        cpu_before: Duration::ZERO,
        cpu_now: Duration::ZERO,
        memory_max: 0,
        restarts: 0,
        sink: None,
        sinks: 0,
        timeline: Vec::new(),
    };
    run.prepare()?;
    let elapsed = run.clients()?;
    run.settle();
    let mut trial = run.finish()?;
    trial.elapsed_s = elapsed.as_secs_f64();
    result::judge(&mut trial, scenario, setting.slack);
    Ok(trial)
}

impl Run<'_> {
    fn duration(&self) -> Duration {
        self.scenario.duration.mul_f64(self.setting.scale)
    }

    fn prepare(&mut self) -> Result<(), String> {
        self.addresses.extend(self.setting.targets.iter().cloned());
        let sink = match self.setting.sink {
            Some(address) => address,
            None => free_port()?,
        };
        self.addresses.insert("sink".into(), sink);
        let server = self.scenario.server.as_ref();
        for port in server.map_or(&[][..], |s| &s.ports) {
            self.addresses.insert(port.clone(), free_port()?);
        }
        self.addresses.iter().for_each(|(name, address)| self.places.set(name, address));
        self.places.set("dir", self.dir.display());
        self.places.set("io", format!("{:?}", self.setting.io).to_lowercase());
        self.places.set("ms", self.duration().as_millis());
        if let Some(gatepost) = self.setting.gatepost.clone().or_else(beside) {
            self.places.set("gatepost", gatepost.display());
        }
        for (name, text) in &self.scenario.files {
            let path = self.dir.join(name);
            let text = match self.places.fill(text) {
                Ok(text) => text,
                // A configuration of a server that is not started here may have ports that are not known.
                Err(_) if server.is_none() => continue,
                Err(why) => return Err(format!("{name}: {why}")),
            };
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if let Some(server) = server {
            for (command, input) in &server.setup {
                let command = command.iter().map(|w| self.places.fill(w)).collect::<Result<Vec<_>, _>>()?;
                set_up(&command, &self.places.fill(input)?, self.dir)?;
            }
        }
        self.start_sink()?;
        self.start_server()
    }

    fn start_sink(&mut self) -> Result<(), String> {
        let Some(plan) = &self.scenario.sink else { return Ok(()) };
        let address = self.addresses["sink"];
        let mut command = Command::new(this_program()?);
        command.args(["sink", "--listen", &address.to_string(), "--io", self.places.fill("{io}")?.as_str()]);
        command.arg("--ledger").arg(self.dir.join(format!("sink.{}.seen", self.sinks)));
        command.arg("--json").arg(self.dir.join(format!("sink.{}.json", self.sinks)));
        for option in &plan.options {
            command.arg(self.places.fill(option)?);
        }
        self.sinks += 1;
        let mut sink = Process::start("sink", &mut command)?;
        sink.wait_for(&[address])?;
        self.sink = Some(sink);
        Ok(())
    }

    fn start_server(&mut self) -> Result<(), String> {
        let Some(plan) = &self.scenario.server else { return Ok(()) };
        let words = plan.command.iter().map(|w| self.places.fill(w)).collect::<Result<Vec<_>, _>>()?;
        let Some((program, args)) = words.split_first() else { return Err("the server has no command".into()) };
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir);
        let mut server = Process::start("server", &mut command)?;
        let ports: Vec<SocketAddr> = plan.ports.iter().filter_map(|p| self.addresses.get(p).copied()).collect();
        server.wait_for(&ports)?;
        self.server = Some(server);
        Ok(())
    }

    /// Everybody works; returns how long.
    fn clients(&mut self) -> Result<Duration, String> {
        let total = self.duration();
        let mut stages: Vec<Stage> = self.scenario.clients.iter().map(|_| Stage::Waiting).collect();
        let mut line = self.setting.show.then(|| Line::new(&self.scenario.name, Some(total)));
        self.cpu_start = self.server.as_ref().map_or(Duration::ZERO, |s| proc::tree_cpu(s.pid()));
        let began = Instant::now();
        let mut kill_at = self.kill_every();
        let kill_until = total.mul_f64(self.scenario.server.as_ref().map_or(1.0, |s| s.kill_until));
        let mut sample_at = Duration::ZERO;
        while !stages.iter().all(|s| matches!(s, Stage::Done)) {
            let now = began.elapsed();
            for (n, stage) in stages.iter_mut().enumerate() {
                self.step(&self.scenario.clients[n], stage, now, total)?;
            }
            if let Some(at) = kill_at.filter(|at| now >= *at && now < kill_until) {
                self.kill_server()?;
                kill_at = self.kill_every().map(|every| at + every);
            }
            self.outages(now.as_secs_f64() / total.as_secs_f64().max(1e-9))?;
            if now >= sample_at {
                self.sample(now, &stages);
                sample_at = now + SAMPLE;
                if let Some(line) = &mut line {
                    line.show(&self.summary());
                }
            }
            self.server_lives()?;
            std::thread::sleep(TURN);
        }
        if let Some(line) = line {
            line.end();
        }
        // An outage that ends with the load ends before what is left is waited for.
        self.outages(1.0)?;
        Ok(began.elapsed())
    }

    fn kill_every(&self) -> Option<Duration> {
        // A shorter run is killed as often as the whole one.
        Some(self.scenario.server.as_ref()?.kill_every?.mul_f64(self.setting.scale))
    }

    fn step(&self, plan: &ClientPlan, stage: &mut Stage, now: Duration, total: Duration) -> Result<(), String> {
        match stage {
            Stage::Waiting if now >= total.mul_f64(plan.when.0) => {
                let time = total.mul_f64(plan.when.1 - plan.when.0);
                let process = Process::start(&plan.name, &mut self.command(plan, time)?)?;
                *stage = Stage::Working(process, Instant::now() + time + CLIENT_GRACE);
            }
            Stage::Working(process, limit) => {
                if process.ended().is_some() {
                    *stage = Stage::Done;
                } else if Instant::now() >= *limit {
                    // It still writes its report; a second time it is killed.
                    process.terminate();
                    *limit = Instant::now() + CLIENT_GRACE;
                }
            }
            Stage::Waiting | Stage::Done => {}
        }
        Ok(())
    }

    fn command(&self, plan: &ClientPlan, time: Duration) -> Result<Command, String> {
        let address = self.addresses.get(&plan.to).ok_or_else(|| {
            format!("client {}: no address for {:?}; name it with --target {}=HOST:PORT", plan.name, plan.to, plan.to)
        })?;
        let mut command = Command::new(this_program()?);
        command.args([plan.kind.name(), &address.to_string(), "--io", &self.places.fill("{io}")?]);
        command.arg("--seconds").arg(time.as_secs_f64().to_string());
        command.arg("--json").arg(self.dir.join(format!("{}.json", plan.name)));
        if let Some(rate) = plan.rate {
            command.arg("--rate").arg((rate * self.setting.factor).to_string());
        }
        if let Some(connections) = plan.connections {
            // A rate is what grows; the connections of an open loop are only its limit.
            let factor = if plan.rate.is_some() { self.setting.factor.max(1.0) } else { self.setting.factor };
            command.arg("--connections").arg(((connections as f64 * factor).ceil() as u64).to_string());
        }
        if crate::cli::takes(plan.kind.name(), "progress") {
            command.arg("--progress");
        }
        if let (true, Some(ledger)) = (plan.ledger, ledger_name(plan)) {
            command.arg("--ledger").arg(self.dir.join(ledger));
        }
        for option in &plan.options {
            command.arg(self.places.fill(option)?);
        }
        Ok(command)
    }

    fn kill_server(&mut self) -> Result<(), String> {
        let Some(server) = self.server.take() else { return Ok(()) };
        self.cpu_before += proc::tree_cpu(server.pid());
        self.cpu_now = Duration::ZERO;
        server.kill();
        self.restarts += 1;
        self.start_server()
    }

    /// A server that ends by itself is a result nobody wants to wait for.
    fn server_lives(&mut self) -> Result<(), String> {
        match self.server.as_mut().and_then(|s| s.ended().map(|status| (status, s.last_words()))) {
            Some((status, words)) => Err(format!("the server ended by itself with {status}; it said: {words}")),
            None => Ok(()),
        }
    }

    fn outages(&mut self, at: f64) -> Result<(), String> {
        let Some(plan) = &self.scenario.sink else { return Ok(()) };
        let away = at < 1.0 && plan.outages.iter().any(|(from, to)| (*from..*to).contains(&at));
        match (away, self.sink.is_some()) {
            (true, true) => drop(self.sink.take().and_then(Process::finish)),
            (false, false) => self.start_sink()?,
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, now: Duration, stages: &[Stage]) {
        if let Some(server) = &self.server {
            self.cpu_now = proc::tree_cpu(server.pid());
        }
        let memory = self.server.as_ref().map_or(0, |s| proc::tree_memory_octets(s.pid()));
        self.memory_max = self.memory_max.max(memory);
        let cpu = (self.cpu_before + self.cpu_now).as_secs_f64();
        let clients = stages
            .iter()
            .zip(&self.scenario.clients)
            .filter_map(|(stage, plan)| match stage {
                Stage::Working(process, _) => Some((plan.name.clone(), process.point()?)),
                _ => None,
            })
            .collect();
        if self.timeline.len() < SAMPLES_MAX {
            let at_s = now.as_secs_f64();
            self.timeline.push(Sample { at_s, server_cpu: cpu, server_memory_octets: memory, clients });
        }
    }

    fn summary(&self) -> String {
        let Some(last) = self.timeline.last() else { return String::new() };
        let mut text = format!(
            "server {:.2} s CPU, {:.0} MiB, {} restarts",
            last.server_cpu,
            last.server_memory_octets as f64 / 1_048_576.0,
            self.restarts
        );
        for (name, point) in &last.clients {
            text.push_str(&format!("; {name} {point}"));
        }
        text
    }

    fn ledgers(&self) -> [Vec<PathBuf>; 3] {
        let of = |kind: Kind| -> Vec<PathBuf> {
            let named = self.scenario.clients.iter().filter(|c| c.kind == kind && c.ledger).filter_map(ledger_name);
            named.map(|name| self.dir.join(name)).filter(|p| p.is_file()).collect()
        };
        let sinks = (0..self.sinks).map(|n| self.dir.join(format!("sink.{n}.seen"))).filter(|p| p.is_file());
        [of(Kind::Send), sinks.collect(), of(Kind::Read)]
    }

    /// Waits until everything accepted has arrived, for as long as the scenario allows.
    fn settle(&self) {
        let began = Instant::now();
        let [sent, seen, _] = self.ledgers();
        if sent.is_empty() || self.scenario.sink.is_none() {
            return;
        }
        while began.elapsed() < self.scenario.settle {
            if ledger::join(&sent, &seen).is_ok_and(|a| a.lost == 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn finish(mut self) -> Result<Trial, String> {
        if let Some(server) = self.server.take() {
            self.cpu_now = proc::tree_cpu(server.pid());
            self.memory_max = self.memory_max.max(proc::tree_memory_octets(server.pid()));
            server.finish();
        }
        self.sink.take().map(Process::finish);
        let mut clients = BTreeMap::new();
        for plan in &self.scenario.clients {
            let path = self.dir.join(format!("{}.json", plan.name));
            let text =
                std::fs::read_to_string(&path).map_err(|_| format!("client {}: it left no report", plan.name))?;
            let mut report: Value =
                serde_json::from_str(&text).map_err(|e| format!("client {}: its report: {e}", plan.name))?;
            // Its own seconds count from here.
            report["begins_s"] = self.duration().mul_f64(plan.when.0).as_secs_f64().into();
            clients.insert(plan.name.clone(), report);
        }
        let [sent, seen, read] = self.ledgers();
        let observed = !seen.is_empty() || !read.is_empty();
        let ledger = (observed && !sent.is_empty())
            .then(|| ledger::accounts(&sent, &seen, &read))
            .transpose()
            .map_err(|e| e.to_string())?;
        Ok(Trial {
            clients,
            ledger,
            sink: self.sink_counts(),
            server: ServerUse {
                cpu_s: (self.cpu_before + self.cpu_now).saturating_sub(self.cpu_start).as_secs_f64(),
                memory_octets_max: self.memory_max,
                restarts: self.restarts,
            },
            timeline: busy(self.timeline),
            ..Trial::default()
        })
    }

    fn sink_counts(&self) -> BTreeMap<String, f64> {
        let mut counts = BTreeMap::new();
        for n in 0..self.sinks {
            let text = std::fs::read_to_string(self.dir.join(format!("sink.{n}.json"))).unwrap_or_default();
            let Ok(Value::Object(report)) = serde_json::from_str(&text) else { continue };
            for (name, value) in report {
                *counts.entry(name).or_insert(0.0) += value.as_f64().unwrap_or(0.0);
            }
        }
        counts
    }
}

/// Where a client writes down what it sent or read.
fn ledger_name(plan: &ClientPlan) -> Option<String> {
    match plan.kind {
        Kind::Send => Some(format!("{}.sent", plan.name)),
        Kind::Read => Some(format!("{}.read", plan.name)),
        Kind::Attack => None,
    }
}

/// Processor time so far becomes cores busy since the moment before.
fn busy(mut timeline: Vec<Sample>) -> Vec<Sample> {
    // Before the first moment there is the server's start, which is not what is looked at.
    let (mut at, mut cpu) = timeline.first().map_or((0.0, 0.0), |s| (s.at_s, s.server_cpu));
    for sample in &mut timeline {
        let (now, total) = (sample.at_s, sample.server_cpu);
        sample.server_cpu = if now > at { ((total - cpu) / (now - at)).max(0.0) } else { 0.0 };
        (at, cpu) = (now, total);
    }
    timeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_becomes_cores() {
        let at = |at_s, server_cpu| Sample { at_s, server_cpu, ..Sample::default() };
        let cores: Vec<f64> =
            busy(vec![at(0.0, 0.1), at(0.5, 0.35), at(1.5, 1.35)]).iter().map(|s| s.server_cpu).collect();
        assert!(cores.iter().zip([0.0, 0.5, 1.0]).all(|(got, want)| (got - want).abs() < 1e-9), "{cores:?}");
    }
}
