#![allow(unsafe_code, reason = "crossbeam's epochs hand out shared pointers whose lifetime the type system cannot see")]
//! Publication without locks: a reader sees the newest value by one atomic load, the old one is freed when no reader
//! can see it any more.
//!
//! This is crossbeam's epoch-based reclamation and adds nothing to its protocol: the pointer is swapped with
//! `AcqRel`, readers load it with `Acquire` while pinned, and the old value is handed to `defer_unchecked`, which by the
//! library's contract runs only after every thread that was pinned at the swap has unpinned. So there is no
//! interleaving of our own to model-check.
//!
//! The library lets any thread that pins run what was deferred, now and then. Here that only moves a pointer into a
//! queue, also the library's: whoever publishes frees the values, and never a reader, whose time is its packets'.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::epoch::{Atomic, Collector, Guard, LocalHandle, Owned};
use crossbeam::queue::SegQueue;

/// A value that is replaced as a whole.
#[derive(Debug)]
pub struct Published<T> {
    current: Atomic<T>,
    collector: Collector,
    /// What no reader can see any more, to be freed.
    retired: Arc<SegQueue<Box<T>>>,
}

impl<T: Send + Sync> Published<T> {
    /// Publishes a first value.
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self { current: Atomic::new(value), collector: Collector::new(), retired: Arc::default() })
    }

    /// Replaces the value. Readers see the new one from their next [`Reader::pin`] on.
    pub fn publish(&self, value: T) {
        let handle = self.collector.register();
        let guard = handle.pin();
        let old = self.current.swap(Owned::new(value), Ordering::AcqRel, &guard);
        let retired = Arc::clone(&self.retired);
        // SAFETY: `old` came out of `current`, which nobody can load it from any more, and it was made by `Owned::new`.
        // Readers that still hold it are pinned, and what is deferred waits for them; so it is then ours alone. It may
        // run on another thread: `T` is `Send`, and the closure owns all that it has.
        unsafe { guard.defer_unchecked(move || retired.push(old.into_owned().into_box())) };
        guard.flush();
        drop(guard);
        self.collect();
    }

    /// Frees what no reader can see any more. [`Self::publish`] does so too; this is for a quiet moment after.
    pub fn collect(&self) {
        let handle = self.collector.register();
        // An epoch advances by one at each collection at most, and garbage is freed two epochs later.
        for _ in 0..4 {
            handle.pin().flush();
        }
        while self.retired.pop().is_some() {}
    }

    /// A reader for one thread.
    pub fn reader(self: &Arc<Self>) -> Reader<T> {
        Reader { handle: self.collector.register(), published: Arc::clone(self) }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self` says that no reader is left (each holds an `Arc` of this), so nobody else can load or
        // hold the current value, and it was made by `Owned::new` or `Atomic::new`.
        unsafe {
            let current = std::mem::take(&mut self.current);
            drop(current.try_into_owned());
        }
    }
}

/// One thread's access to a [`Published`] value.
#[derive(Debug)]
pub struct Reader<T> {
    handle: LocalHandle,
    published: Arc<Published<T>>,
}

impl<T> Reader<T> {
    /// Holds on to the newest value. While it is held no older one is freed, so drop it before sleeping.
    #[inline]
    pub fn pin(&self) -> Pinned<'_, T> {
        let guard = self.handle.pin();
        let shared = self.published.current.load(Ordering::Acquire, &guard);
        Pinned { value: shared.as_raw(), _guard: guard, _reader: PhantomData }
    }
}

/// A value that stays valid as long as this is held.
#[derive(Debug)]
pub struct Pinned<'reader, T> {
    value: *const T,
    _guard: Guard,
    _reader: PhantomData<&'reader Reader<T>>,
}

impl<T> Deref for Pinned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer was loaded while `_guard` was pinned and is not null, since `Published` always holds a
        // value while a `Reader` (and so its `Arc`) lives, which `_reader` sees to; the guard keeps it from being freed.
        unsafe { &*self.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    /// Counts itself out, and shows whether it has been freed.
    struct Canary {
        number: usize,
        alive: AtomicBool,
        dropped: Arc<AtomicUsize>,
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.alive.store(false, Ordering::SeqCst);
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Each collection frees a bounded number of values.
    fn collect_all<T: Send + Sync>(published: &Published<T>) {
        for _ in 0..1000 {
            published.collect();
        }
    }

    #[test]
    fn readers_see_live_values_in_order_and_every_old_one_is_freed() {
        const LAST: usize = 2000;
        let dropped = Arc::new(AtomicUsize::new(0));
        let canary = |number| Canary { number, alive: AtomicBool::new(true), dropped: Arc::clone(&dropped) };
        let published = Published::new(canary(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                let reader_of = Arc::clone(&published);
                scope.spawn(move || {
                    let reader = reader_of.reader();
                    let mut seen = 0;
                    while seen < LAST {
                        let pinned = reader.pin();
                        assert!(pinned.alive.load(Ordering::SeqCst));
                        assert!(pinned.number >= seen);
                        seen = pinned.number;
                        thread::yield_now();
                        assert!(pinned.alive.load(Ordering::SeqCst), "freed while held");
                    }
                });
            }
            for number in 1..=LAST {
                published.publish(canary(number));
            }
        });
        collect_all(&published);
        assert_eq!(dropped.load(Ordering::SeqCst), LAST, "all but the current one");
        drop(published);
        assert_eq!(dropped.load(Ordering::SeqCst), LAST + 1);
    }

    /// A worker must not spend its time on tearing down a table.
    #[test]
    fn readers_free_nothing_however_often_they_pin() {
        struct FreedBy(Arc<std::sync::Mutex<Vec<thread::ThreadId>>>);
        impl Drop for FreedBy {
            fn drop(&mut self) {
                self.0.lock().unwrap().push(thread::current().id());
            }
        }
        let freed_by = Arc::default();
        let published = Published::new(FreedBy(Arc::clone(&freed_by)));
        for _ in 0..50 {
            let reader_of = Arc::clone(&published);
            let (held, publish) = std::sync::mpsc::channel();
            let (done, go_on) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                let reader = reader_of.reader();
                let pinned = reader.pin();
                held.send(()).unwrap();
                go_on.recv().unwrap();
                drop(pinned);
                // The library has every 128th pin collect.
                (0..2000).for_each(|_| drop(reader.pin()));
            });
            publish.recv().unwrap();
            published.publish(FreedBy(Arc::clone(&freed_by)));
            done.send(()).unwrap();
            thread.join().unwrap();
        }
        collect_all(&published);
        let freed_by = freed_by.lock().unwrap();
        assert_eq!(freed_by.len(), 50);
        assert!(freed_by.iter().all(|id| *id == thread::current().id()), "a reader freed a value");
    }

    #[test]
    fn nothing_piles_up_while_readers_sleep() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let canary = |number| Canary { number, alive: AtomicBool::new(true), dropped: Arc::clone(&dropped) };
        let published = Published::new(canary(0));
        let readers = [published.reader(), published.reader()];
        assert_eq!(readers[0].pin().number, 0);
        for number in 1..=10_000 {
            published.publish(canary(number));
            let left = number - dropped.load(Ordering::SeqCst);
            assert!(left <= 2, "{left} old values are kept");
        }
        assert_eq!(readers[1].pin().number, 10_000);
    }

    #[test]
    fn a_held_value_is_not_freed() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let canary = |number| Canary { number, alive: AtomicBool::new(true), dropped: Arc::clone(&dropped) };
        let published = Published::new(canary(0));
        let reader = published.reader();
        let held = reader.pin();
        for number in 1..100 {
            published.publish(canary(number));
        }
        assert_eq!(held.number, 0);
        assert!(held.alive.load(Ordering::SeqCst));
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        assert_eq!(reader.pin().number, 99);
        drop(held);
        collect_all(&published);
        assert_eq!(dropped.load(Ordering::SeqCst), 99);
    }
}
