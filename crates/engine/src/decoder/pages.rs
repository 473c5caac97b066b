//! Keys and values of all sequences, in pages of [`PAGE`] positions from one bounded pool; full pages may be shared by sequences that begin alike.

use std::collections::HashMap;

use hallmark_model::llm::Architecture;
use hallmark_receipt::Digest;

use crate::kernels::attention::{PAD, PAGE};
use crate::kernels::gemm::pack::Lines;

/// A page's place in the pool.
pub(crate) type PageId = usize;

/// What a page holds: for each layer and key/value head, keys [head_dim][PAGE], then values [PAGE][padded].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) padded: usize,
    layers: usize,
}

impl Layout {
    pub(crate) fn of(a: &Architecture) -> Self {
        Self::new(a.layers, a.kv_heads, a.head_dim)
    }

    pub(crate) fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self { kv_heads, head_dim, padded: head_dim.next_multiple_of(PAD), layers }
    }

    fn head(&self) -> usize {
        PAGE * (self.head_dim + self.padded)
    }

    /// Bytes of a page.
    pub(crate) fn bytes(&self) -> usize {
        self.layers * self.kv_heads * self.head() * size_of::<f32>()
    }

    /// First element of a head.
    fn at(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * self.head()
    }
}

/// The tokens that a full page and all pages before it hold, as a collision-free name.
pub(crate) type Prefix = Digest;

/// The name of `tokens` after `before`.
pub(crate) fn extend(before: &Prefix, tokens: &[u32]) -> Prefix {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    Digest::of(&[before.as_bytes(), &bytes])
}

#[derive(Debug)]
struct Page {
    data: Lines,
    /// Sequences that read it.
    users: usize,
    /// Its name in the index, once it is full.
    prefix: Option<Prefix>,
    /// When it was last let go.
    idle_since: u64,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pages {
    layout: Layout,
    limit: usize,
    pages: Vec<Page>,
    free: Vec<PageId>,
    index: HashMap<Prefix, PageId>,
    clock: u64,
}

impl Pages {
    /// A pool of at most `limit` pages; memory is taken as they are needed.
    pub(crate) fn new(layout: Layout, limit: usize) -> Self {
        Self { layout, limit, pages: Vec::new(), free: Vec::new(), index: HashMap::new(), clock: 0 }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Pages that there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A page for one sequence to write: a free one, a new one, or the one that has been idle longest. `None` if all are in use.
    pub(crate) fn take(&mut self) -> Option<PageId> {
        let id = if let Some(id) = self.free.pop() {
            id
        } else if self.pages.len() < self.limit {
            let data = Lines::zeroed(self.layout.bytes() / size_of::<f32>());
            self.pages.push(Page { data, users: 0, prefix: None, idle_since: 0 });
            self.pages.len() - 1
        } else {
            let idle = self.pages.iter().enumerate().filter(|(_, page)| page.users == 0);
            let (id, _) = idle.min_by_key(|(_, page)| page.idle_since)?;
            id
        };
        let page = &mut self.pages[id];
        page.users = 1;
        if let Some(prefix) = page.prefix.take() {
            self.index.remove(&prefix);
        }
        Some(id)
    }

    /// The page that holds `prefix`, now read by one sequence more.
    pub(crate) fn share(&mut self, prefix: &Prefix) -> Option<PageId> {
        let id = *self.index.get(prefix)?;
        self.pages[id].users += 1;
        Some(id)
    }

    /// Makes a full page known to sequences that begin alike; the first of two equal ones is kept.
    pub(crate) fn publish(&mut self, id: PageId, prefix: Prefix) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.index.entry(prefix) {
            entry.insert(id);
            self.pages[id].prefix = Some(prefix);
        }
    }

    /// One sequence reads `id` no more.
    pub(crate) fn release(&mut self, id: PageId) {
        self.clock += 1;
        let page = &mut self.pages[id];
        page.users -= 1;
        page.idle_since = self.clock;
        if page.users == 0 && page.prefix.is_none() {
            self.free.push(id);
        }
    }

    /// Keys of a page's head.
    pub(crate) fn keys(&self, id: PageId, layer: usize, head: usize) -> &[f32] {
        let at = self.layout.at(layer, head);
        &self.pages[id].data.as_slice()[at..at + self.layout.head_dim * PAGE]
    }

    /// Values of a page's head.
    pub(crate) fn values(&self, id: PageId, layer: usize, head: usize) -> &[f32] {
        let at = self.layout.at(layer, head);
        &self.pages[id].data.as_slice()[at + self.layout.head_dim * PAGE..at + self.layout.head()]
    }

    /// Writes all heads of one position.
    pub(crate) fn write(&mut self, id: PageId, layer: usize, slot: usize, key: &[f32], value: &[f32]) {
        let layout = self.layout;
        let data = self.pages[id].data.as_mut_slice();
        let heads = key.chunks_exact(layout.head_dim).zip(value.chunks_exact(layout.head_dim));
        for (head, (key, value)) in heads.enumerate() {
            let at = layout.at(layer, head);
            let (keys, values) = data[at..at + layout.head()].split_at_mut(layout.head_dim * PAGE);
            for (to, from) in keys.iter_mut().skip(slot).step_by(PAGE).zip(key) {
                *to = *from;
            }
            values[slot * layout.padded..slot * layout.padded + layout.head_dim].copy_from_slice(value);
        }
    }
}
