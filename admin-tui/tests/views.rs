//! Every view at two sizes, in colour and without, live, stale and empty: whole screens, compared with kept ones.
//! `INSTA_UPDATE=always` writes them anew.
//!
//! A snapshot has the text of the screen without colours, and below it the colours of the coloured one: a letter for each
//! style, runs of them counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pinwire_admin::app::{App, Kind, Options, Screen};
use pinwire_admin::client::{Update, What};
use pinwire_admin::list::Scope;
use pinwire_admin::model::{Millis, Model, example};
use pinwire_admin::theme::{Graphics, Palette, Theme};
use pinwire_admin::view::{MIN_HEIGHT, MIN_WIDTH, draw};
use pinwire_admin_api::stream::DocumentName;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

const NOW: Millis = 1_800_000_000_000;
const SIZES: [(u16, u16); 2] = [(80, 24), (160, 50)];

fn screen(kind: Kind) -> Screen {
    let mut screen = Screen::of(kind);
    if kind == Kind::Node {
        screen.scope = Scope { node: Some(1), ..Scope::default() };
    }
    if kind == Kind::App {
        screen.scope.app = Some(("acme".into(), "notes".into()));
    }
    if kind == Kind::Document {
        let name = example::look(0, 2, 1, NOW).documents[0].name.clone();
        screen.document = Some(DocumentName { tenant: "acme".into(), app: "notes".into(), name });
    }
    screen
}

fn app(fill: fn(&mut Model), kind: Kind, palette: Palette, graphics: Graphics) -> App {
    let mut app = App::new(Options {
        theme: Theme::new(palette, graphics),
        context: "prod".into(),
        ..Options::default()
    });
    fill(&mut app.model);
    app.screen = screen(kind);
    app
}

fn live(model: &mut Model) {
    example::cluster(model, NOW);
}

fn stale(model: &mut Model) {
    example::cluster(model, NOW - 13_000);
    example::lose_all(model, NOW - 12_000);
}

fn empty(_: &mut Model) {}

fn drawn(app: &mut App, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    app.arrange(NOW);
    terminal
        .draw(|frame| {
            let area = frame.area();
            draw(app, area, frame.buffer_mut(), NOW);
        })
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut text = String::new();
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// `a12b3`: twelve cells of style `a`, three of `b`. What styles are stands below.
fn colours(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut letters: BTreeMap<String, char> = BTreeMap::new();
    let mut text = String::new();
    for y in 0..area.height {
        let (mut line, mut run, mut last) = (String::new(), 0, None);
        for x in 0..=area.width {
            let style = (x < area.width).then(|| {
                let cell = &buffer[(x, y)];
                let style = Style { underline_color: None, ..cell.style() };
                let name = format!(
                    "{:?} on {:?} {:?}",
                    style.fg.unwrap_or(Color::Reset),
                    style.bg.unwrap_or(Color::Reset),
                    cell.modifier
                );
                let next = char::from(b'a' + u8::try_from(letters.len() % 26).unwrap());
                *letters.entry(name).or_insert(next)
            });
            if style != last {
                if let Some(letter) = last {
                    let _ = write!(line, "{letter}{run}");
                }
                run = 0;
            }
            (last, run) = (style, run + 1);
        }
        let _ = writeln!(text, "{line}");
    }
    for (name, letter) in &letters {
        let _ = writeln!(text, "{letter}: {name}");
    }
    text
}

fn check(state: &str, fill: fn(&mut Model)) {
    for (kind, name) in Kind::ALL {
        for (width, height) in SIZES {
            let plain = drawn(&mut app(fill, kind, Palette::Mono, Graphics::Braille), width, height);
            let is_plain = |buffer: &Buffer| {
                buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
            };
            assert!(is_plain(&plain), "{name} has colours where there should be none");
            let coloured = drawn(&mut app(fill, kind, Palette::Safe, Graphics::Braille), width, height);
            let whole = format!("{}\n{}", text(&plain), colours(&coloured));
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(format!("{name}-{state}-{width}x{height}"), whole);
            });
        }
    }
}

#[test]
fn views_of_a_live_cluster_look_as_they_are_kept() {
    check("live", live);
}

#[test]
fn views_of_a_lost_cluster_show_what_is_old_as_old() {
    check("stale", stale);
}

#[test]
fn views_of_nothing_say_so() {
    check("empty", empty);
}

/// Pins that are marked, what is asked before they are moved, and what became of them; and the help.
fn marked(palette: Palette, keys: &[&str]) -> App {
    let mut app = app(live, Kind::Pins, palette, Graphics::Braille);
    app.options.may_act = true;
    app.arrange(NOW);
    for key in keys {
        let (modifiers, code) = match *key {
            "range" => (KeyModifiers::CONTROL, KeyCode::Char(' ')),
            "enter" => (KeyModifiers::NONE, KeyCode::Enter),
            key => (KeyModifiers::NONE, KeyCode::Char(key.chars().next().unwrap())),
        };
        app.input(&Event::Key(KeyEvent::new(code, modifiers)), Rect::new(0, 4, 80, 19), NOW);
    }
    app
}

