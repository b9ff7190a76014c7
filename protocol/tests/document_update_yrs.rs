//! The scanner against yrs: it accepts what real documents produce and reports what they hold, and whatever it accepts
//! of mutated bytes, yrs takes without an error or a panic on a stack of 2 MiB.

use std::collections::BTreeMap;

use pinwire_protocol::document::state_vector::StateVector;
use pinwire_protocol::document::update::{Bounds, Defect, ScanError, Summary, Visitor, scan};
use proptest::prelude::*;
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, Doc, Map, MapPrelim, Number, ReadTxn, Text, TextPrelim, Transact, Update, Xml,
    XmlElementPrelim, XmlFragment, XmlTextPrelim,
};

#[path = "document_support/grammar.rs"]
mod grammar;
#[path = "document_support/yrs_use.rs"]
mod yrs_use;

use yrs_use::{replica, use_as_a_node_does};

/// Clients whose ids have one byte, five, and eight on the wire.
const CLIENTS: [u64; 3] = [7, 4_000_000_000, (1 << 53) - 1];

#[derive(Default)]
struct Ranges {
    structs: BTreeMap<u64, Vec<(u32, u32)>>,
    deletes: BTreeMap<u64, Vec<(u32, u32)>>,
}

impl Visitor for Ranges {
    fn structs(&mut self, client: u64, clock: u32, len: u32) {
        self.structs.entry(client).or_default().push((clock, clock + len));
    }
    fn deletes(&mut self, client: u64, clock: u32, len: u32) {
        self.deletes.entry(client).or_default().push((clock, clock + len));
    }
}

fn ranges(update: &[u8]) -> Result<(Summary, Ranges), ScanError> {
    let mut ranges = Ranges::default();
    scan(update, &Bounds::default(), &mut ranges).map(|summary| (summary, ranges))
}

/// One edit, or one exchange, of a random history.
#[derive(Clone, Debug)]
enum Step {
    Insert {
        at: u32,
        text: String,
    },
    Format {
        at: u32,
        len: u32,
        bold: bool,
    },
    Embed {
        at: u32,
    },
    RemoveText {
        at: u32,
        len: u32,
    },
    SetKey {
        key: String,
        value: Any,
    },
    RemoveKey {
        key: String,
    },
    NestMap {
        key: String,
        text: String,
    },
    Push {
        values: Vec<Any>,
    },
    PushNested {
        text: String,
    },
    RemoveElement {
        at: u32,
    },
    XmlElement {
        name: String,
        attribute: String,
    },
    XmlText {
        text: String,
    },
    RemoveXml {
        at: u32,
    },
    SubDocument {
        key: String,
    },
    /// Takes over everything another replica has.
    Sync {
        from: usize,
    },
    /// Takes over one update alone, which may leave a hole.
    Pick {
        index: usize,
    },
}

fn any_value() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Null),
        Just(Any::Undefined),
        any::<bool>().prop_map(Any::from),
        any::<i32>().prop_map(Any::from),
        any::<f64>().prop_map(Any::from),
        any::<i64>().prop_map(|value| Any::Number(Number::Int(value))),
        "\\PC{0,8}".prop_map(Any::from),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Any::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| Any::Array(values.into())),
            prop::collection::hash_map("[a-z]{0,3}", inner, 0..4).prop_map(|map| Any::Map(map.into())),
        ]
    })
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..40u32;
    let text = "[a-zé😀\n]{1,6}";
    prop_oneof![
        6 => (at.clone(), text).prop_map(|(at, text)| Step::Insert { at, text }),
        2 => (at.clone(), 1..5u32, any::<bool>()).prop_map(|(at, len, bold)| Step::Format { at, len, bold }),
        1 => at.clone().prop_map(|at| Step::Embed { at }),
        3 => (at.clone(), 1..4u32).prop_map(|(at, len)| Step::RemoveText { at, len }),
        3 => ("[ab]", any_value()).prop_map(|(key, value)| Step::SetKey { key, value }),
        1 => "[ab]".prop_map(|key| Step::RemoveKey { key }),
        1 => ("[ab]", text).prop_map(|(key, text)| Step::NestMap { key, text }),
        3 => prop::collection::vec(any_value(), 1..4).prop_map(|values| Step::Push { values }),
        1 => text.prop_map(|text| Step::PushNested { text }),
        2 => at.clone().prop_map(|at| Step::RemoveElement { at }),
        2 => ("[a-z]{1,4}", text).prop_map(|(name, attribute)| Step::XmlElement { name, attribute }),
        1 => text.prop_map(|text| Step::XmlText { text }),
        1 => at.clone().prop_map(|at| Step::RemoveXml { at }),
        1 => "[ab]".prop_map(|key| Step::SubDocument { key }),
        3 => (0..CLIENTS.len()).prop_map(|from| Step::Sync { from }),
        2 => (0..100usize).prop_map(|index| Step::Pick { index }),
    ]
}

