//! What a core remembers about each connection of its driver, found by the driver's own id.
//!
//! How it fails: ids of an earlier generation find nothing.

use gatepost::reactor::Id;

/// Values by connection. The driver reuses indexes densely, so a vector does.
pub struct Table<T> {
    rows: Vec<Option<(u32, T)>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: Vec::new(), len: 0 }
    }
}

impl<T> Table<T> {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn insert(&mut self, id: Id, value: T) {
        let index = id.index as usize;
        if index >= self.rows.len() {
            self.rows.resize_with(index + 1, || None);
        }
        if self.rows[index].replace((id.generation, value)).is_none() {
            self.len += 1;
        }
    }
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        match self.rows.get_mut(id.index as usize)? {
            Some((generation, value)) if *generation == id.generation => Some(value),
            _ => None,
        }
    }
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let row = self.rows.get_mut(id.index as usize)?;
        if row.as_ref()?.0 != id.generation {
            return None;
        }
        self.len -= 1;
        row.take().map(|(_, value)| value)
    }
    /// Everything, with its id.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut T)> {
        self.rows.iter_mut().enumerate().filter_map(|(index, row)| {
            row.as_mut().map(|(generation, value)| (Id { index: index as u32, generation: *generation }, value))
        })
    }
}
