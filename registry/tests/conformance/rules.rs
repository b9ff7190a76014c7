//! The rules, each on documents and apps of its own, by the registry's own clock.

use crate::ask::*;
use pinwire_registry::{
    Answer, AppName, AppRecord, Asserted, Claim, Claimed, DocumentName, Node, Registry, Request,
};
use std::collections::HashSet;

/// Runs them side by side: each waits for leases and graces.
pub async fn all(registry: &dyn Registry) {
    tokio::join!(
        one_region_wins(registry),
        grace_keeps_the_pin_for_its_region(registry),
        a_dead_node_leaves_when_its_lease_ends(registry),
        a_renewed_node_keeps_everything(registry),
        another_holder_keeps_the_pin(registry),
        a_late_release_ends_no_grace_of_others(registry),
        a_retired_node_leaves_with_grace(registry),
        epochs_rise(registry),
        late_requests(registry),
        assertions(registry),
        claims_do_not_fall(registry),
        moves(registry),
        unpins(registry),
        document_limits(registry),
        shares(registry),
        records(registry),
        lists(registry),
        strangers(registry),
    );
}

async fn one_region_wins(registry: &dyn Registry) {
    let (eu, eu2) = (new_node(registry, "eu", "e1").await, new_node(registry, "eu", "e2").await);
    let us = new_node(registry, "us", "u1").await;
    let doc = document("t::wins", "doc");
    assert_eq!(locate(registry, &doc).await, None);
    let held = pin(registry, &eu, &doc).await;
    let owner = refused(registry, &us, &doc).await;
    assert_eq!((&*owner.region, &*owner.ws_url, owner.claim), ("eu", "wss://eu.example.net", held));
    assert_eq!(claim(registry, &eu2, &doc).await, Claimed::Held { claim: held, is_new: false });
    let found = locate(registry, &doc).await.expect("a pin");
    assert_eq!((found.owner, found.grace), (owner, None));
    assert_eq!(found.nodes.into_iter().collect::<HashSet<_>>(), HashSet::from([eu.clone(), eu2.clone()]));
    assert_eq!(usage(registry, "t::wins").await.documents, 1);

    // The last holder's release begins the grace.
    release(registry, &eu, &doc, ANY_HOLD, 0).await;
    assert_eq!(locate(registry, &doc).await.expect("held by the other").nodes, std::slice::from_ref(&eu2));
    release(registry, &eu2, &doc, ANY_HOLD, 0).await;
    assert_eq!(locate(registry, &doc).await, None);
    assert_eq!(usage(registry, "t::wins").await.documents, 0);
}

async fn grace_keeps_the_pin_for_its_region(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "e1").await, new_node(registry, "us", "u1").await);
    let doc = document("t::grace", "doc");
    let held = pin(registry, &eu, &doc).await;
    release(registry, &eu, &doc, ANY_HOLD, 60_000 * MILLISECOND).await;
    let found = locate(registry, &doc).await.expect("a pin in its grace");
    assert!(found.nodes.is_empty());
    assert!(found.grace.is_some_and(|left| left > 0 && left <= 60_000 * MILLISECOND), "{:?}", found.grace);
    refused(registry, &us, &doc).await;
    assert_eq!(claim(registry, &eu, &doc).await, Claimed::Held { claim: held, is_new: false });
    assert_eq!(locate(registry, &doc).await.expect("a pin").grace, None);

    let short = document("t::grace", "short");
    let held = pin(registry, &eu, &short).await;
    assert_eq!(usage(registry, "t::grace").await.documents, 2);
    release(registry, &eu, &short, ANY_HOLD, MILLISECOND).await;
    pass(5 * MILLISECOND).await;
    assert_eq!(usage(registry, "t::grace").await.documents, 1);
    let anew = pin(registry, &us, &short).await;
    assert!(anew > held);
}

