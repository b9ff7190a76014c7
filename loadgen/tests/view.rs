//! The live view as it is drawn: whole frames, compared with kept ones. `PINWIRE_SNAPSHOTS=write` writes them anew.

use std::path::Path;

use pinwire_loadgen::results::Region;
use pinwire_loadgen::run::{Faults, Phase, Second, Status, ThreadLoad};
use pinwire_loadgen::view::Heading;
use pinwire_loadgen::view::draw::{MIN_HEIGHT, MIN_WIDTH, draw};
use pinwire_loadgen::view::model::Model;
use pinwire_loadgen::view::palette::Palette;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

/// A run of half a minute in which something went wrong at the end.
fn model(seconds: u32, threads: u32) -> Model {
    let mut model = Model::default();
    model.begin(&Heading {
        scenario: "document".into(),
        target: "ws://127.0.0.1:1234".into(),
        step: None,
        is_open: true,
        all_stand: true,
        warm_up: 1.0,
    });
    for number in 0..seconds {
        model.status(&Status {
            phase: if number < 3 { Phase::Connecting } else { Phase::Load },
            elapsed: f64::from(number),
            load_elapsed: (number >= 3).then(|| f64::from(number) - 3.0),
            load_seconds: 61.0,
            wanted: 1_000,
            open: u64::from(number * 400).min(1_000),
            faults: Faults::default(),
            rate: 500.0,
        });
        let mut second = Second::default();
        second.interval.second = number;
        if number >= 3 {
            (second.interval.planned, second.interval.sent) = (500, 500);
            second.interval.received = 4_500;
            for delivery in 0..100 {
                let latency = 400_000 + delivery * 9_000 * u64::from(1 + number % 7);
                second.interval.latency.record(latency);
                second.detail.uncorrected.record(latency - 50_000);
            }
            second.detail.schedule_lag.record(60_000);
        }
        second.detail.loop_lag.record(90_000);
        second.detail.threads = (1..=threads)
            .map(|thread| ThreadLoad { name: format!("worker {thread}"), busy: 0.1 * f64::from(thread % 10) })
            .collect();
        second.interval.busiest_thread = 0.1 * f64::from(threads.min(9));
        model.second(&second);
    }
    model
}

fn in_trouble() -> Model {
    let mut model = model(30, 9);
    model.status(&Status {
        open: 940,
        faults: Faults { lost: 12, duplicated: 1, ..Faults::default() },
        ..model.status
    });
    let mut second = model.last.clone();
    second.interval.second = 30;
    (second.interval.dropped, second.interval.errors) = (40, 63);
    second.interval.server =
        Some(serde_json::from_str(r#"{"cpu_seconds":1.25,"resident":123456789}"#).unwrap());
    second.detail.errors.insert("send dropped: not connected".into(), 40);
    second.detail.errors.insert("lost: closed 1011".into(), 60);
    second.detail.errors.insert("refused 503".into(), 3);
    second.detail.schedule_lag.record_n(400_000_000, 5);
    model.second(&second);
    model.note("search: 1000/s Held, p99 = 3.1 ms");
    model
}

/// Two regions, of which one lost a node.
fn in_two_regions() -> Model {
    let mut model = model(30, 2);
    let mut second = model.last.clone();
    second.interval.second = 30;
    let mut eu = Region { open: 480, joined: 520, sent_away: 40, lost: 20, ..Region::default() };
    eu.recover.record_n(340_000_000, 20);
    let mut us = Region { open: 520, joined: 540, sent_here: 40, ..Region::default() };
    us.redirect.record_n(12_000_000, 40);
    second.detail.regions.extend([("eu-central-1".to_owned(), eu), ("us-east-1".to_owned(), us)]);
    model.second(&second);
    model
}

fn frame(model: &Model, width: u16, height: u16, palette: Palette) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, palette)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width);
    let rows =
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n");
    rows.collect()
}

fn is_kept(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("PINWIRE_SNAPSHOTS").is_some_and(|how| how == "write") {
        std::fs::write(&path, drawn).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "{name} is drawn otherwise than it is kept:\n{drawn}");
}

#[test]
fn frames_are_as_they_are_kept_at_both_sizes() {
    for (name, model) in [
        ("begin", model(2, 2)),
        ("good", model(30, 2)),
        ("trouble", in_trouble()),
        ("regions", in_two_regions()),
    ] {
        for (width, height) in [(80, 24), (160, 50)] {
            let drawn = text(&frame(&model, width, height, Palette::new(true)));
            is_kept(&format!("{name}-{width}x{height}"), &drawn);
        }
    }
}

#[test]
fn without_colour_the_same_words_and_signs_say_everything() {
    let model = in_trouble();
    for (width, height) in [(80, 24), (160, 50)] {
        let (coloured, plain) = (
            frame(&model, width, height, Palette::new(true)),
            frame(&model, width, height, Palette::new(false)),
        );
        assert_eq!(text(&coloured), text(&plain));
        assert!(coloured.content.iter().any(|cell| matches!(cell.fg, Color::Indexed(_))));
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        for word in ["INVALID so far", "FAULTS", "some are missing", "dropped 40", "lost 12"] {
            assert!(text(&plain).contains(word), "{word}:\n{}", text(&plain));
        }
    }
}

#[test]
fn a_terminal_that_is_too_small_says_so_and_none_panics() {
    let model = in_trouble();
    let small = text(&frame(&model, 40, 10, Palette::new(true)));
    assert!(small.contains("needs 72 columns"), "{small}");
    for width in (1..200).step_by(7).chain([MIN_WIDTH, 80, 123, 124]) {
        for height in (1..70).step_by(3).chain([MIN_HEIGHT, 24, 30]) {
            for model in [&Model::default(), &model] {
                frame(model, width, height, Palette::new(true));
            }
        }
    }
}

#[test]
fn what_matters_is_seen_at_the_least_size() {
    let drawn = text(&frame(&in_trouble(), MIN_WIDTH, MIN_HEIGHT, Palette::new(true)));
    for word in [
        "document",
        "INVALID",
        "connections",
        "run so far",
        "lost 12",
        "closed 1011",
        "worker 9",
        "memory",
        "q or",
    ] {
        assert!(drawn.contains(word), "{word}:\n{drawn}");
    }
}