fn type_line(app: &mut App, line: &str) {
    for letter in line.chars() {
        app.input(&Event::Key(KeyEvent::from(KeyCode::Char(letter))), Rect::default(), NOW);
    }
    app.input(&Event::Key(KeyEvent::from(KeyCode::Enter)), Rect::default(), NOW);
}

#[test]
fn marks_what_they_ask_for_and_what_became_of_it_look_as_they_are_kept() {
    let marks = |palette| marked(palette, &["j", " ", "j", " "]);
    let confirm = |palette| {
        let mut app = marked(palette, &[" ", "j", "j", "j", "range"]);
        app.command("move us-east-1", NOW);
        app
    };
    let outcomes = |palette| {
        let mut app = confirm(palette);
        type_line(&mut app, "move 5");
        let titles: Vec<String> =
            app.outcomes.iter().flat_map(|all| all.rows.iter()).map(|row| row.0.clone()).collect();
        let told = [Ok(String::new()), Err("the region does not answer".to_owned()), Ok(String::new())];
        for (what, outcome) in titles.into_iter().zip(told) {
            app.update(Update { node: example::address(0), what: What::Acted { what, outcome } }, NOW);
        }
        app.notice = None;
        app
    };
    let help = |palette| marked(palette, &["?"]);
    let rest = |palette| marked(palette, &["?", "j"]);
    let all: [(&str, &dyn Fn(Palette) -> App); 5] = [
        ("marks", &marks),
        ("confirm", &confirm),
        ("outcomes", &outcomes),
        ("help", &help),
        ("help-more", &rest),
    ];
    for (name, made) in all {
        for (width, height) in SIZES {
            let plain = drawn(&mut made(Palette::Mono), width, height);
            let coloured = drawn(&mut made(Palette::Safe), width, height);
            let whole = format!("{}\n{}", text(&plain), colours(&coloured));
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(format!("{name}-{width}x{height}"), whole);
            });
        }
    }
}

#[test]
fn however_many_are_marked_the_line_to_type_is_on_the_screen() {
    for (width, height) in [(MIN_WIDTH, MIN_HEIGHT), (80, 24), (160, 50)] {
        let mut app = marked(Palette::Mono, &[" ", "G", "range"]);
        app.command("unpin", NOW);
        let text = text(&drawn(&mut app, width, height));
        let count = app.marks().unwrap().len();
        assert!(count > 50 && text.contains(&format!("unpin {count}")) && text.contains(" more"), "{text}");
    }
}

#[test]
fn without_unicode_everything_is_ascii() {
    for (kind, name) in Kind::ALL {
        for (width, height) in SIZES {
            let buffer = drawn(&mut app(live, kind, Palette::Safe, Graphics::Ascii), width, height);
            let text = text(&buffer);
            // What is not ours, such as the sign for a column that was cut, and dots of a map, may be more.
            let odd: String =
                text.chars().filter(|letter| !letter.is_ascii() && !"…•·µ".contains(*letter)).collect();
            assert!(odd.is_empty(), "{name} {width}x{height}: {odd}");
        }
    }
}

#[test]
fn every_size_is_drawn_or_refused_and_none_panics() {
    for (kind, _) in Kind::ALL {
        for (width, height) in
            [(1, 1), (MIN_WIDTH - 1, 40), (MIN_WIDTH, MIN_HEIGHT), (200, MIN_HEIGHT), (79, 23), (300, 100)]
        {
            for fill in [live as fn(&mut Model), stale, empty] {
                let mut app = app(fill, kind, Palette::Safe, Graphics::Blocks);
                app.is_help = width % 2 == 0;
                let buffer = drawn(&mut app, width, height);
                if width < MIN_WIDTH && width > 20 {
                    assert!(text(&buffer).contains("too small"));
                }
            }
        }
    }
}

#[test]
fn every_theme_marks_what_is_selected_by_a_sign_too() {
    for palette in [Palette::Safe, Palette::HighContrast, Palette::Light, Palette::Mono] {
        let mut app = app(live, Kind::Nodes, palette, Graphics::Braille);
        let buffer = drawn(&mut app, 80, 24);
        assert_eq!(text(&buffer).lines().filter(|line| line.starts_with('>')).count(), 1, "{palette:?}");
    }
}

#[test]
fn lists_tell_what_they_are_about_when_narrowed() {
    let mut app = app(live, Kind::Pins, Palette::Mono, Graphics::Braille);
    app.command("pins region=us grace>0", NOW);
    let text = text(&drawn(&mut app, 80, 24));
    assert!(text.contains("filter region=us grace>0"), "{text}");
    assert!(text.contains(" of 60"), "{text}");
}