async fn a_dead_node_leaves_when_its_lease_ends(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "mortal").await, new_node(registry, "us", "u1").await);
    let (short, long) = (document("t::death", "short"), document("t::death", "long"));
    let request = |doc: &DocumentName, grace_us| Request::Claim {
        document: doc.clone(),
        node: eu.clone(),
        nonce: 1,
        hold: HOLD,
        max_documents: u32::MAX,
        grace_us,
    };
    assert!(matches!(ask(registry, request(&short, 1)).await, Answer::Claimed(Claimed::Held { .. })));
    assert!(matches!(ask(registry, request(&long, GRACE)).await, Answer::Claimed(Claimed::Held { .. })));
    die(registry, &eu).await;
    assert_eq!(locate(registry, &short).await, None);
    let left = locate(registry, &long).await.expect("in its grace");
    assert!(left.nodes.is_empty() && left.grace.is_some_and(|left| left < GRACE), "{left:?}");
    refused(registry, &us, &long).await;
    pin(registry, &us, &short).await;
    assert_eq!(renew_with(registry, &eu, LEASE, &[]).await, None);
    assert_eq!(claim(registry, &eu, &long).await, Claimed::Unknown);
    // A new life of the same node inherits nothing.
    let again = new_node(registry, "eu", "mortal").await;
    assert!(locate(registry, &long).await.is_some_and(|found| found.nodes.is_empty()));
    assert!(matches!(claim(registry, &again, &long).await, Claimed::Held { is_new: false, .. }));
    assert_eq!(usage(registry, "t::death").await.documents, 2);
}

async fn a_renewed_node_keeps_everything(registry: &dyn Registry) {
    let (eu, us) = (node("eu", "renewed"), new_node(registry, "us", "u1").await);
    register(registry, &eu, 1500 * MILLISECOND).await;
    let before = renew(registry, &eu).await;
    assert_eq!((before.lost.len(), before.shares.len(), before.records.len()), (0, 0, 0));
    let doc = document("t::renewed", "doc");
    let held = pin(registry, &eu, &doc).await;
    pass(1510 * MILLISECOND).await;
    assert_eq!(refused(registry, &us, &doc).await.claim, held);
    let after = renew(registry, &eu).await;
    assert_eq!(after.history, before.history);
    assert!(after.now > before.now);
    // Registering again, since the answer got lost, takes nothing away.
    register(registry, &eu, LEASE).await;
    assert_eq!(locate(registry, &doc).await.expect("a pin").nodes, [eu]);
}

async fn another_holder_keeps_the_pin(registry: &dyn Registry) {
    let (mortal, other) = (new_node(registry, "eu", "mortal").await, new_node(registry, "eu", "other").await);
    let doc = document("t::other", "doc");
    let held = pin(registry, &mortal, &doc).await;
    assert_eq!(claim(registry, &other, &doc).await, Claimed::Held { claim: held, is_new: false });
    die(registry, &mortal).await;
    let found = locate(registry, &doc).await.expect("a pin");
    assert_eq!((found.nodes, found.grace), (vec![other.clone()], None));
    release(registry, &other, &doc, ANY_HOLD, 0).await;
    let left = locate(registry, &doc).await.expect("in the grace of the one that died");
    assert!(left.nodes.is_empty() && left.grace.is_some_and(|left| left < GRACE), "{left:?}");
}

/// A node that could not reach the registry gives back what its clients left before others did.
async fn a_late_release_ends_no_grace_of_others(registry: &dyn Registry) {
    let (late, other) = (new_node(registry, "eu", "late").await, new_node(registry, "eu", "other").await);
    let (retiring, us) = (new_node(registry, "eu", "retiring").await, new_node(registry, "us", "u1").await);
    let docs = ["released", "retired"].map(|name| document("t::late-release", name));
    for (doc, leaving) in docs.iter().zip([&other, &retiring]) {
        let held = pin(registry, &late, doc).await;
        assert_eq!(claim(registry, leaving, doc).await, Claimed::Held { claim: held, is_new: false });
    }
    release(registry, &other, &docs[0], ANY_HOLD, GRACE).await;
    retire(registry, &retiring, GRACE).await;
    for doc in &docs {
        release(registry, &late, doc, ANY_HOLD, 0).await;
        let left = locate(registry, doc).await.expect("in the grace of the other");
        assert!(left.nodes.is_empty() && left.grace.is_some_and(|left| left > GRACE / 2), "{left:?}");
        refused(registry, &us, doc).await;
        // A claim that comes late, of somebody who does not wait for it any more.
        claim(registry, &late, doc).await;
        release(registry, &late, doc, ANY_HOLD, 0).await;
        assert!(locate(registry, doc).await.expect("likewise").grace.is_some_and(|left| left > GRACE / 2));
    }
}

