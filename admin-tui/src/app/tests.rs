use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::*;
use crate::client::What;

const NOW: Millis = 1_800_000_000_000;

fn press(app: &mut App, key: &str) -> Vec<Command> {
    let (modifiers, key) =
        key.strip_prefix("ctrl-").map_or((KeyModifiers::NONE, key), |key| (KeyModifiers::CONTROL, key));
    let code = match key {
        "space" => KeyCode::Char(' '),
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        letter => KeyCode::Char(letter.chars().next().unwrap()),
    };
    app.input(&Event::Key(KeyEvent::new(code, modifiers)), Rect::new(0, 2, 80, 20), NOW)
}

fn press_all(app: &mut App, keys: &[&str]) {
    keys.iter().for_each(|key| drop(press(app, key)));
}

fn type_in(app: &mut App, text: &str) -> Vec<Command> {
    text.chars().flat_map(|letter| press(app, &letter.to_string())).collect()
}

fn app(may_act: bool) -> App {
    let mut app = App::new(Options { may_act, ..Options::default() });
    crate::model::example::cluster(&mut app.model, NOW);
    app.arrange(NOW);
    app
}

#[test]
fn one_goes_down_from_a_region_to_a_document_and_back() {
    let mut app = app(false);
    press(&mut app, "2");
    assert_eq!(app.screen.kind, Kind::Regions);
    press(&mut app, "j");
    press(&mut app, "enter");
    assert_eq!((app.screen.kind, app.screen.scope.region.as_deref()), (Kind::Nodes, Some("eu-central-1")));
    press(&mut app, "enter");
    assert_eq!((app.screen.kind, app.screen.scope.node), (Kind::Node, Some(0)));
    press(&mut app, "5");
    press(&mut app, "enter");
    assert_eq!(app.screen.kind, Kind::Document);
    assert!(app.focus().document.is_some());
    (0..5).for_each(|_| drop(press(&mut app, "esc")));
    assert_eq!(app.screen.kind, Kind::Overview);
    press(&mut app, "[");
    assert_ne!(app.screen.kind, Kind::Overview);
    press(&mut app, "]");
    assert_eq!(app.screen.kind, Kind::Overview);
}

#[test]
fn a_filter_holds_while_it_is_typed_and_its_slips_are_told() {
    let mut app = app(false);
    press(&mut app, "3");
    let all = app.rows().len();
    press(&mut app, "/");
    type_in(&mut app, "region=us");
    assert!(app.rows().len() < all && !app.rows().is_empty());
    press(&mut app, "enter");
    assert_eq!(app.pane().filter_text, "region=us");
    press(&mut app, "esc");
    assert_eq!(app.rows().len(), all);
    press(&mut app, "/");
    type_in(&mut app, "nosuch>1");
    assert!(app.prompt.as_ref().unwrap().slip.is_some());
    press(&mut app, "enter");
    assert!(app.prompt.is_some(), "a filter that means nothing is not taken");
}

#[test]
fn nothing_is_done_without_being_allowed_and_named() {
    let mut app = app(false);
    press(&mut app, "3");
    press(&mut app, "D");
    assert!(app.confirm.is_none() && app.notice.as_ref().unwrap().0.contains("--rw"));
    let mut app = self::app(true);
    press(&mut app, "3");
    press(&mut app, "D");
    let name = app.confirm.as_ref().unwrap().wanted();
    assert_eq!(press(&mut app, "enter"), []);
    assert!(app.confirm.as_ref().unwrap().typed.slip.is_some());
    type_in(&mut app, &name);
    let commands = press(&mut app, "enter");
    assert!(
        matches!(&commands[..], [Command::Act(_, Action::Drain { node })] if *node == name),
        "{commands:?}"
    );
    press(&mut app, "D");
    press(&mut app, "esc");
    assert!(app.confirm.is_none());
}

