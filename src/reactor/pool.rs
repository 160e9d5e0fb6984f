//! Receive buffers of a core: one slab of equal buffers that connections borrow while data is in flight.
//!
//! A buffer belongs to the core, not to the connection: an idle connection holds none. [`RecvBuf`] is a loan that goes
//! back when it is dropped; it keeps the slab alive, so it may outlive its driver. How it fails: an empty pool lends
//! nothing (`None`), and the drivers wait for a buffer to come back. Only `Pool::new` can fail, for want of memory.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

/// Anonymous memory of its own, page-aligned, zero, and only backed by the kernel where it has been touched.
pub(super) struct Mapping {
    base: NonNull<u8>,
    octets: usize,
}

impl Mapping {
    pub(super) fn new(octets: usize) -> io::Result<Mapping> {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), octets, prot, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, octets })
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned, unmapped once; the owners of pointers into it keep this value alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.octets) };
    }
}

struct Slab {
    memory: Mapping,
    buffer_octets: usize,
    count: u16,
    /// Buffers nobody holds. The epoll driver borrows from the end (the buffer used last is still in the cache); the
    /// ring driver moves all of them into the kernel's ring.
    free: RefCell<Vec<u16>>,
    on_loan: Cell<u32>,
}

/// The buffers of one core.
#[derive(Clone)]
pub(super) struct Pool(Rc<Slab>);

impl Pool {
    /// `count` buffers of `buffer_octets` each.
    pub(super) fn new(count: u16, buffer_octets: usize) -> io::Result<Pool> {
        debug_assert!(count > 0 && buffer_octets > 0 && u32::try_from(buffer_octets).is_ok());
        let memory = Mapping::new(usize::from(count) * buffer_octets)?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(Pool(Rc::new(Slab { memory, buffer_octets, count, free, on_loan: Cell::new(0) })))
    }

    pub(super) fn buffer_octets(&self) -> usize {
        self.0.buffer_octets
    }

    /// Buffers that machines hold at the moment.
    pub(super) fn on_loan(&self) -> u32 {
        self.0.on_loan.get()
    }

    /// Buffers that nobody holds, wherever they lie.
    pub(super) fn available(&self) -> u32 {
        u32::from(self.0.count) - self.0.on_loan.get()
    }

    /// Takes a free buffer to receive into; `None` while all are on loan.
    pub(super) fn claim(&self) -> Option<Claim<'_>> {
        let id = self.0.free.borrow_mut().pop()?;
        Some(Claim { pool: self, id })
    }

    /// Takes every free buffer: id and address. The taker lends them to the kernel.
    pub(super) fn take_free(&self, mut each: impl FnMut(u16, *mut u8)) {
        self.0.free.borrow_mut().drain(..).for_each(|id| each(id, self.address(id)));
    }

    /// Puts back a buffer that the kernel had taken and that carries nothing.
    pub(super) fn give_back(&self, id: u16) {
        debug_assert!(id < self.0.count && !self.0.free.borrow().contains(&id));
        self.0.free.borrow_mut().push(id);
    }

    /// Lends buffer `id`, whose first `octets` are filled. The caller has it from the kernel or from a [`Claim`].
    pub(super) fn lend(&self, id: u16, octets: usize) -> RecvBuf {
        debug_assert!(id < self.0.count && octets <= self.0.buffer_octets);
        self.0.on_loan.set(self.0.on_loan.get() + 1);
        RecvBuf(Held::Loan { slab: Rc::clone(&self.0), id, octets: octets as u32 })
    }

    fn address(&self, id: u16) -> *mut u8 {
        self.0.address(id)
    }
}

impl Slab {
    fn address(&self, id: u16) -> *mut u8 {
        assert!(id < self.count);
        // SAFETY: the mapping holds `count` buffers, and `id` is below `count`.
        unsafe { self.memory.base().add(usize::from(id) * self.buffer_octets) }
    }
}

/// A free buffer in the hands of the epoll driver, between claim and read.
pub(super) struct Claim<'a> {
    pool: &'a Pool,
    id: u16,
}

impl Claim<'_> {
    /// The whole buffer.
    pub(super) fn space(&mut self) -> &mut [std::mem::MaybeUninit<u8>] {
        // SAFETY: the buffer left the free list with this claim, so nobody else has a reference into it.
        unsafe { std::slice::from_raw_parts_mut(self.pool.address(self.id).cast(), self.pool.0.buffer_octets) }
    }

    /// Lends the buffer; the first `octets` were received into it.
    pub(super) fn filled(self, octets: usize) -> RecvBuf {
        let buf = self.pool.lend(self.id, octets);
        // The loan has taken over; nothing is left to give back.
        let _ = std::mem::ManuallyDrop::new(self);
        buf
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

enum Held {
    Loan { slab: Rc<Slab>, id: u16, octets: u32 },
    Copy(Box<[u8]>),
}

/// Octets that arrived: at least one. A loan from the core's pool that goes back when it is dropped, so hold it no
/// longer than the turn: copy what must stay. It cannot leave its thread.
pub struct RecvBuf(Held);

impl RecvBuf {
    /// Octets that had to leave their buffer because nobody wanted them yet.
    pub(super) fn copied(octets: Box<[u8]>) -> RecvBuf {
        RecvBuf(Held::Copy(octets))
    }
}

impl Deref for RecvBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the loan is the only holder of buffer `id` until it is dropped, `octets` is at most its length
            // (asserted when it was lent), the memory was zero when mapped, and `slab` keeps it mapped.
            Held::Loan { slab, id, octets } => unsafe {
                std::slice::from_raw_parts(slab.address(*id), *octets as usize)
            },
            Held::Copy(octets) => octets,
        }
    }
}

impl fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvBuf({} octets)", self.len())
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if let Held::Loan { slab, id, .. } = &self.0 {
            slab.on_loan.set(slab.on_loan.get() - 1);
            slab.free.borrow_mut().push(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_goes_back_and_the_hottest_buffer_is_lent_first() {
        let pool = Pool::new(2, 4096).unwrap();
        let mut claim = pool.claim().unwrap();
        claim.space()[0].write(b'x');
        let first = claim.filled(1);
        assert_eq!(&*first, b"x");
        let second = pool.claim().unwrap().filled(0);
        assert!(pool.claim().is_none());
        assert_eq!((pool.on_loan(), pool.available()), (2, 0));
        let address = first.as_ptr();
        drop((second, first));
        assert_eq!((pool.on_loan(), pool.available()), (0, 2));
        assert_eq!(pool.claim().unwrap().space().as_ptr().cast(), address);
        assert!(pool.claim().is_some(), "an unused claim goes back");
    }

    #[test]
    fn a_loan_outlives_its_pool() {
        let pool = Pool::new(1, 16).unwrap();
        let mut claim = pool.claim().unwrap();
        claim.space()[..2].fill(std::mem::MaybeUninit::new(7));
        let buf = claim.filled(2);
        drop(pool);
        assert_eq!(&*buf, [7, 7]);
    }
}