async fn a_retired_node_leaves_with_grace(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "retiring").await, new_node(registry, "us", "u1").await);
    let doc = document("t::retired", "doc");
    pin(registry, &eu, &doc).await;
    retire(registry, &eu, MILLISECOND).await;
    assert_eq!(renew_with(registry, &eu, LEASE, &[]).await, None);
    pass(5 * MILLISECOND).await;
    pin(registry, &us, &doc).await;
    retire(registry, &us, 0).await;
    assert_eq!(locate(registry, &doc).await, None);
    assert_eq!(usage(registry, "t::retired").await.documents, 0);
}

async fn epochs_rise(registry: &dyn Registry) {
    let eu = new_node(registry, "eu", "e1").await;
    let doc = document("t::epochs", "doc");
    let mut last = Claim { epoch: 0, nonce: 0 };
    for _ in 0..20 {
        let held = pin(registry, &eu, &doc).await;
        assert!(held.epoch > last.epoch);
        last = held;
        release(registry, &eu, &doc, ANY_HOLD, 0).await;
    }
    // Ahead of the clock, as after a fail-over to a server whose clock is behind.
    let ahead = Claim { epoch: last.epoch + 3_600_000_000, nonce: 7 };
    assert_eq!(assert_pins(registry, &eu, &[(doc.clone(), ahead)]).await, Some(vec![Asserted::Held(ahead)]));
    release(registry, &eu, &doc, ANY_HOLD, 0).await;
    assert!(pin(registry, &eu, &doc).await.epoch > ahead.epoch);
}

/// Requests that were given up may still be carried out, after later ones.
async fn late_requests(registry: &dyn Registry) {
    let eu = new_node(registry, "eu", "e1").await;
    let doc = document("t::late", "doc");
    let claim = async |hold| {
        let (document, node) = (doc.clone(), eu.clone());
        let request = Request::Claim { document, node, nonce: hold, hold, max_documents: 9, grace_us: GRACE };
        assert!(matches!(ask(registry, request).await, Answer::Claimed(Claimed::Held { .. })));
    };
    claim(5).await;
    claim(7).await;
    claim(6).await;
    for late in [5, 6] {
        release(registry, &eu, &doc, late, 0).await;
        assert_eq!(locate(registry, &doc).await.expect("a later hold").nodes, std::slice::from_ref(&eu));
    }
    release(registry, &eu, &doc, 7, 0).await;
    assert_eq!(locate(registry, &doc).await, None);
}

