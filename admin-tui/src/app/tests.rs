use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::*;
use crate::client::What;

const NOW: Millis = 1_800_000_000_000;

fn press(app: &mut App, key: &str) -> Vec<Command> {
    let code = match key {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        letter => KeyCode::Char(letter.chars().next().unwrap()),
    };
    app.input(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)), Rect::new(0, 2, 80, 20), NOW)
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
    let name = app.confirm.as_ref().unwrap().action.name().to_owned();
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
fn a_move_asks_for_its_region() {
    let mut app = app(true);
    press(&mut app, "4");
    press(&mut app, "M");
    assert!(app.prompt.is_some());
    type_in(&mut app, "us-east-1");
    press(&mut app, "enter");
    let confirm = app.confirm.as_ref().unwrap();
    assert!(matches!(&confirm.action, Action::Move { region, .. } if region == "us-east-1"));
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
