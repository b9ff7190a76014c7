use std::time::Duration;

use pinwire_admin_api::documents::DocumentState;

use super::*;

const NOW: Millis = 1_800_000_000_000;

fn model() -> Model {
    let mut model = Model::default();
    example::cluster(&mut model, NOW);
    model
}

#[test]
fn a_lost_node_keeps_what_it_told_with_its_age_and_the_rest_stays_live() {
    let mut model = model();
    let why = "the connection broke".to_owned();
    let what = What::Lost { why, is_refusal: false, retry_in: Duration::from_secs(1) };
    model.apply(Update { node: example::address(0), what }, NOW + 100);
    let later = NOW + 12_000;
    for number in 1..4 {
        let look = example::look(number, 2, 600, later);
        model.apply(Update { node: example::address(number), what: What::Look(Box::new(look)) }, later);
    }
    let node = model.node(0).unwrap();
    assert_eq!((node.state(later), node.age(later)), ((State::Bad, "lost"), Some(12_000)));
    assert!(node.seen().is_some() && node.is_stale(later));
    assert_eq!(model.totals(later).live, 3);
    let problems = problems(&model, later);
    assert!(
        problems.iter().any(|problem| problem.text.contains("is not reached for 11 s: the connection broke")),
        "{problems:?}"
    );
}

#[test]
fn a_silent_node_is_stale_within_two_seconds() {
    let model = model();
    assert!(!model.node(0).unwrap().is_stale(NOW + 2_000));
    assert_eq!(model.node(0).unwrap().state(NOW + 2_100), (State::Doubtful, "silent"));
}