async fn assertions(registry: &dyn Registry) {
    let (eu, eu2) = (new_node(registry, "eu", "e1").await, new_node(registry, "eu", "e2").await);
    let us = new_node(registry, "us", "u1").await;
    let (forgotten, kept) = (document("t::assert", "forgotten"), document("t::assert", "kept"));
    let held = pin(registry, &eu, &kept).await;
    let early = Claim { epoch: 5, nonce: 5 };
    let outcome = assert_pins(registry, &eu, &[(forgotten.clone(), early), (kept.clone(), held)]).await;
    assert_eq!(outcome, Some(vec![Asserted::Held(early), Asserted::Held(held)]));

    // Another region with a lower claim learns the owner; its own region takes over the higher claim.
    let lower = Claim { epoch: held.epoch - 1, nonce: u64::MAX };
    let outcome = assert_pins(registry, &us, &[(kept.clone(), lower)]).await.expect("registered");
    assert!(matches!(&outcome[..], [Asserted::Lost(owner)] if owner.claim == held && &*owner.region == "eu"));
    assert_eq!(assert_pins(registry, &eu2, &[(kept.clone(), lower)]).await, Some(vec![Asserted::Held(held)]));

    // With a higher one it wins, by the nonce if the epochs are the same; who held it is told until it has heard.
    let higher = Claim { epoch: held.epoch, nonce: held.nonce.saturating_add(1) };
    assert_eq!(
        assert_pins(registry, &us, &[(kept.clone(), higher)]).await,
        Some(vec![Asserted::Held(higher)])
    );
    assert_eq!(refused(registry, &eu, &kept).await.claim, higher);
    for node in [&eu, &eu, &eu2] {
        let lost = renew(registry, node).await.lost;
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!((&lost[0].0, lost[0].1.claim, &*lost[0].1.region), (&kept, higher, "us"));
    }
    release(registry, &eu, &kept, ANY_HOLD, GRACE).await;
    assert!(renew(registry, &eu).await.lost.is_empty());
    assert_eq!(locate(registry, &kept).await.expect("a pin").nodes, std::slice::from_ref(&us));

    // A higher claim within the region: the other holder stays, and is told to take it over.
    let top = Claim { epoch: higher.epoch + 1, nonce: 0 };
    let us2 = new_node(registry, "us", "u2").await;
    assert_eq!(assert_pins(registry, &us2, &[(kept.clone(), top)]).await, Some(vec![Asserted::Held(top)]));
    let lost = renew(registry, &us).await.lost;
    assert!(matches!(&lost[..], [(_, owner)] if owner.claim == top && owner.region == us.region), "{lost:?}");
    assert_eq!(locate(registry, &kept).await.expect("a pin").nodes.len(), 2);
    assert_eq!(assert_pins(registry, &us, &[]).await, Some(Vec::new()));
}

/// Asserts what nobody has any more: the claim under which it is held then.
async fn assert_ended(registry: &dyn Registry, node: &Node, doc: &DocumentName, claim: Claim) -> Claim {
    let outcome = assert_pins(registry, node, &[(doc.clone(), claim)]).await.expect("a node that lives");
    let [Asserted::Held(held)] = outcome[..] else { panic!("{outcome:?}") };
    assert_eq!(locate(registry, doc).await.expect("a pin").owner.claim, held);
    held
}

async fn claims_do_not_fall(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "e1").await, new_node(registry, "us", "u1").await);
    let mortal = new_node(registry, "us", "mortal").await;
    let doc = document("t::fall", "doc");
    let first = pin(registry, &eu, &doc).await;
    release(registry, &eu, &doc, ANY_HOLD, 0).await;
    // Its own end takes nothing from a claim.
    assert_eq!(assert_ended(registry, &eu, &doc, first).await, first);
    release(registry, &eu, &doc, ANY_HOLD, 0).await;

    // Others had it meanwhile.
    let second = pin(registry, &us, &doc).await;
    release(registry, &us, &doc, ANY_HOLD, 0).await;
    let third = assert_ended(registry, &eu, &doc, first).await;
    assert!(third > second, "{third:?} is not above {second:?}");
    release(registry, &eu, &doc, ANY_HOLD, 0).await;

    // The same if who had it died, and nobody has looked since.
    let request = Request::Claim {
        document: doc.clone(),
        node: mortal.clone(),
        nonce: 4,
        hold: HOLD,
        max_documents: u32::MAX,
        grace_us: 1,
    };
    let Answer::Claimed(Claimed::Held { claim: fourth, .. }) = ask(registry, request).await else {
        panic!("{doc} is not idle")
    };
    die(registry, &mortal).await;
    let fifth = assert_ended(registry, &eu, &doc, third).await;
    assert!(fifth > fourth, "{fifth:?} is not above {fourth:?}");

    // A claim above all that ended is taken up as it is.
    let ahead = Claim { epoch: fifth.epoch + 5, nonce: 9 };
    assert_eq!(assert_ended(registry, &us, &document("t::fall", "other"), ahead).await, ahead);
}

