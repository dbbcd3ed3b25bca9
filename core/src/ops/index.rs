//! Where in an object each key is.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The positions of an object's members, by what their keys name.
#[derive(Debug)]
pub(super) struct Index {
    /// Those that there were when the index was made, in the order of their names, duplicates in their own.
    sorted: Vec<Entry>,
    /// Those that came since then.
    added: BTreeMap<Box<[u8]>, usize>,
}

#[derive(Debug)]
struct Entry {
    position: usize,
    /// The name, if it is not simply what stands between the quotes of the key.
    decoded: Option<Box<[u8]>>,
}

impl Index {
    /// An index of these names, borrowed where they are what stands between a key's quotes.
    pub(super) fn new(mut names: Vec<(Cow<'_, [u8]>, usize)>) -> Index {
        names.sort();
        let entry = |(name, position): (Cow<'_, [u8]>, usize)| match name {
            Cow::Borrowed(_) => Entry { position, decoded: None },
            Cow::Owned(name) => Entry { position, decoded: Some(name.into()) },
        };
        let mut sorted: Vec<_> = names.into_iter().map(entry).collect();
        // It may have taken over the room of the names.
        sorted.shrink_to_fit();
        Index { sorted, added: BTreeMap::new() }
    }

    /// A member was put to the end, with a name that no other has.
    pub(super) fn add(&mut self, name: &[u8], position: usize) {
        self.added.insert(name.into(), position);
    }

    /// All members of this name are gone.
    pub(super) fn remove(&mut self, name: &[u8]) {
        self.added.remove(name);
    }

    /// All positions of a name, the last one first. `member` tells what stands between the quotes of a member's key,
    /// and whether the member is gone. Of the members of a name the last one must be the last to go.
    pub(super) fn positions<'a>(
        &'a self,
        name: &'a [u8],
        member: impl Fn(usize) -> (&'a [u8], bool) + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        let until = self.sorted.partition_point(|entry| entry.name(&member) <= name);
        let same = self.sorted[..until]
            .iter()
            .rev()
            .take_while(move |entry| entry.name(&member) == name && !member(entry.position).1)
            .map(|entry| entry.position);
        self.added.get(name).copied().into_iter().chain(same)
    }

    /// Members have moved: `to` tells where each one is now, `None` if it is gone.
    pub(super) fn follow(&mut self, to: impl Fn(usize) -> Option<usize>) {
        let follow = |position: &mut usize| {
            let to = to(*position);
            if let Some(to) = to {
                *position = to;
            }
            to.is_some()
        };
        self.sorted.retain_mut(|entry| follow(&mut entry.position));
        self.added.retain(|_, position| follow(position));
    }

    /// Whether most names came after the index was made: it takes less memory when it is made again.
    pub(super) fn is_outgrown(&self) -> bool {
        self.added.len() > self.sorted.len()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let added: usize = self.added.keys().map(|name| name.len() + 64).sum();
        let decoded: usize =
            self.sorted.iter().filter_map(|entry| entry.decoded.as_ref()).map(|name| name.len()).sum();
        self.sorted.capacity() * size_of::<Entry>() + decoded + added
    }
}

impl Entry {
    fn name<'e, 'a: 'e>(&'e self, member: impl Fn(usize) -> (&'a [u8], bool)) -> &'e [u8] {
        match &self.decoded {
            Some(name) => name,
            None => member(self.position).0,
        }
    }
}
