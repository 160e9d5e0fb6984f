//! Which transaction records are still needed: those that concern something of which no newer snapshot is durable.
//!
//! How it fails: it does not; it answers which records may be released.

use super::effect::Entity;
use crate::log::Location;
use std::collections::{BTreeMap, HashMap, HashSet};

struct Held {
    at: Location,
    /// Entities for which it is still needed.
    holds: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    transactions: BTreeMap<u64, Held>,
    chains: HashMap<Entity, Vec<u64>>,
    /// Parts of the snapshot of each.
    snapshots: HashMap<Entity, Vec<Location>>,
    octets: u64,
}

impl Ledger {
    /// A durable transaction and what it concerns. False when nothing: it can be released at once.
    pub fn record(&mut self, transaction: u64, at: Location, entities: &HashSet<Entity>) -> bool {
        if entities.is_empty() {
            return false;
        }
        for entity in entities {
            self.chains.entry(*entity).or_default().push(transaction);
        }
        self.octets += at.footprint();
        self.transactions.insert(transaction, Held { at, holds: entities.len() });
        true
    }

    /// Everything on the entity up to `transaction` is in a snapshot now. Returns what may be released.
    pub fn snapshotted(&mut self, entity: Entity, transaction: u64, parts: Vec<Location>) -> Vec<Location> {
        let old = self.snapshots.insert(entity, parts);
        let mut free = old.unwrap_or_default();
        let chain = self.chains.remove(&entity).unwrap_or_default();
        let (past, left): (Vec<u64>, Vec<u64>) = chain.into_iter().partition(|t| *t <= transaction);
        if !left.is_empty() {
            self.chains.insert(entity, left);
        }
        free.extend(past.into_iter().filter_map(|t| self.let_go(t)));
        free
    }

    /// The entity is gone for good.
    pub fn gone(&mut self, entity: Entity) -> Vec<Location> {
        let mut free = self.snapshots.remove(&entity).unwrap_or_default();
        let chain = self.chains.remove(&entity).unwrap_or_default();
        free.extend(chain.into_iter().filter_map(|t| self.let_go(t)));
        free
    }

    fn let_go(&mut self, transaction: u64) -> Option<Location> {
        let held = self.transactions.get_mut(&transaction)?;
        held.holds -= 1;
        if held.holds > 0 {
            return None;
        }
        let at = held.at;
        self.transactions.remove(&transaction);
        self.octets -= at.footprint();
        Some(at)
    }

    /// A transaction's record stands elsewhere now. False when it is not needed any more.
    pub fn moved_transaction(&mut self, transaction: u64, from: Location, to: Location) -> bool {
        match self.transactions.get_mut(&transaction).filter(|h| h.at == from) {
            Some(held) => {
                held.at = to;
                true
            }
            None => false,
        }
    }

    /// A part of a snapshot stands elsewhere now. False when it is not needed any more.
    pub fn moved_part(&mut self, entity: Entity, from: Location, to: Location) -> bool {
        match self.snapshots.get_mut(&entity).and_then(|p| p.iter_mut().find(|at| **at == from)) {
            Some(at) => {
                *at = to;
                true
            }
            None => false,
        }
    }

    /// Octets of the transactions that are needed.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Entities for which the oldest transaction is needed: a snapshot of them lets it go.
    pub fn oldest(&self) -> Vec<Entity> {
        let Some(first) = self.transactions.keys().next() else { return Vec::new() };
        self.chains.iter().filter(|(_, chain)| chain.first() == Some(first)).map(|(entity, _)| *entity).collect()
    }
}