async fn moves(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "e1").await, new_node(registry, "us", "u1").await);
    let doc = document("t::moves", "doc");
    let held = pin(registry, &eu, &doc).await;
    let to = Claim { epoch: held.epoch + 2, nonce: 42 };
    let moving = |claim, to| Request::Move {
        document: doc.clone(),
        claim,
        to,
        node: us.clone(),
        hold: HOLD,
        grace_us: GRACE,
    };
    let request = |claim| moving(claim, to);
    let stale = Claim { nonce: !held.nonce, ..held };
    assert_eq!(ask(registry, request(stale)).await, Answer::Claimed(Claimed::Stale));
    for lower in [held, Claim { epoch: held.epoch - 1, nonce: 42 }] {
        assert_eq!(ask(registry, moving(held, lower)).await, Answer::Claimed(Claimed::Stale));
    }
    let Answer::Claimed(Claimed::Held { claim: moved, is_new: false }) = ask(registry, request(held)).await
    else {
        panic!("it does not move");
    };
    assert_eq!(moved, to);
    // Asked again, since the answer got lost.
    let again = ask(registry, request(held)).await;
    assert_eq!(again, Answer::Claimed(Claimed::Held { claim: moved, is_new: false }));
    assert_eq!(refused(registry, &eu, &doc).await.claim, moved);
    let lost = renew(registry, &eu).await.lost;
    assert!(matches!(&lost[..], [(lost, owner)] if *lost == doc && owner.claim == moved), "{lost:?}");
    let idle = Request::Move {
        document: document("t::moves", "idle"),
        claim: held,
        to,
        node: us.clone(),
        hold: HOLD,
        grace_us: GRACE,
    };
    assert_eq!(ask(registry, idle).await, Answer::Claimed(Claimed::Stale));
}

async fn unpins(registry: &dyn Registry) {
    let (eu, us) = (new_node(registry, "eu", "e1").await, new_node(registry, "us", "u1").await);
    let eu2 = new_node(registry, "eu", "e2").await;
    let doc = document("t::unpins", "doc");
    assert_eq!(unpin(registry, &doc).await, None);
    let held = pin(registry, &eu, &doc).await;
    assert_eq!(claim(registry, &eu2, &doc).await, Claimed::Held { claim: held, is_new: false });
    let was = unpin(registry, &doc).await.expect("a pin");
    assert_eq!((&*was.owner.region, was.owner.claim, was.nodes.len()), ("eu", held, 2));
    // Until both have left nobody has it, also not their own region.
    let nobody = refused(registry, &us, &doc).await;
    assert!(nobody.is_nobody() && nobody.claim > held, "{nobody:?}");
    assert_eq!(refused(registry, &eu, &doc).await, nobody);
    for node in [&eu, &eu2] {
        assert_eq!(renew(registry, node).await.lost, [(doc.clone(), nobody.clone())]);
        let asserted = assert_pins(registry, node, &[(doc.clone(), held)]).await;
        assert_eq!(asserted, Some(vec![Asserted::Lost(nobody.clone())]));
    }
    // A second time changes nothing.
    assert_eq!(unpin(registry, &doc).await.map(|pin| pin.owner), Some(nobody.clone()));
    release(registry, &eu, &doc, ANY_HOLD, GRACE).await;
    assert!(refused(registry, &us, &doc).await.is_nobody());
    die(registry, &eu2).await;
    assert!(pin(registry, &us, &doc).await > nobody.claim);

    // What waits for its clients ends at once.
    release(registry, &us, &doc, ANY_HOLD, GRACE).await;
    assert!(unpin(registry, &doc).await.is_some_and(|pin| pin.grace.is_some()));
    assert_eq!(locate(registry, &doc).await, None);
    // An old claim is not taken up again.
    let asserted = assert_pins(registry, &eu, &[(doc.clone(), held)]).await;
    let Some([Asserted::Held(anew)]) = asserted.as_deref() else { panic!("{asserted:?}") };
    assert!(*anew > nobody.claim);
    retire(registry, &eu, GRACE).await;
    unpin(registry, &doc).await;
    assert_eq!(usage(registry, "t::unpins").await.documents, 0);
}