#[test]
fn the_view_before_is_a_key_away_and_back_again() {
    let mut app = app(false);
    press(&mut app, "-");
    assert_eq!(app.screen.kind, Kind::Overview);
    assert!(app.notice.is_some());
    press(&mut app, "4");
    press(&mut app, "enter");
    let document = app.screen.clone();
    assert_eq!(document.kind, Kind::Document);
    app.command("events", NOW);
    press(&mut app, "-");
    assert_eq!(app.screen, document);
    assert!(app.model.document.is_none(), "what was known of another document is not shown of it");
    press(&mut app, "-");
    assert_eq!(app.screen.kind, Kind::Events);
    press(&mut app, "-");
    // The way back is the one that led there, and history goes on as ever.
    press(&mut app, "esc");
    assert_eq!(app.screen.kind, Kind::Pins);
    press(&mut app, "[");
    assert_eq!(app.screen, document);
    press(&mut app, "-");
    assert_eq!(app.screen.kind, Kind::Pins);
}

#[test]
fn what_is_wanted_is_done_with_all_that_is_marked_once_it_is_named_with_their_count() {
    let mut app = app(true);
    press(&mut app, "3");
    press_all(&mut app, &["space", "j", "space"]);
    assert_eq!((app.marks().unwrap().len(), app.pane().cursor), (2, 3));
    press(&mut app, "D");
    let confirm = app.confirm.clone().unwrap();
    assert_eq!((confirm.title().as_str(), confirm.wanted().as_str()), ("drain 2 nodes", "drain 2"));
    type_in(&mut app, confirm.actions[0].1.name());
    assert_eq!(press(&mut app, "enter"), []);
    assert!(app.confirm.as_ref().unwrap().typed.slip.is_some(), "the name of one is not enough");
    press(&mut app, "ctrl-u");
    type_in(&mut app, "drain 2");
    let commands = press(&mut app, "enter");
    let wanted: Vec<_> = confirm
        .actions
        .iter()
        .map(|(address, action)| Command::Act(address.clone(), action.clone()))
        .collect();
    assert_eq!((commands.len(), commands), (2, wanted));
    assert!(app.marks().is_none() && app.confirm.is_none());
}

#[test]
fn what_became_of_each_is_shown_until_a_key_leaves_it() {
    let mut app = app(true);
    press(&mut app, "6");
    press_all(&mut app, &["space", "space", "space", "C"]);
    let actions = app.confirm.clone().unwrap().actions;
    type_in(&mut app, "close 3");
    assert_eq!(press(&mut app, "enter").len(), 3);
    assert_eq!(app.outcomes.as_ref().unwrap().count(), "0 of 3 done");
    app.is_paused = true;
    for (number, outcome) in [(1, Ok(String::new())), (0, Err("no such connection".to_owned()))] {
        let (node, action) = actions[number].clone();
        app.update(Update { node, what: What::Acted { what: action.title(), outcome } }, NOW);
    }
    let outcomes = app.outcomes.clone().unwrap();
    assert_eq!(outcomes.count(), "1 of 3 done, 1 not done");
    let told: Vec<_> = outcomes.rows.iter().map(|(_, told)| told.clone()).collect();
    assert_eq!(told, [Some(Err("no such connection".into())), Some(Ok(())), None]);
    assert!(
        app.notice
            .as_ref()
            .unwrap()
            .0
            .contains("1 of 3 done, 1 not done; not done: no such connection: close")
    );
    press(&mut app, "j");
    assert!(app.outcomes.is_none());
    let cursor = app.pane().cursor;
    press(&mut app, "k");
    assert_ne!(app.pane().cursor, cursor, "the key that leaves it does nothing else");
}