/// Replicas, and every update their edits produced.
struct History {
    docs: Vec<Doc>,
    updates: Vec<Vec<u8>>,
}

impl History {
    fn play(steps: &[(usize, Step)]) -> Self {
        let docs = CLIENTS.iter().map(|&id| replica(id)).collect();
        let mut history = Self { docs, updates: Vec::new() };
        for (who, step) in steps {
            history.step(*who, step);
        }
        history
    }

    fn step(&mut self, who: usize, step: &Step) {
        let doc = self.docs[who].clone();
        match step {
            Step::Sync { from } if *from == who => {}
            Step::Sync { from } => {
                let state_vector = doc.transact().state_vector();
                let update = self.docs[*from].transact().encode_state_as_update_v1(&state_vector);
                apply(&doc, &update);
                self.updates.push(update);
            }
            Step::Pick { .. } if self.updates.is_empty() => {}
            Step::Pick { index } => apply(&doc, &self.updates[index % self.updates.len()].clone()),
            _ => self.updates.push(edit(&doc, step)),
        }
    }
}

fn apply(doc: &Doc, update: &[u8]) {
    doc.transact_mut().apply_update(Update::decode_v1(update).unwrap()).unwrap();
}

/// Makes one edit and returns its update.
fn edit(doc: &Doc, step: &Step) -> Vec<u8> {
    let text_type = doc.get_or_insert_text("text");
    let map = doc.get_or_insert_map("map");
    let array = doc.get_or_insert_array("array");
    let xml = doc.get_or_insert_xml_fragment("xml");
    let mut txn = doc.transact_mut();
    let text_len = text_type.len(&txn);
    let clamp = |at: u32, len: u32| if len == 0 { 0 } else { at % len };
    match step {
        Step::Insert { at, text } => text_type.insert(&mut txn, clamp(*at, text_len + 1), text),
        Step::Format { at, len, bold } if text_len > 0 => {
            let at = clamp(*at, text_len);
            let value = if *bold { Any::from(true) } else { Any::Null };
            let attributes = Attrs::from([("bold".into(), value)]);
            text_type.format(&mut txn, at, (*len).min(text_len - at), attributes);
        }
        Step::Embed { at } => {
            let image = Any::from_json(r#"{"image":"a.png","size":[1,2.5]}"#).unwrap();
            text_type.insert_embed(&mut txn, clamp(*at, text_len + 1), image);
        }
        Step::RemoveText { at, len } if text_len > 0 => {
            let at = clamp(*at, text_len);
            text_type.remove_range(&mut txn, at, (*len).min(text_len - at));
        }
        Step::SetKey { key, value } => drop(map.insert(&mut txn, key.clone(), value.clone())),
        Step::RemoveKey { key } => drop(map.remove(&mut txn, key)),
        Step::NestMap { key, text } => {
            map.insert(&mut txn, key.clone(), MapPrelim::from([("inner", text.clone())]));
        }
        Step::Push { values } => {
            let len = array.len(&txn);
            array.insert_range(&mut txn, len, values.clone());
        }
        Step::PushNested { text } => {
            array.push_back(&mut txn, ArrayPrelim::from([1, 2]));
            array.push_back(&mut txn, TextPrelim::new(text.clone()));
        }
        Step::RemoveElement { at } if array.len(&txn) > 0 => {
            let at = clamp(*at, array.len(&txn));
            array.remove(&mut txn, at);
        }
        Step::XmlElement { name, attribute } => {
            let element = xml.push_back(&mut txn, XmlElementPrelim::empty(name.clone()));
            element.insert_attribute(&mut txn, "style", attribute.clone());
        }
        Step::XmlText { text } => drop(xml.push_back(&mut txn, XmlTextPrelim::new(text.clone()))),
        Step::RemoveXml { at } if xml.len(&txn) > 0 => {
            let at = clamp(*at, xml.len(&txn));
            xml.remove_range(&mut txn, at, 1);
        }
        Step::SubDocument { key } => drop(map.insert(&mut txn, key.clone(), Doc::with_client_id(1))),
        _ => {}
    }
    txn.encode_update_v1()
}

fn history() -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..CLIENTS.len(), step()), 1..40)
}

/// Single updates, merges of some of them (which have holes), and diffs.
fn derived(history: &History, picks: &[usize]) -> Vec<Vec<u8>> {
    let updates = &history.updates;
    let mut derived = updates.clone();
    if !updates.is_empty() {
        let some: Vec<_> = picks.iter().map(|pick| &updates[pick % updates.len()]).collect();
        let merged = yrs::merge_updates_v1(some.iter().copied()).unwrap();
        for update in &updates[..updates.len().min(4)] {
            let state_vector = yrs::encode_state_vector_from_update_v1(update).unwrap();
            derived.push(yrs::diff_updates_v1(&merged, &state_vector).unwrap());
        }
        derived.push(merged);
    }
    for doc in &history.docs {
        derived.push(doc.transact().encode_state_as_update_v1(&yrs::StateVector::default()));
    }
    derived
}

