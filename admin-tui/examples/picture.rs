//! Prints a view of a made-up cluster as text, as the README shows it: `cargo run -p pinwire-admin --example picture -- overview 100 30`.

#![allow(clippy::print_stdout, reason = "the picture is what it prints")]

use pinwire_admin::app::{App, Kind, Options, Screen};
use pinwire_admin::model::example;
use pinwire_admin::once::picture;

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "overview".into());
    let mut number = |default: u16| words.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (width, height) = (number(100), number(30));
    let now = 1_800_000_000_000;
    let mut app = App::new(Options { context: "prod".into(), ..Options::default() });
    example::cluster(&mut app.model, now);
    let kind = Kind::ALL.iter().find(|(_, known)| *known == name).map_or(Kind::Overview, |(kind, _)| *kind);
    app.screen = Screen::of(kind);
    println!("{}", picture(&mut app, width, height, now));
}
