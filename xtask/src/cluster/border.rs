//! The ways between a region and everything else: clients to its nodes, nodes of other regions to its nodes, and its nodes to the
//! registry. What is near does not cross them: the region's own server, the admin API, and clients that know the nodes' own ports.

use super::lane::Lane;
use anyhow::Result;

/// What goes each way, as it is called where one is cut alone.
const KINDS: [&str; 3] = ["clients", "links", "registry"];

/// A region's ways.
#[derive(Debug)]
pub(crate) struct Border {
    region: String,
    /// In the order of [`KINDS`].
    ways: [Vec<Lane>; 3],
}

/// Ports that lead across a border.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outer {
    pub(super) clients: u16,
    pub(super) links: u16,
}

impl Border {
    pub(super) fn new(region: &str, registry: (&str, u16)) -> Result<Self> {
        let (host, port) = registry;
        let ways = [Vec::new(), Vec::new(), vec![Lane::start(host, port)?]];
        Ok(Self { region: region.to_owned(), ways })
    }

    /// Where the region's nodes find the registry.
    pub(super) fn registry_port(&self) -> u16 {
        self.ways[2][0].port()
    }

    /// The ways to a node with these ports.
    pub(super) fn lead_to(&mut self, host: &str, clients: u16, links: u16) -> Result<Outer> {
        for (ways, port) in self.ways.iter_mut().zip([clients, links]) {
            ways.push(Lane::start(host, port)?);
        }
        let last = |ways: &[Lane]| ways.last().map_or(0, Lane::port);
        Ok(Outer { clients: last(&self.ways[0]), links: last(&self.ways[1]) })
    }

    /// Cuts what is meant by `REGION` or `REGION/KIND`, or lets it pass again; false if it means nothing of this region.
    pub(super) fn cut(&self, what: &str, is_cut: bool) -> bool {
        let (region, kind) = what.split_once('/').map_or((what, None), |(region, kind)| (region, Some(kind)));
        let is_meant = |known: &str| kind.is_none_or(|kind| kind == known);
        if region != self.region || !KINDS.into_iter().any(is_meant) {
            return false;
        }
        let meant = KINDS.into_iter().zip(&self.ways).filter(|(known, _)| is_meant(known));
        meant.flat_map(|(_, ways)| ways).for_each(|lane| lane.cut(is_cut));
        true
    }

    /// Lets everything pass.
    pub(super) fn open(&self) {
        self.ways.iter().flatten().for_each(|lane| lane.cut(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_cut_as_a_whole_or_one_kind_of_its_ways() {
        let mut border = Border::new("eu-central-1", ("127.0.0.1", 1)).unwrap();
        let outer = border.lead_to("127.0.0.1", 2, 3).unwrap();
        assert!(outer.clients != outer.links && outer.links != border.registry_port());
        for what in ["eu-central-1", "eu-central-1/clients", "eu-central-1/links", "eu-central-1/registry"] {
            assert!(border.cut(what, true) && border.cut(what, false), "{what}");
        }
        for what in ["", "us-east-1", "us-east-1/links", "eu-central-1/", "eu-central-1/all"] {
            assert!(!border.cut(what, true), "{what}");
        }
    }
}
