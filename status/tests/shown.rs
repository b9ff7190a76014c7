//! What is shown of a board: JSON as programs rely on it, the feed, the page.

use pinwire_status::{
    Announcement, At, Board, Kept, Maintenance, Notice, Pace, Phase, Place, Report, State, View, atom, page,
};
use serde_json::{Value, json};

const START: u64 = 1_795_820_400;

fn at(seconds: u64) -> At {
    At::unix(START + seconds)
}

fn view() -> View {
    let place =
        |name: &str, area: Option<&str>| Place { name: name.to_owned(), area: area.map(str::to_owned) };
    View {
        title: "Acme & Sons".to_owned(),
        seen_from: "eu-1".to_owned(),
        contact: "https://acme.example/help?a=1&b=2".to_owned(),
        url: "https://status.acme.example".to_owned(),
        places: vec![place("eu-1", Some("Frankfurt")), place("us-1", None), place("ap-1", None)],
        kept: Kept::Shared,
    }
}

/// One region was away for a while, another is worked on, of the third nothing is known.
fn board() -> Board {
    let mut board = Board::new(at(0), Pace { looks: 2, open: 5, end: 10 });
    let told = Announcement {
        regions: vec!["eu-1".to_owned()],
        from: at(40),
        to: at(100),
        title: "New disks".to_owned(),
        text: "One <node> after the other.\nNobody notices.".to_owned(),
    };
    let notice = board.notices.announce(at(1), "m1".to_owned(), told).unwrap();
    board.notices.merge(at(1), notice);
    for second in 0..=60 {
        let away = (10..30).contains(&second);
        let state = if away { State::Unavailable } else { State::Operational };
        board.look(at(second), "us-1", state, if away { "It does not answer." } else { "" });
        board.look(at(second), "eu-1", State::Operational, "");
    }
    board
}

#[test]
fn the_json_is_what_programs_rely_on() {
    let shown: Value = serde_json::from_str(&board().report(at(61), &view()).json()).unwrap();
    let expected = json!({
        "title": "Acme & Sons",
        "state": "maintenance",
        "seenFrom": "eu-1",
        "history": "shared",
        "updated": at(40),
        "contact": "https://acme.example/help?a=1&b=2",
        "regions": [
            { "name": "eu-1", "area": "Frankfurt", "state": "maintenance", "since": at(40), "text": "New disks" },
            { "name": "us-1", "area": null, "state": "operational", "since": at(40), "text": "" },
            { "name": "ap-1", "area": null, "state": null, "since": null, "text": "" },
        ],
        "incidents": [{
            "impact": "unavailable",
            "id": format!("us-1-{}", START + 15),
            "region": "us-1",
            "began": at(15),
            "ended": at(40),
            "updates": [
                { "at": at(15), "state": "unavailable", "text": "It does not answer." },
                { "at": at(40), "state": "operational", "text": "" },
            ],
        }],
        "maintenance": [{
            "id": "m1",
            "revision": 1,
            "revised": at(1),
            "keptUntil": at(100 + 90 * 86_400),
            "phase": "underway",
            "regions": ["eu-1"],
            "from": at(40),
            "to": at(100),
            "title": "New disks",
            "text": "One <node> after the other.\nNobody notices.",
        }],
    });
    assert_eq!(shown, expected);
}

#[test]
fn another_board_learns_notices_from_the_json_of_whatever_version() {
    let board = board();
    let text = board.report(at(61), &view()).json().replacen('{', "{\"added_later\":[1],", 1);
    let report: Report = serde_json::from_str(&text).unwrap();
    let notices: Vec<Notice> = report.maintenance.into_iter().map(Maintenance::into).collect();
    assert_eq!(notices, board.notices.iter().cloned().collect::<Vec<_>>());
}

#[test]
fn a_region_is_in_maintenance_by_itself_while_nobody_looks() {
    let board = board();
    let state = |second| board.report(at(second), &view()).regions[0].state;
    assert_eq!((state(61), state(99)), (Some(State::Maintenance), Some(State::Maintenance)));
    let mut fresh = Board::new(at(0), Pace::default());
    fresh.notices = board.notices.clone();
    let told = |second| fresh.report(at(second), &view()).regions[0].clone();
    assert_eq!((told(39).state, told(100).state), (None, None));
    assert_eq!((told(50).state, told(50).since), (Some(State::Maintenance), Some(at(40))));
}

