//! Measures what the console costs whoever runs it: a picture of each view and a second's updates, with 100 nodes in 10 regions and
//! 100,000 pins. `cargo run --release -p pinwire-admin --example frames`.

#![allow(clippy::print_stdout, reason = "what it measures is what it prints")]

use std::time::{Duration, Instant};

use pinwire_admin::app::{App, Kind, Options, Screen};
use pinwire_admin::list::Scope;
use pinwire_admin::model::{Millis, example};
use pinwire_admin::view::draw;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const NODES: usize = 100;
const REGIONS: usize = 10;
const PINS: u64 = 100_000;
const NOW: Millis = 1_800_000_000_000;
const ROUNDS: u32 = 40;

fn main() {
    let mut app = App::new(Options::default());
    for second in 0..120 {
        example::second_of(&mut app.model, NODES, REGIONS, second, NOW + second * 1000);
    }
    let now = NOW + 120_000;
    example::regions_of(&mut app.model, NODES, REGIONS, now);
    example::pins_of(&mut app.model, PINS, REGIONS, now);
    println!("| what | mean | worst |\n| --- | --- | --- |");
    row("a second's updates of all nodes", |round| {
        example::second_of(
            &mut app.model,
            NODES,
            REGIONS,
            120 + u64::from(round),
            now + u64::from(round) * 1000,
        );
    });
    for (width, height) in [(80, 24), (160, 50)] {
        for (kind, name) in Kind::ALL {
            app.screen = Screen::of(kind);
            if kind == Kind::Node {
                app.screen.scope = Scope { node: Some(7), region: None };
            }
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
            // The first round puts the list in order, which in use is done when data changed, at most twice a second.
            row(&format!("{name}, {width}x{height}"), |round| {
                let at = now + 60_000 + u64::from(round) * 1000;
                app.arrange(at);
                let drawn = terminal.draw(|frame| {
                    let area = frame.area();
                    draw(&app, area, frame.buffer_mut(), at);
                });
                drawn.expect("a screen in memory");
            });
        }
    }
    app.screen = Screen::of(Kind::Pins);
    row("a filter over all pins, with the picture", |round| {
        app.command(&format!("filter road{} region=eu", round % 10), now);
        app.arrange(now);
    });
    row("all pins sorted by edits", |round| {
        app.command(if round % 2 == 0 { "sort edits desc" } else { "sort edits asc" }, now);
        app.arrange(now);
    });
}

fn row(name: &str, mut work: impl FnMut(u32)) {
    let mut worst = Duration::ZERO;
    let mut whole = Duration::ZERO;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        work(round);
        let took = begin.elapsed();
        (worst, whole) = (worst.max(took), whole + took);
    }
    let millis = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    println!("| {name} | {} | {} |", millis(whole / ROUNDS), millis(worst));
}
