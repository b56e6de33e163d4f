//! The memory of written sequences: keys and values in pages of one bounded pool.
//!
//! A page holds [`PAGE`] positions of one sequence. Once full it never changes, and what is in it follows from
//! the tokens up to its end alone: by the third law its bits are the same whatever batch it was computed in. So
//! pages are remembered under a chain of hashes of those tokens, and a sequence that starts with the same tokens
//! shares them. Nobody needs a remembered page that no sequence uses: the least recently used is the first to go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use zoo_content::Digest;
use zoo_kernels::attention::PAGE;

use crate::decode::Decoder;
use crate::error::NetworkError;

/// The pages of a whole network, and who uses them.
#[derive(Debug)]
pub struct PagePool {
    /// Who uses which.
    pub table: PageTable,
    pub(crate) pages: Pages,
}

/// Keys and values of all sequences that are being written. It is told which page to write: a stage of a network has one, and the table is elsewhere.
#[derive(Debug)]
pub struct Pages {
    /// Of each VNode; those that are not attention have none.
    pub(crate) nodes: Vec<NodePages>,
    count: usize,
}

/// Which sequences use which pages, and what is remembered in the others.
#[derive(Debug)]
pub struct PageTable {
    pages: Vec<Page>,
    /// Pages with nothing in them.
    empty: Vec<u32>,
    /// Pages that no sequence uses, least recently used first.
    unused: BTreeMap<u64, u32>,
    /// Full pages by the tokens up to their end.
    remembered: BTreeMap<Digest, u32>,
    /// Counts releases, so that pages have an age.
    releases: u64,
}

/// The pages of one attention VNode, one after the other.
#[derive(Debug, Default)]
pub(crate) struct NodePages {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// Sequences that use it.
    users: u32,
    /// Under what it is remembered.
    name: Option<Digest>,
    /// When it was last released, if nobody uses it.
    released: u64,
}

/// A sequence that is being written: which pages hold its positions. [`PageTable::release`] gives them back.
#[derive(Debug, Default)]
pub struct Sequence {
    pub(crate) pages: Vec<u32>,
    positions: usize,
    /// Tokens of the last page that is not full.
    tail: Vec<u32>,
    /// The name of the last full page.
    chain: Option<Digest>,
}

impl Sequence {
    /// Positions written so far.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Its pages, in order.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Pages that `count` more positions take.
    pub fn pages_for(&self, count: usize) -> usize {
        (self.positions + count).div_ceil(PAGE) - self.pages.len()
    }
}

impl PagePool {
    /// Room for `positions` positions of sequences of `decoder`, rounded up to whole pages. The system commits
    /// memory when it is first written.
    pub fn new(decoder: &Decoder, positions: usize) -> Self {
        let table = PageTable::new(positions);
        let pages = decoder.stage().pages(table.pages());
        Self { table, pages }
    }
}

impl Pages {
    /// `count` pages for VNodes with keys of these widths, 0 where one is not attention.
    pub(crate) fn new(widths: impl Iterator<Item = usize>, count: usize) -> Self {
        let node = |width: usize| NodePages {
            keys: vec![0.0; count * width * PAGE],
            values: vec![0.0; count * width * PAGE],
        };
        Self { nodes: widths.map(node).collect(), count }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl PageTable {
    /// Pages for `positions` positions, rounded up.
    pub fn new(positions: usize) -> Self {
        let count = positions.div_ceil(PAGE);
        Self {
            pages: vec![Page::default(); count],
            empty: (0..count as u32).rev().collect(),
            unused: BTreeMap::new(),
            remembered: BTreeMap::new(),
            releases: 0,
        }
    }

    /// Positions that fit into it.
    pub fn positions(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Pages in all.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that no sequence uses.
    pub fn available(&self) -> usize {
        self.empty.len() + self.unused.len()
    }

    /// Pages that no sequence uses, but that one with the same start would find again.
    pub fn reusable(&self) -> usize {
        self.unused.len()
    }

    /// A sequence that starts with what is remembered of `tokens`, whole pages of it, and never all: of the last
    /// token somebody will want the logits. [`Sequence::positions`] says how many there are; the others are still
    /// to be decoded.
    pub fn open(&mut self, tokens: &[u32]) -> Sequence {
        let mut sequence = Sequence::default();
        let most = tokens.len().saturating_sub(1) / PAGE * PAGE;
        for tokens in tokens[..most].chunks_exact(PAGE) {
            let name = name(sequence.chain, tokens);
            let Some(&page) = self.remembered.get(&name) else { break };
            self.share(page);
            sequence.pages.push(page);
            sequence.positions += PAGE;
            sequence.chain = Some(name);
        }
        sequence
    }

    /// Gives back the pages of a sequence, which is then empty; the full ones stay remembered while there is room.
    pub fn release(&mut self, sequence: &mut Sequence) {
        // The last first: the start of a text is of use without its end, but not the other way round.
        for page in std::mem::take(sequence).pages.into_iter().rev() {
            let state = &mut self.pages[page as usize];
            state.users -= 1;
            if state.users > 0 {
                continue;
            }
            if state.name.is_some() {
                self.releases += 1;
                state.released = self.releases;
                self.unused.insert(self.releases, page);
            } else {
                self.empty.push(page);
            }
        }
    }

    /// Forgets what no sequence uses.
    pub fn forget(&mut self) {
        while let Some(page) = self.evict() {
            self.empty.push(page);
        }
    }

    /// Takes the pages that `count` more positions need.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn grow(&mut self, sequence: &mut Sequence, count: usize) -> Result<(), NetworkError> {
        let needed = sequence.pages_for(count);
        if needed > self.available() {
            return Err(NetworkError::Pages { needed, available: self.available() });
        }
        for _ in 0..needed {
            let page = self.empty.pop().or_else(|| self.evict()).expect("it was counted");
            self.pages[page as usize] = Page { users: 1, ..Page::default() };
            sequence.pages.push(page);
        }
        Ok(())
    }

    /// Notes that the positions of `tokens` have been written, and remembers the pages that they filled.
    pub fn advance(&mut self, sequence: &mut Sequence, tokens: &[u32]) {
        for &token in tokens {
            sequence.tail.push(token);
            sequence.positions += 1;
            if sequence.tail.len() < PAGE {
                continue;
            }
            let name = name(sequence.chain, &sequence.tail);
            let page = sequence.pages[sequence.positions / PAGE - 1];
            // Another sequence may have written the same at the same time: one of them is enough to remember.
            if let Entry::Vacant(place) = self.remembered.entry(name) {
                place.insert(page);
                self.pages[page as usize].name = Some(name);
            }
            sequence.chain = Some(name);
            sequence.tail.clear();
        }
    }

    fn share(&mut self, page: u32) {
        let state = &mut self.pages[page as usize];
        if state.users == 0 {
            self.unused.remove(&state.released);
        }
        state.users += 1;
    }

    /// Forgets the page that has been without a user for longest.
    fn evict(&mut self) -> Option<u32> {
        let (_, page) = self.unused.pop_first()?;
        let name = self.pages[page as usize].name.take().expect("an unused page is remembered");
        self.remembered.remove(&name);
        Some(page)
    }
}

/// The name of a full page: of its tokens and of all before them.
fn name(before: Option<Digest>, tokens: &[u32]) -> Digest {
    let mut bytes = before.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec());
    tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
    Digest::of(&bytes)
}