#[test]
fn what_is_wrong_is_told_the_worst_first_with_where_to_look() {
    let problems = problems(&model(), NOW);
    assert!(problems.is_sorted_by(|a, b| a.state >= b.state));
    let text = |wanted: &str| {
        problems
            .iter()
            .find(|problem| problem.text.contains(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {problems:#?}"))
    };
    assert_eq!(text("is overloaded, connections at ").node, Some(1));
    assert_eq!(text("drains").state, State::Leaving);
    assert_eq!(text("data thread 3 does not answer").state, State::Bad);
    assert_eq!(text("is unreachable from").region.as_deref(), Some("ap-southeast-1"));
    assert!(text("drops edits").document.is_some());
}

#[test]
fn a_document_that_is_most_of_what_a_node_does_is_told_as_hot() {
    let mut model = Model::default();
    let mut look = example::look(0, 2, 500, NOW);
    look.documents[3].members = 150;
    look.documents[3].edits_per_second = 900.0;
    let name = look.documents[3].name.clone();
    model.apply(Update { node: example::address(0), what: What::Look(Box::new(look)) }, NOW);
    let problems = problems(&model, NOW);
    let hot = problems.iter().find(|problem| problem.text.starts_with("is hot")).unwrap();
    assert_eq!((&hot.subject, hot.document.as_ref().map(|(.., name)| name)), (&name, Some(&name)));
    assert!(hot.text.contains("150 members, 900 edits/s, 135k deliveries/s"), "{}", hot.text);
    // Many that are much together are not.
    let mut look = example::look(0, 2, 501, NOW + 1_000);
    look.documents.iter_mut().for_each(|document| {
        document.members = 100;
        document.edits_per_second = 60.0;
    });
    model.apply(Update { node: example::address(0), what: What::Look(Box::new(look)) }, NOW + 1_000);
    assert!(!super::problems(&model, NOW + 1_000).iter().any(|problem| problem.text.starts_with("is hot")));
}

#[test]
fn what_several_nodes_say_alike_is_told_once_as_their_region() {
    let mut model = Model::default();
    for number in [0, 2] {
        let mut look = example::look(number, 2, 500, NOW);
        look.node.node.status = pinwire_admin_api::node::Status::Degraded;
        if let Some(standing) = &mut look.node.node.standing {
            standing.cause = "the region's sessions are out of reach".into();
        }
        model.apply(Update { node: example::address(number), what: What::Look(Box::new(look)) }, NOW);
    }
    let problems = problems(&model, NOW);
    let told: Vec<&Problem> =
        problems.iter().filter(|problem| problem.text.contains("is degraded")).collect();
    assert_eq!(told.len(), 1, "{problems:#?}");
    assert!(told[0].text.starts_with("2 nodes: each is degraded: the region's sessions"), "{}", told[0].text);
    assert_eq!((told[0].subject.as_str(), told[0].region.as_deref()), ("eu-central-1", Some("eu-central-1")));
}

#[test]
fn two_addresses_of_one_node_count_once() {
    let mut model = model();
    let before = model.totals(NOW).connections;
    let look = example::look(0, 2, 589, NOW);
    let node = Address::parse("unix:/run/a.sock").unwrap();
    model.apply(Update { node, what: What::Look(Box::new(look)) }, NOW);
    assert_eq!(model.totals(NOW).nodes, 4);
    assert_eq!(model.totals(NOW).connections, before);
}

#[test]
fn events_that_were_seen_are_not_taken_again_after_a_reconnect() {
    let mut model = model();
    let before = model.events.rows().len();
    let look = example::look(0, 2, 589, NOW);
    model.apply(Update { node: example::address(0), what: What::Look(Box::new(look.clone())) }, NOW + 1_000);
    assert_eq!(model.events.rows().len(), before);
    // After a restart numbers begin anew.
    let restarted = example::look(0, 2, 3, NOW + 2_000);
    model.apply(Update { node: example::address(0), what: What::Look(Box::new(restarted)) }, NOW + 2_000);
    assert_eq!(model.events.rows().len(), before + 4);
}

#[test]
fn a_change_replaces_what_it_has_and_keeps_what_the_order_names() {
    let mut model = model();
    let mut look = example::look(0, 2, 591, NOW + 1_000);
    let all = look.documents.clone();
    let name = |at: usize| DocumentName {
        tenant: all[at].tenant.clone(),
        app: all[at].app.clone(),
        name: all[at].name.clone(),
    };
    let mut changed = all[1].clone();
    changed.state = DocumentState::Grace;
    look.order = Some(vec![name(2), name(1)]);
    look.documents = vec![changed];
    look.threads.truncate(1);
    model.apply(Update { node: example::address(0), what: What::Look(Box::new(look)) }, NOW + 1_000);
    let node = model.node(0).unwrap();
    let names: Vec<&str> = node.documents().iter().map(|document| document.name.as_str()).collect();
    assert_eq!(names, [all[2].name.as_str(), all[1].name.as_str()]);
    assert_eq!(node.documents()[1].state, DocumentState::Grace);
    assert_eq!(node.threads().len(), 4);
}

#[test]
fn questions_are_asked_at_their_pace_and_only_of_what_is_looked_at() {
    let mut model = model();
    let focus = Focus::default();
    let first = model.wants(&focus, NOW + 60_000);
    assert!(first.iter().any(|(_, ask)| *ask == Ask::Nodes));
    assert_eq!(first.iter().filter(|(_, ask)| *ask == Ask::Regions).count(), 4);
    assert!(
        !first.iter().any(|(_, ask)| matches!(ask, Ask::Pins { .. } | Ask::Connections { .. } | Ask::Apps))
    );
    assert!(model.wants(&focus, NOW + 60_050).is_empty(), "what is asked is not asked again");
    assert!(!model.wants(&focus, NOW + 70_000).is_empty(), "unless there is no answer");
    let pins = model.wants(&Focus { pins: true, ..Focus::default() }, NOW + 70_050);
    assert!(matches!(&pins[..], [(_, Ask::Pins { db_code: None, cursor: None })]), "{pins:?}");
}

#[test]
fn a_document_that_moves_has_a_history() {
    let mut model = model();
    let mut page = example::pins(0, 1, 1, 2, NOW);
    let name = DocumentName { tenant: "acme".into(), app: "notes".into(), name: page.pins[0].name.clone() };
    let from = page.pins[0].region.clone();
    page.pins[0].region = "moon-1".into();
    let answer = Answer::Pins { db_code: None, is_first: true, page };
    model.apply(Update { node: example::address(0), what: What::Answered(Box::new(answer)) }, NOW + 5_000);
    let homes: Vec<&str> = model.homes(&name).iter().map(|(region, _)| region.as_str()).collect();
    assert_eq!(homes, [from.as_str(), "moon-1"]);
}