async fn document_limits(registry: &dyn Registry) {
    let (eu, mortal) = (new_node(registry, "eu", "e1").await, new_node(registry, "eu", "mortal").await);
    let doc = |index: u32| document("t::limit", &format!("doc-{index}"));
    for index in 0..2 {
        assert!(matches!(claim_at_most(registry, &eu, &doc(index), 3).await, Claimed::Held { .. }));
    }
    let without_grace = |node: &Node| Request::Claim {
        document: doc(2),
        node: node.clone(),
        nonce: 1,
        hold: HOLD,
        max_documents: 3,
        grace_us: 0,
    };
    let joined = ask(registry, without_grace(&mortal)).await;
    assert!(matches!(joined, Answer::Claimed(Claimed::Held { is_new: true, .. })), "{joined:?}");
    assert_eq!(claim_at_most(registry, &eu, &doc(3), 3).await, Claimed::Limit { active: 3 });
    // What is active may be joined.
    let joined = ask(registry, without_grace(&eu)).await;
    assert!(matches!(joined, Answer::Claimed(Claimed::Held { is_new: false, .. })), "{joined:?}");
    die(registry, &mortal).await;
    assert_eq!(usage(registry, "t::limit").await.documents, 3);
    release(registry, &eu, &doc(2), ANY_HOLD, 0).await;
    assert!(matches!(claim_at_most(registry, &eu, &doc(3), 3).await, Claimed::Held { is_new: true, .. }));
}

async fn share_of(registry: &dyn Registry, node: &Node, used: pinwire_registry::AppUse) -> u32 {
    let renewed = renew_with(registry, node, LEASE, &[used]).await.expect("a node that lives");
    assert_eq!(renewed.shares.len(), 1, "{:?}", renewed.shares);
    renewed.shares[0].connections
}

async fn shares(registry: &dyn Registry) {
    let (one, two) = (new_node(registry, "eu", "e1").await, new_node(registry, "us", "u1").await);
    let mortal = new_node(registry, "ap", "a1").await;
    let app = "t::shares";
    // Who asks first gets what it wants; others get what is left, until its next renewal frees what is not fair.
    assert_eq!(share_of(registry, &one, uses(app, 2, 10, 10)).await, 10);
    assert_eq!(share_of(registry, &two, uses(app, 0, 10, 10)).await, 0);
    let shrunk = renew(registry, &one).await.shares;
    assert_eq!(shrunk.iter().map(|share| share.connections).collect::<Vec<_>>(), [5]);
    let grown = renew(registry, &two).await.shares;
    assert_eq!(grown.iter().map(|share| share.connections).collect::<Vec<_>>(), [5]);
    // Quiet: nothing more to say.
    for node in [&one, &two] {
        assert!(renew(registry, node).await.shares.is_empty());
    }
    assert_eq!(usage(registry, app).await.connections, 2);
    // Never below what it has.
    assert_eq!(share_of(registry, &one, uses(app, 8, 8, 10)).await, 8);
    assert_eq!(share_of(registry, &two, uses(app, 1, 10, 10)).await, 2);
    // A dead node's connections count no more, once; what it was allotted is free for others.
    assert_eq!(share_of(registry, &one, uses(app, 0, 0, 10)).await, 0);
    assert_eq!(share_of(registry, &two, uses(app, 1, 5, 10)).await, 5);
    assert_eq!(share_of(registry, &mortal, uses(app, 4, 5, 10)).await, 5);
    assert_eq!(usage(registry, app).await.connections, 5);
    assert_eq!(share_of(registry, &two, uses(app, 1, 10, 10)).await, 5);
    die(registry, &mortal).await;
    assert_eq!(usage(registry, app).await.connections, 1);
    let grown = renew(registry, &two).await.shares;
    assert_eq!(grown.iter().map(|share| share.connections).collect::<Vec<_>>(), [10]);
    assert_eq!(usage(registry, app).await.connections, 1);
}

