//! Where every frame is. The kernel is trusted to keep its side of the rings, and checked all the same: a descriptor
//! that comes back twice or was never given is counted and not used again.

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// The worker: free, or in its hands.
    Worker,
    /// The kernel, for receiving.
    Fill,
    /// The kernel, for sending.
    Tx,
}

/// Frames by place. `fill + tx + worker` is all of them at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Census {
    /// With the kernel for receiving.
    pub fill: u64,
    /// With the kernel for sending.
    pub tx: u64,
    /// With the worker, free or in its hands.
    pub worker: u64,
    /// Those of `worker` that are free. Between two turns all of them are; what is missing has leaked.
    pub free: u64,
    /// Descriptors that the kernel gave back without having them, or that point where no frame can begin or end. Each is
    /// ignored; it is no frame, and the sum does not need it.
    pub quarantined: u64,
}

impl Census {
    /// All frames.
    pub fn total(&self) -> u64 {
        self.fill + self.tx + self.worker
    }
}

/// The place of each frame of a memory, by number.
#[derive(Debug)]
pub struct Ledger {
    places: Box<[Place]>,
    census: Census,
}

impl Ledger {
    /// A ledger of `frames` frames, all with the worker.
    pub fn new(frames: usize) -> Self {
        Self {
            places: vec![Place::Worker; frames].into_boxed_slice(),
            census: Census { worker: frames as u64, ..Census::default() },
        }
    }

    /// Notes that a frame moves. Returns whether it was where it should be; if not, nothing changes but the number of
    /// quarantined descriptors, and the descriptor must not be used.
    #[inline]
    pub fn move_frame(&mut self, frame: usize, from: Place, to: Place) -> bool {
        match self.places.get_mut(frame) {
            Some(place) if *place == from => {
                *place = to;
                *self.census.count_mut(from) -= 1;
                *self.census.count_mut(to) += 1;
                true
            }
            _ => {
                self.refuse();
                false
            }
        }
    }

    /// Notes a descriptor that is not used, whatever is wrong with it.
    #[inline]
    pub fn refuse(&mut self) {
        self.census.quarantined += 1;
    }

    /// The sums, `free` being the frames on the port's free list.
    #[inline]
    pub fn census(&self, free: usize) -> Census {
        Census { free: free as u64, ..self.census }
    }
}

impl Census {
    #[inline]
    fn count_mut(&mut self, place: Place) -> &mut u64 {
        match place {
            Place::Worker => &mut self.worker,
            Place::Fill => &mut self.fill,
            Place::Tx => &mut self.tx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        prop::sample::select(vec![Place::Worker, Place::Fill, Place::Tx])
    }

    proptest! {
        #[test]
        fn the_sum_never_changes(moves in prop::collection::vec((0usize..10, place(), place()), 0..200)) {
            let mut ledger = Ledger::new(8);
            let mut model = [Place::Worker; 8];
            let mut refused = 0;
            for (frame, from, to) in moves {
                let expected = model.get(frame) == Some(&from);
                prop_assert_eq!(ledger.move_frame(frame, from, to), expected);
                if expected {
                    model[frame] = to;
                } else {
                    refused += 1;
                }
                let census = ledger.census(0);
                prop_assert_eq!(census.total(), 8);
                prop_assert_eq!(census.fill, model.iter().filter(|p| **p == Place::Fill).count() as u64);
                prop_assert_eq!(census.quarantined, refused);
            }
        }
    }
}