#[test]
fn an_incident_ends_where_maintenance_begins() {
    let mut board = Board::new(at(0), Pace { looks: 2, open: 5, end: 10 });
    (0..20).for_each(|second| _ = board.look(at(second), "us-1", State::Unavailable, "away"));
    let told = Announcement {
        regions: vec!["us-1".to_owned()],
        from: at(20),
        to: at(30),
        title: "Move".to_owned(),
        text: String::new(),
    };
    let notice = board.notices.announce(at(19), "m1".to_owned(), told).unwrap();
    board.notices.merge(at(19), notice);
    (20..30).for_each(|second| _ = board.look(at(second), "us-1", State::Unavailable, "away"));
    let incidents = &board.history().incidents;
    assert_eq!((incidents.len(), incidents[0].ended), (1, Some(at(20))));
    // It is over, and the region is still away: a new one.
    (30..40).for_each(|second| _ = board.look(at(second), "us-1", State::Unavailable, "away"));
    let began: Vec<At> = board.history().incidents.iter().map(|incident| incident.began).collect();
    assert_eq!(began, [at(5), at(35)]);
}

#[test]
fn the_feed_is_the_same_until_something_changes_and_ids_stay() {
    let mut board = board();
    let feed =
        |board: &Board, second| String::from_utf8(atom::render(&board.report(at(second), &view()))).unwrap();
    let before = feed(&board, 61);
    assert_eq!(before, feed(&board, 70));
    for part in [
        "<feed xmlns=\"http://www.w3.org/2005/Atom\">",
        "<title>Acme &amp; Sons</title>",
        "rel=\"self\" type=\"application/atom+xml\" href=\"https://status.acme.example/status.atom\"",
        "<title>us-1: Unavailable (over)</title>",
        "<title>Maintenance: New disks</title>",
        "One &lt;node&gt; after the other.",
    ] {
        assert!(before.contains(part), "{part} in {before}");
    }
    let off = board.notices.get("m1").unwrap().withdraw(at(71));
    board.notices.merge(at(71), off);
    let after = feed(&board, 72);
    assert!(after.contains("<title>Maintenance called off: New disks</title>"), "{after}");
    let ids = |feed: &str| -> std::collections::BTreeSet<String> {
        feed.split("<id>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&before), ids(&before).len()), (ids(&after), 3));
    // In another region the notice is the same one, and the incident another.
    let there = View { seen_from: "us-1".to_owned(), ..view() };
    let there = ids(&String::from_utf8(atom::render(&board.report(at(72), &there))).unwrap());
    assert_eq!(there.intersection(&ids(&after)).count(), 1);
}

#[test]
fn the_page_says_each_state_in_a_word_beside_the_sign() {
    let page = page::render(&board().report(at(61), &view()), at(61));
    for part in [
        "<html lang=\"en\">",
        "<title>Maintenance: Acme &amp; Sons</title>",
        "</span> Maintenance in 1 of 3 regions</p>",
        "<th scope=\"row\">eu-1 <small>Frankfurt</small></th>",
        "aria-hidden=\"true\">\u{2713}</span> Operational",
        "<span class=\"sign\" aria-hidden=\"true\">?</span> Not known yet",
        "<h3>us-1: <span class=\"sign\" aria-hidden=\"true\">\u{2715}</span> Unavailable</h3>",
        "<p>One &lt;node&gt; after the other.</p>",
        "href=\"https://acme.example/help?a=1&amp;b=2\"",
        "href=\"status.atom\"",
        "As seen from eu-1.",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(page.matches("<script").count() + page.matches(" style=").count(), 0);
    for tag in [
        "html", "head", "body", "header", "main", "section", "table", "article", "ol", "li", "p", "h2",
        "footer",
    ] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let apart = View { kept: Kept::Apart, ..view() };
    let cut_off = page::render(&board().report(at(61), &apart), at(61));
    assert!(cut_off.contains("cut off from its region"), "{cut_off}");
}

#[test]
fn what_was_called_off_stays_so_when_a_region_that_was_away_still_has_it() {
    let mut here = board();
    let stale = here.notices.get("m1").unwrap().clone();
    here.notices.merge(at(50), stale.withdraw(at(50)));
    // It even changed it meanwhile, at the same revision.
    let changed = stale.change(at(55), stale.told.clone()).unwrap();
    for of_the_other in [stale.clone(), changed] {
        assert!(!here.notices.merge(at(60), of_the_other));
        assert!(here.notices.covering("eu-1", at(60)).is_none());
        assert_eq!(here.report(at(60), &view()).maintenance[0].phase, Phase::Withdrawn);
    }
}
