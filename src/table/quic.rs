//! Which real server chose a QUIC connection id.

use crate::wire::quic::ServerId;

/// The real servers of a service by the ids that they put into connection ids, all of one length.
#[derive(Debug)]
pub struct QuicServers {
    id_len: usize,
    /// Positions in the table's real servers, sorted by id.
    positions: Box<[(ServerId, u32)]>,
}

impl QuicServers {
    /// The real servers of these ids; `None` if there are none. An id of another length than the first one's is never
    /// found.
    pub fn new(ids: impl IntoIterator<Item = (ServerId, u32)>) -> Option<Self> {
        let mut positions: Vec<_> = ids.into_iter().collect();
        let id_len = positions.first()?.0.len();
        positions.sort_unstable();
        Some(Self { id_len, positions: positions.into_boxed_slice() })
    }

    /// Octets of an id.
    #[inline]
    pub fn id_len(&self) -> usize {
        self.id_len
    }

    /// Position of the real server of an id, in the table's real servers.
    #[inline]
    pub fn position_of(&self, id: &ServerId) -> Option<u32> {
        let at = self.positions.binary_search_by(|(known, _)| known.cmp(id)).ok()?;
        self.positions.get(at).map(|(_, position)| *position)
    }
}