async fn records(registry: &dyn Registry) {
    let eu = new_node(registry, "eu", "e1").await;
    let app = AppName("t::records".into());
    let none = AppRecord { version: 0, record: None };
    assert_eq!(ask(registry, Request::App { app: app.clone() }).await, Answer::App(none));
    let put = async |version, text: Option<&str>| {
        let record = text.map(Into::into);
        match ask(registry, Request::PutApp { app: app.clone(), version, record }).await {
            Answer::App(record) => record,
            other => panic!("{other:?}"),
        }
    };
    let first = put(0, Some("{\"max\":1}")).await;
    assert_eq!(first.record.as_deref(), Some("{\"max\":1}"));
    assert_eq!(put(first.version + 1, Some("{}")).await, first, "another version than the current one");
    let second = put(first.version, Some("{}")).await;
    assert!(second.version > first.version);
    let known = |version| Request::Renew {
        node: eu.clone(),
        lease_us: LEASE,
        apps: Vec::new(),
        versions: vec![(app.clone(), version)],
    };
    let Answer::Renewed(renewed) = ask(registry, known(first.version)).await else { panic!("not renewed") };
    assert_eq!(renewed.records, [(app.clone(), second.clone())]);
    let Answer::Renewed(renewed) = ask(registry, known(second.version)).await else { panic!("not renewed") };
    assert!(renewed.records.is_empty());
    let removed = put(second.version, None).await;
    assert!(removed.version > second.version && removed.record.is_none());
    assert!(put(0, Some("{}")).await.version > removed.version);
}

async fn lists(registry: &dyn Registry) {
    let eu = new_node(registry, "zz", "listed").await;
    let mut expected: Vec<_> = ["t::list-b", "t::list-a"]
        .iter()
        .flat_map(|app| ["doc-10", "doc", "doc-2", "doc:"].map(|name| document(app, name)))
        .collect();
    for document in &expected {
        pin(registry, &eu, document).await;
    }
    expected.sort();
    let mut after = Some(document("t::list-", ""));
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let Answer::Pins(page) = ask(registry, Request::Pins { after, limit: 3 }).await else {
            panic!("no page")
        };
        assert!(!page.is_empty() && page.len() <= 3, "{page:?}");
        after = page.last().map(|pin| pin.document.clone());
        found.extend(page.into_iter().filter(|pin| pin.nodes.contains(&eu)).map(|pin| pin.document));
    }
    assert_eq!(found, expected);
    let Answer::Nodes(nodes) = ask(registry, Request::Nodes).await else { panic!("no nodes") };
    assert!(nodes.contains(&view(&eu)), "{nodes:?}");
    assert!(nodes.is_sorted_by(|one, other| one.node <= other.node));
}

async fn strangers(registry: &dyn Registry) {
    let (stranger, doc) = (node("eu", "stranger"), document("t::strangers", "doc"));
    assert_eq!(claim(registry, &stranger, &doc).await, Claimed::Unknown);
    assert_eq!(renew_with(registry, &stranger, LEASE, &[]).await, None);
    assert_eq!(assert_pins(registry, &stranger, &[(doc.clone(), Claim { epoch: 1, nonce: 1 })]).await, None);
    retire(registry, &stranger, GRACE).await;
    assert_eq!(locate(registry, &doc).await, None);
}

/// Registries are connections to the same one. 1,000 claims race for 250 documents; each has one region, which all learn.
pub async fn race<R: Registry>(registries: &[R; 4]) {
    let regions = ["eu", "us", "eu", "ap"];
    let mut nodes = Vec::new();
    for (registry, region) in registries.iter().zip(regions) {
        nodes.push(new_node(registry, region, "racer").await);
    }
    let documents: Vec<_> =
        (0..250).map(|index| document(&format!("t::race-{}", index % 5), &format!("{index}"))).collect();
    let claims = documents.iter().map(|document| {
        let racing = registries.iter().zip(&nodes);
        futures_util::future::join_all(racing.map(|(registry, node)| async move {
            let outcome = claim(registry, node, document).await;
            (node.region.clone(), outcome)
        }))
    });
    for outcomes in futures_util::future::join_all(claims).await {
        let winners: HashSet<_> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Claimed::Held { .. }))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(region, _)| region.clone())
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let mut claims = HashSet::new();
        let mut new = 0;
        for (_, outcome) in &outcomes {
            match outcome {
                Claimed::Held { claim, is_new } => {
                    claims.insert(*claim);
                    new += u32::from(*is_new);
                }
                Claimed::Elsewhere(owner) => {
                    assert!(winners.contains(&owner.region));
                    claims.insert(owner.claim);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((claims.len(), new), (1, 1), "{outcomes:?}");
    }
}