#[test]
fn why_one_was_not_done_is_told_to_its_end() {
    let mut app = app(true);
    let why = "documents are in this node's memory and cannot be moved; set cluster.session";
    let node = app.model.node(0).unwrap().address().clone();
    let what = What::Acted { what: "move acme::notes::a to us-east-1".into(), outcome: Err(why.into()) };
    app.update(Update { node, what }, NOW);
    assert!(app.notice.as_ref().unwrap().0.starts_with("not done: documents are in"));
    let picture = crate::once::picture(&mut app, 80, 24, NOW);
    for part in ["documents are in this node's memory and cannot be moved; set", "cluster.session"] {
        assert!(picture.contains(part), "{picture}");
    }
}

#[test]
fn a_move_goes_to_a_region_that_there_is() {
    let mut app = app(true);
    press_all(&mut app, &["4", "M"]);
    let hint = app.prompt.as_ref().unwrap().hint.clone().unwrap();
    assert!(hint.contains("us-east-1"), "{hint}");
    type_in(&mut app, "us-");
    press(&mut app, "tab");
    assert_eq!(app.prompt.as_ref().unwrap().text(), "move us-east-1");
    type_in(&mut app, "0");
    press(&mut app, "enter");
    assert!(app.confirm.is_none());
    assert!(app.notice.as_ref().unwrap().0.contains("there is no region `us-east-10`"));
}

#[test]
fn nothing_is_clicked_through_what_stands_above() {
    use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    let mut app = app(true);
    press(&mut app, "3");
    let click = |app: &mut App| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let mouse = MouseEvent { kind, column: 10, row: 4, modifiers: KeyModifiers::NONE };
        app.input(&Event::Mouse(mouse), Rect::new(0, 4, 80, 18), NOW)
    };
    for key in ["D", "/", "?"] {
        press(&mut app, key);
        click(&mut app);
        assert_eq!(app.screen.kind, Kind::Nodes, "{key}");
        assert!(!app.is_help, "a click leaves it");
        if key != "?" {
            press(&mut app, "esc");
        }
    }
    click(&mut app);
    assert_eq!(app.screen.kind, Kind::Node);
}

#[test]
fn a_long_name_is_shown_whole_where_it_has_to_be_typed() {
    let mut app = app(true);
    press_all(&mut app, &["3", "D"]);
    let (address, _) = app.confirm.clone().unwrap().actions[0].clone();
    let actions = vec![(address, Action::Drain { node: "n".repeat(150) })];
    app.confirm = Some(Confirm { actions, typed: Prompt::new(PromptKind::Command, "") });
    type_in(&mut app, &"n".repeat(149));
    press(&mut app, "enter");
    let picture = crate::once::picture(&mut app, 80, 24, NOW);
    assert!(picture.contains("that is not its name"), "{picture}");
    assert!(picture.matches('n').count() > 150 + 70, "the name, and the end of what is typed: {picture}");
}

#[test]
fn a_long_text_is_there_in_full_and_is_what_is_copied() {
    let mut app = app(false);
    press(&mut app, "0");
    let text = app.text(NOW).unwrap();
    let picture = crate::once::picture(&mut app, 80, 24, NOW);
    assert!(picture.contains(&text), "{picture}");
    assert_eq!(press(&mut app, "y"), [Command::Copy(text)]);
}

#[test]
fn a_range_of_rows_is_marked_from_the_last_one_marked_and_all_are_unmarked() {
    let mut app = app(false);
    press(&mut app, "4");
    press_all(&mut app, &["j", "space", "j", "j", "j", "ctrl-space"]);
    assert_eq!(app.marks().unwrap().len(), 5);
    press_all(&mut app, &["k", "k", "k", "space"]);
    assert_eq!(app.marks().unwrap().len(), 4, "it is a mark no more");
    // Marks stay with their rows, in whatever order these are, and behind whatever filter.
    let marked = app.marked(NOW);
    app.command("sort document desc", NOW);
    app.command("filter -f zzzzzz", NOW);
    app.arrange(NOW);
    assert!(app.rows().is_empty());
    let hidden = app.marked(NOW);
    assert!(hidden.len() == 4 && marked.iter().all(|target| hidden.contains(target)));
    press(&mut app, "u");
    assert!(app.marks().is_none());
    // Without a mark a range is the row alone.
    app.command("filter", NOW);
    app.arrange(NOW);
    press(&mut app, "ctrl-space");
    assert_eq!(app.marks().unwrap().len(), 1);
    press(&mut app, "3");
    assert!(app.marks().is_none(), "each view has its own");
}

