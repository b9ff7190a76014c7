//! What holds whatever is seen, announced and merged, in whatever order.

use std::collections::BTreeMap;

use pinwire_status::{
    ANNOUNCED_MAX, Announcement, At, Board, INCIDENTS_MAX, Notice, Notices, Pace, Place, State, View, atom,
    page,
};
use proptest::prelude::*;

const START: u64 = 1_700_000_000;
const REGIONS: [&str; 3] = ["eu-1", "us-1", "ap-1"];
const DAY: u64 = 86_400;

#[derive(Clone, Debug)]
enum Step {
    Look(usize, State, u32),
    /// The clock is set, or time passes.
    Time(i64),
    Announce(usize, u64, u64),
    Withdraw(usize),
    /// Another node of the region goes on with what this one wrote down.
    TakeOver,
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let states = prop::sample::select(State::ALL.to_vec());
    let step = prop_oneof![
        12 => (0..REGIONS.len(), states, 1..12_u32).prop_map(|(region, state, looks)| Step::Look(region, state, looks)),
        3 => (0..200_i64).prop_map(Step::Time),
        1 => (-500..40 * DAY as i64).prop_map(Step::Time),
        1 => (0..REGIONS.len(), 0..100_u64, 1..200_u64).prop_map(|(region, from, long)| Step::Announce(region, from, long)),
        1 => (0..4_usize).prop_map(Step::Withdraw),
        1 => Just(Step::TakeOver),
        1 => (0..REGIONS.len()).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..120)
}

fn told(region: &str, from: u64, to: u64, title: &str) -> Announcement {
    let (from, to) = (At::unix(from), At::unix(to));
    Announcement { regions: vec![region.to_owned()], from, to, title: title.to_owned(), text: String::new() }
}

fn view() -> View {
    let place = |name: &&str| Place { name: (*name).to_owned(), area: None };
    View { places: REGIONS.iter().map(place).collect(), ..View::default() }
}

/// An incident goes on exactly where a region is believed to be ill, and there is one of it.
fn assert_sound(board: &Board) {
    let history = board.history();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for incident in &history.incidents {
        assert!(incident.updates.windows(2).all(|pair| pair[0].at <= pair[1].at), "{incident:?}");
        assert!((1..=12).contains(&incident.updates.len()), "{incident:?}");
        match incident.ended {
            Some(ended) => {
                assert!(ended >= incident.began && !incident.updates.last().unwrap().state.is_incident());
            }
            None => *open.entry(&incident.region).or_default() += 1,
        }
    }
    for (name, region) in &history.regions {
        let is_ill = region.state.is_some_and(State::is_incident);
        assert_eq!(open.remove(name.as_str()).unwrap_or(0), usize::from(is_ill), "{name}: {history:?}");
    }
    assert!(open.is_empty(), "{open:?}");
    let mut ids: Vec<&str> = history.incidents.iter().map(|incident| incident.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), history.incidents.len());
}

