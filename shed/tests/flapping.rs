//! Ten minutes of load that oscillates around the mark, of each resource: a node leaves once, and stays out.

use std::f64::consts::TAU;

use pinwire_shed::{CpuMeter, Duty, Judge, Leave, Load, Marks, Part, Resource, Rung};

const SECOND: u64 = 1_000_000;
/// A node looks four times a second.
const LOOK_US: u64 = SECOND / 4;
const LOOKS: u64 = 10 * 60 * 4;
const DWELL_US: u64 = 10 * SECOND;
/// Over what time a node smooths processor load.
const SMOOTHED_US: u64 = 5 * SECOND;
const HIGH: f64 = 0.8;
const LOW: f64 = 0.7;

/// How load goes up and down: from -1 to 1 over one period.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Sine,
    Saw,
    Square,
    /// Anything, drawn anew once a period.
    Noise,
}

const SHAPES: [Shape; 4] = [Shape::Sine, Shape::Saw, Shape::Square, Shape::Noise];

impl Shape {
    fn at(self, now_us: u64, period_us: u64) -> f64 {
        let phase = (now_us % period_us) as f64 / period_us as f64;
        match self {
            Self::Sine => (TAU * phase).sin(),
            Self::Saw => 2.0 * phase - 1.0,
            Self::Square => {
                if phase < 0.5 {
                    1.0
                } else {
                    -1.0
                }
            }
            Self::Noise => {
                let drawn = (now_us / period_us + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (drawn >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
            }
        }
    }
}

/// What the node uses of one resource is `share`; of the others it uses little.
fn load(of: Resource, share: f64) -> Load {
    let part = |used: f64| Part { used: (used * 1e6) as u64, limit: 1_000_000 };
    let used = |resource| if of == resource { share } else { 0.1 };
    Load {
        connections: part(used(Resource::Connections)),
        memory: Some(part(used(Resource::Memory))),
        cpu: Some(used(Resource::Cpu)),
    }
}

/// What became of ten minutes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    left: usize,
    came_back: usize,
    /// Changes of what the node does.
    rungs: usize,
}

/// The share of each look, judged as a node does whose pool lets it go.
fn judged(of: Resource, share: impl Fn(u64) -> f64) -> Seen {
    let others = Duty { leave: Leave::May, others_serve: true, ..Duty::default() };
    let (mut judge, mut meter) = (Judge::new(Marks::new(HIGH, LOW, DWELL_US)), CpuMeter::new(SMOOTHED_US));
    let (mut seen, mut used_us) = (Seen::default(), 0.0);
    // It was in DNS before.
    judge.look(0, &load(of, 0.1), &others);
    assert!(judge.verdict().is_in_dns);
    for look in 1..=LOOKS {
        let now_us = look * LOOK_US;
        let mut share = share(now_us);
        if of == Resource::Cpu {
            // Two cores, whose time only grows.
            used_us += share * 2.0 * LOOK_US as f64;
            share = meter.note(now_us, used_us as u64, 2.0).unwrap_or(0.0);
        }
        if let Some(change) = judge.look(now_us, &load(of, share), &others) {
            seen.rungs += usize::from(change.from.rung != change.to.rung);
            match (change.from.is_in_dns, change.to.is_in_dns) {
                (true, false) => seen.left += 1,
                (false, true) => seen.came_back += 1,
                _ => {}
            }
        }
    }
    seen
}

#[test]
fn load_that_oscillates_around_the_mark_takes_a_node_out_once_in_ten_minutes() {
    for of in Resource::ALL {
        for shape in SHAPES {
            for period_us in [SECOND, 2 * SECOND, 8 * SECOND, 30 * SECOND, 120 * SECOND] {
                // More of it above than below, so that smoothed load passes the mark too.
                let seen = judged(of, |now_us| 0.82 + 0.06 * shape.at(now_us, period_us));
                let context = format!("{of} {shape:?} {} ms: {seen:?}", period_us / 1000);
                assert_eq!((seen.left, seen.came_back), (1, 0), "{context}");
                assert!(seen.rungs <= 3, "{context}");
            }
        }
    }
}

#[test]
fn load_that_is_low_for_less_than_the_dwell_brings_nobody_back() {
    for of in Resource::ALL {
        for shape in [Shape::Sine, Shape::Saw, Shape::Square] {
            // 55 to 95 %: far below the low mark, but never for as long as it takes.
            let seen = judged(of, |now_us| 0.75 + 0.2 * shape.at(now_us, 4 * SECOND));
            // Smoothed it hardly reaches the mark.
            let most = usize::from(of == Resource::Cpu);
            assert!((1 - most..=1).contains(&seen.left), "{of} {shape:?}: {seen:?}");
            assert_eq!(seen.came_back, 0, "{of} {shape:?}: {seen:?}");
        }
    }
}

#[test]
fn load_that_oscillates_around_any_lower_mark_changes_nothing_back_and_forth() {
    for of in Resource::ALL {
        for (middle, rung) in [(0.7, Rung::Thrifty), (0.75, Rung::NoNewDocuments)] {
            for shape in SHAPES {
                for period_us in [SECOND, 8 * SECOND, 60 * SECOND] {
                    let seen = judged(of, |now_us| middle + 0.01 + 0.03 * shape.at(now_us, period_us));
                    let context = format!("{of} {shape:?} {} ms: {seen:?}", period_us / 1000);
                    assert_eq!((seen.left, seen.came_back), (0, 0), "{context}");
                    assert!((1..=rung as usize).contains(&seen.rungs), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_node_comes_back_once_load_stays_low() {
    for of in Resource::ALL {
        let minute_us = 60 * SECOND;
        let seen = judged(of, |now_us| if now_us < minute_us { 0.85 } else { 0.3 });
        assert_eq!((seen.left, seen.came_back), (1, 1), "{of}: {seen:?}");
    }
}
