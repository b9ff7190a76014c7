//! Numbers for other nodes, by which data threads know them.

use std::collections::HashMap;

use pinwire_registry::Node;
use pinwire_shard::NodeTag;

/// Nodes that have a number. Beyond it the one that was longest not heard of loses its number, and is gone for all documents that
/// know it, until it says something again.
const NODES_MAX: usize = 4_096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Tags {
    by_node: HashMap<Node, Known>,
    next: u32,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    tag: NodeTag,
    /// The number of its last use.
    used: u64,
}

impl Tags {
    /// The same number for the same life of a node; and the one that stands for no node any more, if there had to be room.
    pub(super) fn of(&mut self, node: &Node) -> (NodeTag, Option<NodeTag>) {
        self.uses += 1;
        if let Some(known) = self.by_node.get_mut(node) {
            known.used = self.uses;
            return (known.tag, None);
        }
        let forgotten = if self.by_node.len() < NODES_MAX { None } else { self.forget_one() };
        let tag = NodeTag(self.next);
        // Numbers of so many nodes ago are in use no more.
        self.next = (self.next + 1) & (u32::MAX >> 2);
        self.by_node.insert(node.clone(), Known { tag, used: self.uses });
        (tag, forgotten)
    }

    fn forget_one(&mut self) -> Option<NodeTag> {
        let oldest = self.by_node.iter().min_by_key(|(_, known)| known.used);
        let node = oldest.map(|(node, _)| node.clone())?;
        self.by_node.remove(&node).map(|known| known.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(life: usize) -> Node {
        Node { region: "eu".into(), name: "n".into(), life: life as u64 }
    }

    #[test]
    fn a_node_keeps_its_number_and_each_life_has_its_own() {
        let mut tags = Tags::default();
        let (first, second) = (tags.of(&node(1)).0, tags.of(&node(2)).0);
        assert_ne!(first, second);
        assert_eq!((tags.of(&node(1)), tags.of(&node(2))), ((first, None), (second, None)));
    }

    #[test]
    fn with_too_many_the_one_that_was_longest_not_heard_of_is_forgotten_and_told() {
        let mut tags = Tags::default();
        let given: Vec<NodeTag> = (0..NODES_MAX).map(|life| tags.of(&node(life)).0).collect();
        tags.of(&node(0));
        let (new, forgotten) = tags.of(&node(NODES_MAX));
        assert_eq!(forgotten, Some(given[1]));
        assert!(!given.contains(&new));
        assert_eq!(tags.of(&node(0)), (given[0], None));
        assert_eq!(tags.of(&node(1)).1, Some(given[2]), "it comes back under another number");
        assert_eq!(tags.by_node.len(), NODES_MAX);
    }
}