proptest! {
    #[test]
    fn whatever_is_seen_an_incident_goes_on_exactly_where_a_region_is_ill(steps in steps()) {
        let mut now = START;
        let mut board = Board::new(At::unix(now), Pace::default());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Look(region, state, looks) => for _ in 0..looks {
                    board.look(At::unix(now), REGIONS[region], state, "words");
                    now += 3;
                },
                Step::Time(by) => now = now.saturating_add_signed(by),
                Step::Announce(region, from, long) => {
                    let told = told(REGIONS[region], now + from, now + from + long, "work");
                    if let Ok(notice) = board.notices.announce(At::unix(now), format!("m{number}"), told) {
                        board.notices.merge(At::unix(now), notice);
                    }
                }
                Step::Withdraw(number) => {
                    let known = board.notices.iter().nth(number).cloned();
                    if let Some(notice) = known {
                        board.notices.merge(At::unix(now), notice.withdraw(At::unix(now)));
                    }
                }
                Step::TakeOver => {
                    let written = serde_json::to_string(board.history()).unwrap();
                    let notices = board.notices.clone();
                    board = Board::new(At::unix(now), Pace::default());
                    board.notices = notices;
                    board.adopt(At::unix(now), serde_json::from_str(&written).unwrap());
                    prop_assert!(serde_json::to_string(board.history()).unwrap().len() <= written.len());
                }
                Step::Forget(region) => _ = board.know_only(At::unix(now), &REGIONS[..region]),
            }
            assert_sound(&board);
        }
        // Everybody sees that all is well: so it is, in the end.
        for _ in 0..40 {
            for region in REGIONS {
                board.look(At::unix(now), region, State::Operational, "");
            }
            now += 3;
        }
        now += 1000;
        for region in REGIONS {
            board.look(At::unix(now), region, State::Operational, "");
        }
        prop_assert!(board.history().incidents.iter().all(|incident| !incident.is_open()));
        assert_sound(&board);
    }

    #[test]
    fn notices_come_to_the_same_on_all_boards_in_whatever_order_they_are_merged(
        made in prop::collection::vec((0..4_u8, 1..4_u64, any::<bool>(), 0..3_u64, 0..3_u64, "[ab]{1,2}"), 0..24),
        order in any::<prop::sample::Index>(),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let now = At::unix(START);
        let notices: Vec<Notice> = made.into_iter().map(|(id, revision, is_withdrawn, revised, kept, title)| Notice {
            id: format!("m{id}"),
            revision,
            revised: now.plus(revised),
            kept_until: now.plus(1 + kept),
            is_withdrawn,
            told: told("eu-1", START, START + 10, &title),
        }).collect();
        let merged = |all: &[Notice]| {
            let mut board = Notices::default();
            all.iter().cloned().for_each(|notice| _ = board.merge(now, notice));
            board
        };
        let straight = merged(&notices);
        let reversed: Vec<Notice> = notices.iter().rev().cloned().collect();
        prop_assert_eq!(&merged(&reversed), &straight);
        // Two boards learn each other's.
        let (one, other) = notices.split_at(if notices.is_empty() { 0 } else { order.index(notices.len()) });
        let (mut left, mut right) = (merged(one), merged(other));
        let (of_left, of_right) = (left.clone(), right.clone());
        of_right.iter().cloned().for_each(|notice| _ = left.merge(now, notice));
        of_left.iter().cloned().for_each(|notice| _ = right.merge(now, notice));
        prop_assert_eq!(&left, &straight);
        prop_assert_eq!(&right, &straight);
        for again in twice.iter().filter(|_| !notices.is_empty()) {
            prop_assert!(!left.merge(now, notices[again.index(notices.len())].clone()));
        }
        prop_assert_eq!(&left, &straight);
    }

    #[test]
    fn what_was_called_off_never_comes_back(later in prop::collection::vec(1..3_u64, 0..6), stale in any::<bool>()) {
        let now = At::unix(START);
        let first = Notice::announce(now, "m1".to_owned(), told("eu-1", START, START + 10, "work")).unwrap();
        let off = first.withdraw(now.plus(1));
        let mut board = Notices::default();
        board.merge(now, if stale { first.clone() } else { off.clone() });
        board.merge(now, off);
        for revision in later {
            board.merge(now, Notice { revision, revised: now.plus(9), ..first.clone() });
            prop_assert!(board.covering("eu-1", now.plus(5)).is_none());
        }
    }

    #[test]
    fn whatever_is_said_the_feed_and_the_page_say_just_that(
        title in "\\PC{0,40}", words in any::<String>(), contact in any::<String>(), text in "[a-z<>&\"'\\n\u{1}\u{fffe}]{0,60}",
    ) {
        let report = spoken(&title, &words, &contact, &text);
        let feed = String::from_utf8(atom::render(&report)).unwrap();
        let titles = texts_of(&feed, "title");
        prop_assert_eq!(titles.len(), 1 + report.incidents.len() + report.maintenance.len());
        prop_assert_eq!(unended(&titles[0]), unended(&title));
        // As many tags as if nobody had tried.
        let harmless = |text: &str| text.replace(['<', '>', '&', '"', '\''], "x");
        let other = spoken(&harmless(&title), &harmless(&words), &harmless(&contact), &harmless(&text));
        let tags = |report| {
            let page = page::render(report, At::unix(START));
            (page.matches('<').count(), page.matches('>').count(), page.matches('"').count())
        };
        prop_assert_eq!(tags(&report), tags(&other));
    }
}