#[test]
fn marks_of_rows_that_are_gone_are_gone() {
    let mut app = app(true);
    press(&mut app, "4");
    press_all(&mut app, &["space", "space", "space"]);
    let Some(Target::Pin { name, .. }) = app.marked(NOW).into_iter().next() else { panic!() };
    let mut page = crate::model::example::pins(0, 60, 60, 2, NOW);
    page.pins.retain(|pin| pin.name != name.name);
    let db_code = app.model.pins.get(0).unwrap().db_code.clone();
    let answer = crate::client::Answer::Pins { db_code, is_first: true, page };
    let node = app.model.node(0).unwrap().address().clone();
    app.update(Update { node, what: What::Answered(Box::new(answer)) }, NOW + 1_000);
    app.arrange(NOW + 1_000);
    let left = app.marked(NOW + 1_000);
    assert!(
        left.len() == 2
            && !left.iter().any(|target| matches!(target, Target::Pin { name: of, .. } if *of == name))
    );
    // At another cluster a node's number is another node.
    press(&mut app, "3");
    press(&mut app, "space");
    app.move_to("other".into(), Discovery::Off);
    crate::model::example::cluster(&mut app.model, NOW);
    app.arrange(NOW);
    assert!(app.marks().is_none());
}

#[test]
fn where_no_row_can_be_marked_the_key_turns_a_page_and_without_rw_nothing_is_done_to_marks() {
    let mut app = app(false);
    press(&mut app, "7");
    press(&mut app, "ctrl-space");
    assert!(app.notice.take().unwrap().0.contains("cannot be marked"));
    press(&mut app, "space");
    assert!(app.marks().is_none());
    press(&mut app, "3");
    press_all(&mut app, &["space", "space", "D"]);
    assert_eq!(app.marks().unwrap().len(), 2);
    assert!(app.confirm.is_none() && app.notice.as_ref().unwrap().0.contains("--rw"));
}

#[test]
fn members_of_one_document_that_are_marked_move_it_once() {
    let mut app = app(true);
    press(&mut app, "6");
    app.command("filter documents=000007", NOW);
    app.arrange(NOW);
    (0..app.rows().len()).for_each(|_| drop(press(&mut app, "space")));
    let count = app.marks().unwrap().len();
    app.command("move us-east-1", NOW);
    let confirm = app.confirm.as_ref().unwrap();
    assert!(count > 1 && confirm.actions.len() == 1, "{count} {}", confirm.title());
    assert_eq!(confirm.wanted(), confirm.actions[0].1.name());
}

#[test]
fn a_recording_of_the_last_minutes_is_a_key_away() {
    let mut app = app(false);
    press(&mut app, "S");
    assert_eq!(app.prompt.as_ref().unwrap().text(), "save pinwire-20270115T080000Z.ndjson");
    assert_eq!(press(&mut app, "enter"), [Command::Save("pinwire-20270115T080000Z.ndjson".into())]);
    app.options.is_replay = true;
    press(&mut app, "S");
    assert!(app.prompt.is_none() && app.command("save a", NOW).is_empty());
}

#[test]
fn what_comes_last_in_a_recording_is_in_its_lists_too() {
    let mut app = App::new(Options { is_replay: true, ..Options::default() });
    app.screen = Screen::of(Kind::Nodes);
    let look = |number| {
        let look = crate::model::example::look(number, 2, 1, NOW);
        Update { node: crate::model::example::address(number), what: What::Look(Box::new(look)) }
    };
    app.update(look(0), NOW);
    app.arrange(NOW);
    app.update(look(1), NOW + 100);
    app.arrange(NOW + 100);
    app.arrange(NOW + 100);
    assert_eq!(app.rows().len(), 2);
}