/// What yrs says the update holds, in the form the scanner reports it.
fn assert_ranges_agree(update: &[u8], summary: Summary, ranges: &Ranges) {
    let decoded = Update::decode_v1(update).unwrap();
    let insertions = decoded.insertions(true);
    let mut structs = BTreeMap::new();
    for (client, clocks) in insertions.iter() {
        structs.insert(client.get(), clocks.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>());
    }
    let mut deletes = BTreeMap::new();
    for (client, clocks) in decoded.delete_set().iter() {
        deletes.insert(client.get(), clocks.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>());
    }
    assert_eq!(joined(&ranges.structs), structs);
    assert_eq!(joined(&ranges.deletes), deletes);
    assert_eq!(summary.has_structs, !structs.is_empty());
    assert_eq!(summary.has_deletes, !deletes.is_empty());

    let theirs = yrs::encode_state_vector_from_update_v1(update).unwrap();
    let from_zero = |runs: &Vec<(u32, u32)>| runs.first().filter(|run| run.0 == 0).map(|run| run.1);
    let ours: StateVector =
        ranges.structs.iter().filter_map(|(&client, runs)| Some((client, from_zero(runs)?))).collect();
    assert_eq!(ours, StateVector::parse(&theirs, usize::MAX).unwrap());
}

/// Runs that touch, as one.
fn joined(ranges: &BTreeMap<u64, Vec<(u32, u32)>>) -> BTreeMap<u64, Vec<(u32, u32)>> {
    let join = |runs: &Vec<(u32, u32)>| {
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for &(start, end) in runs {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        joined
    };
    ranges.iter().map(|(&client, runs)| (client, join(runs))).collect()
}

/// Changes bytes the way a hostile or broken client might: flips, replacements by telling values, cuts, repeats.
fn mutate(update: &mut Vec<u8>, edits: &[(usize, u8, u8)]) {
    const TELLING: [u8; 16] = [0, 1, 2, 3, 4, 7, 9, 10, 117, 118, 127, 0x80, 0x84, 0xc4, 0xff, 5];
    for &(at, kind, value) in edits {
        if update.is_empty() {
            return;
        }
        let at = at % update.len();
        match kind % 6 {
            0 => update[at] ^= 1 << (value % 8),
            1 => update[at] = TELLING[usize::from(value) % TELLING.len()],
            2 => update.insert(at, value),
            3 => drop(update.remove(at)),
            4 => update[at] = update[at].wrapping_add(1),
            _ => {
                let end = (at + usize::from(value % 16)).min(update.len());
                let piece = update[at..end].to_vec();
                update.splice(at..at, piece);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_documents_produce_is_accepted_and_its_ranges_agree(
        steps in history(),
        picks in prop::collection::vec(0..100usize, 1..6),
    ) {
        for update in derived(&History::play(&steps), &picks) {
            let (summary, ranges) = ranges(&update).unwrap_or_else(|error| panic!("{error}: {update:?}"));
            assert_ranges_agree(&update, summary, &ranges);
        }
    }

    #[test]
    fn what_is_accepted_of_mutated_bytes_yrs_takes(
        steps in history(),
        picks in prop::collection::vec(0..100usize, 1..6),
        edits in prop::collection::vec(prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4), 1..16),
    ) {
        let updates = derived(&History::play(&steps), &picks);
        let base = updates.last().unwrap();
        for (update, edits) in updates.iter().zip(&edits) {
            let mut mutated = update.clone();
            mutate(&mut mutated, edits);
            if ranges(&mutated).is_ok() {
                use_as_a_node_does(&mutated, base);
            }
        }
    }
}

proptest! {
    #[test]
    fn absurd_but_well_formed_updates_yrs_takes(
        base in prop::collection::vec(any::<u8>(), 0..160),
        choices in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        let base = grammar::update_from(&base);
        let update = grammar::update_from(&choices);
        match scan(&update, &Bounds::default(), &mut ()) {
            Ok(_) if ranges(&base).is_ok() => use_as_a_node_does(&update, &base),
            Ok(_) => use_as_a_node_does(&update, &[0, 0]),
            Err(error) => prop_assert_eq!(error.what, Defect::FutureReference),
        }
    }
}

#[test]
fn a_deeply_nested_value_is_refused_before_it_overflows_a_stack() {
    let mut update = vec![1, 1, 5, 0, 8, 1, 1, b't', 1];
    update.extend([117, 1].repeat(10_000));
    update.extend([126, 0]);
    assert!(ranges(&update).is_err());
}

#[test]
fn the_deepest_accepted_value_is_safe() {
    for container in [&[117u8, 1][..], &[118, 1, 0]] {
        let mut update = vec![1, 1, 5, 0, 8, 1, 1, b't', 1];
        update.extend(container.repeat(127));
        update.extend([126, 0]);
        ranges(&update).unwrap();
        use_as_a_node_does(&update, &[0, 0]);
    }
}