/// A report in which others have their say wherever they can.
fn spoken(title: &str, words: &str, contact: &str, text: &str) -> pinwire_status::Report {
    let now = At::unix(START);
    let mut board = Board::new(now, Pace { looks: 1, open: 0, end: 0 });
    board.look(now, "eu-1", State::Degraded, words);
    let told = Announcement { text: text.to_owned(), ..told("us-1", START + 5, START + 9, "x<") };
    if let Ok(notice) = board.notices.announce(now, "m1".to_owned(), told) {
        board.notices.merge(now, notice);
    }
    let (title, contact, url) = (title.to_owned(), contact.to_owned(), words.to_owned());
    board.report(now, &View { title, contact, url, ..view() })
}

/// Line ends are written as one kind of them.
fn unended(text: &str) -> String {
    text.replace(['\r', '\n', '\u{85}', '\u{2028}'], "\n")
}

/// The texts of all elements of this name, as a reader has them. It fails at what is no XML.
fn texts_of(xml: &str, name: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut texts, mut inside) = (Vec::new(), false);
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(tag) => {
                inside = tag.name().as_ref() == name;
                if inside {
                    texts.push(String::new());
                }
            }
            quick_xml::events::Event::End(_) => inside = false,
            quick_xml::events::Event::Text(text) if inside => {
                texts.last_mut().unwrap().push_str(&text);
            }
            quick_xml::events::Event::GeneralRef(of) if inside => {
                let text = format!("&{};", &*of);
                texts.last_mut().unwrap().push_str(&quick_xml::escape::unescape(&text).unwrap());
            }
            quick_xml::events::Event::Eof => return texts,
            _ => {}
        }
    }
}

#[test]
fn nothing_grows_without_bound() {
    let mut now = START;
    let mut board = Board::new(At::unix(now), Pace { looks: 1, open: 0, end: 0 });
    for number in 0..2000_u64 {
        let region = format!("r-{}", number % 400);
        board.look(At::unix(now), &region, State::Unavailable, &"x".repeat(5000));
        board.look(
            At::unix(now + 1),
            &region,
            if number % 3 == 0 { State::Degraded } else { State::Operational },
            "",
        );
        let told = told("eu-1", now + 1, now + 2, "work");
        let foreign = Notice::announce(At::unix(now), format!("f{number}"), told.clone()).unwrap();
        board.notices.merge(At::unix(now), foreign);
        if let Ok(notice) = board.notices.announce(At::unix(now), format!("m{number}"), told) {
            board.notices.merge(At::unix(now), notice);
        }
        now += 3;
    }
    let history = board.history();
    let over = history.incidents.iter().filter(|incident| !incident.is_open()).count();
    assert_eq!((over, history.regions.len()), (INCIDENTS_MAX, 300));
    assert_eq!(board.notices.iter().count(), 2 * ANNOUNCED_MAX);
    assert!(serde_json::to_string(history).unwrap().len() < 1 << 20);
    assert!(board.report(At::unix(now), &view()).json().len() < 1 << 20);
    board.tidy(At::unix(now + 91 * DAY));
    assert!(board.history().incidents.iter().all(|incident| incident.is_open()));
    assert_eq!(board.notices.iter().count(), 0);
}
