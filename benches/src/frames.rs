//! Pictures of the console: how long each view takes, with a large cluster, on a screen in memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use pinwire_admin::app::{App, Kind, Options, Screen};
use pinwire_admin::list::Scope;
use pinwire_admin::model::{Millis, example};
use pinwire_admin::view::draw;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::made_up::Size;

const NOW: Millis = 1_800_000_000_000;
/// Each is done so often.
pub const ROUNDS: u32 = 40;

/// How long something took.
#[derive(Clone, Debug)]
pub struct Took {
    /// What.
    pub what: String,
    /// On average.
    pub mean: Duration,
    /// At most.
    pub worst: Duration,
}

/// All of it.
///
/// # Errors
/// There is no screen in memory.
pub fn measure(size: Size) -> Result<Vec<Took>> {
    let mut app = App::new(Options::default());
    for second in 0..120 {
        example::second_of(&mut app.model, size.nodes, size.regions, second, NOW + second * 1000);
    }
    let now = NOW + 120_000;
    example::regions_of(&mut app.model, size.nodes, size.regions, now);
    example::pins_of(&mut app.model, size.pins, size.regions, now);
    let mut all = vec![took("a second's updates of all nodes", |round| {
        let second = 120 + u64::from(round);
        example::second_of(&mut app.model, size.nodes, size.regions, second, NOW + second * 1000);
        Ok(())
    })?];
    for (width, height) in [(80, 24), (160, 50)] {
        for (kind, name) in Kind::ALL {
            app.screen = Screen::of(kind);
            if kind == Kind::Node {
                app.screen.scope = Scope { node: Some(7), ..Scope::default() };
            }
            let mut terminal = Terminal::new(TestBackend::new(width, height))?;
            // The first round puts the list in order, which in use is done when data changed, at most twice a second.
            all.push(took(&format!("{name}, {width}x{height}"), |round| {
                let at = now + 60_000 + u64::from(round) * 1000;
                app.arrange(at);
                terminal.draw(|frame| {
                    let area = frame.area();
                    draw(&app, area, frame.buffer_mut(), at);
                })?;
                Ok(())
            })?);
        }
    }
    app.screen = Screen::of(Kind::Pins);
    all.push(took("a filter over all pins", |round| {
        app.command(&format!("filter road{} region=eu", round % 10), now);
        app.arrange(now);
        Ok(())
    })?);
    all.push(took("all pins sorted by edits", |round| {
        app.command(if round % 2 == 0 { "sort edits desc" } else { "sort edits asc" }, now);
        app.arrange(now);
        Ok(())
    })?);
    Ok(all)
}

fn took(what: &str, mut work: impl FnMut(u32) -> Result<()>) -> Result<Took> {
    let (mut worst, mut whole) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let begin = Instant::now();
        work(round)?;
        let took = begin.elapsed();
        (worst, whole) = (worst.max(took), whole + took);
    }
    Ok(Took { what: what.to_owned(), mean: whole / ROUNDS, worst })
}