#[test]
fn the_help_has_pages() {
    let mut app = app(false);
    press(&mut app, "?");
    press(&mut app, "j");
    assert!(app.is_help && app.help_page == 1);
    press(&mut app, "x");
    assert!(!app.is_help && app.help_page == 0);
}

#[test]
fn a_pattern_that_is_none_leaves_the_filter_as_it_was() {
    let mut app = app(false);
    press(&mut app, "4");
    press(&mut app, "/");
    type_in(&mut app, "document=~^road");
    let rows = app.rows().to_vec();
    assert!(!rows.is_empty() && rows.len() < 60);
    type_in(&mut app, "(");
    assert!(app.prompt.as_ref().unwrap().slip.as_ref().unwrap().contains("unclosed group at letter 6"));
    assert_eq!(app.rows(), rows);
    press(&mut app, "enter");
    assert!(app.prompt.is_some());
}

#[test]
fn a_move_asks_for_its_region() {
    let mut app = app(true);
    press(&mut app, "4");
    press(&mut app, "M");
    assert!(app.prompt.is_some());
    type_in(&mut app, "us-east-1");
    press(&mut app, "enter");
    let confirm = app.confirm.as_ref().unwrap();
    assert!(matches!(&confirm.actions[..], [(_, Action::Move { region, .. })] if region == "us-east-1"));
}

#[test]
fn the_command_line_knows_views_filters_and_what_was_meant() {
    let mut app = app(false);
    app.command("pins region=eu", NOW);
    app.arrange(NOW);
    assert_eq!((app.screen.kind, app.pane().filter_text.as_str()), (Kind::Pins, "region=eu"));
    app.command("sort age desc", NOW);
    assert!(app.pane().sort.is_some_and(|sort| sort.is_descending));
    app.command("ndoes", NOW);
    assert!(app.notice.as_ref().unwrap().0.contains("did you mean nodes?"));
    press(&mut app, ":");
    type_in(&mut app, "ev");
    press(&mut app, "tab");
    assert_eq!(app.prompt.as_ref().unwrap().text(), "events ");
    press(&mut app, "enter");
    assert_eq!(app.screen.kind, Kind::Events);
    assert_eq!(app.command("q", NOW), [Command::Quit]);
}

#[test]
fn what_comes_while_paused_is_shown_afterwards() {
    let mut app = app(false);
    press(&mut app, "p");
    let node = app.model.node(0).unwrap().address().clone();
    let before = app.model.version();
    app.update(
        Update {
            node,
            what: What::Lost { why: "gone".into(), is_refusal: false, retry_in: std::time::Duration::ZERO },
        },
        NOW,
    );
    assert_eq!(app.model.version(), before);
    press(&mut app, "p");
    assert!(!app.model.node(0).unwrap().is_live());
}

#[test]
fn no_key_in_any_view_panics() {
    for may_act in [false, true] {
        for (kind, _) in Kind::ALL {
            let mut app = app(may_act);
            app.screen = Screen::of(kind);
            for binding in crate::keys::BINDINGS {
                app.confirm = None;
                app.prompt = None;
                app.does_for_tests(binding.does);
                app.arrange(NOW);
            }
            let mut empty = App::new(Options { may_act, ..Options::default() });
            empty.screen = Screen::of(kind);
            for binding in crate::keys::BINDINGS {
                empty.does_for_tests(binding.does);
                empty.arrange(NOW);
            }
        }
    }
}

impl App {
    fn does_for_tests(&mut self, does: crate::keys::Does) {
        let key = self.options.keys.key(does).to_owned();
        let code = match key.as_str() {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "pageup" => KeyCode::PageUp,
            "pagedown" => KeyCode::PageDown,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            other => KeyCode::Char(other.chars().last().unwrap()),
        };
        let _ =
            self.input(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)), Rect::new(0, 2, 80, 20), NOW);
    }
}
