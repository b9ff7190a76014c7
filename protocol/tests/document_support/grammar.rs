//! Updates built from a stream of choices along the grammar the scanner accepts: well-formed, and otherwise as absurd
//! as a hostile client can make them (references to anything, deletes of anything, overlapping clocks).

use pinwire_protocol::document::varint::{write_var_bytes, write_var_string, write_var_uint};

/// Bytes that decide; zeros follow the last.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn up_to(&mut self, bound: u8) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % bound
    }
}

/// An update the scanner accepts, but for items that refer to their own future.
pub fn update_from(choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices(choices);
    let mut out = Vec::new();
    let sections = choices.up_to(4);
    out.push(sections);
    for client in (1..=sections).rev() {
        section(&mut out, &mut choices, client);
    }
    deletes(&mut out, &mut choices);
    out
}

fn section(out: &mut Vec<u8>, choices: &mut Choices<'_>, client: u8) {
    let structs = 1 + choices.up_to(5);
    let clock = choices.up_to(5);
    out.extend([structs, client, clock]);
    let mut after_skip = false;
    for _ in 0..structs {
        let kind = choices.up_to(16);
        after_skip = kind == 1 && !after_skip;
        match kind {
            1 if after_skip => out.extend([10, 1 + choices.up_to(4)]),
            0 | 1 => out.extend([0, 1 + choices.up_to(4)]),
            _ => item(out, choices),
        }
    }
}

fn item(out: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let flags = choices.up_to(8) << 5;
    let content = [1, 3, 4, 4, 4, 5, 6, 7, 7, 8, 8, 9][usize::from(choices.up_to(12))];
    out.push(flags | content);
    for flag in [0x80, 0x40] {
        if flags & flag != 0 {
            id(out, choices);
        }
    }
    if flags & 0xc0 == 0 {
        match choices.up_to(3) {
            0 => {
                out.push(0);
                id(out, choices);
            }
            root => {
                out.push(1);
                write_var_string(out, ["", "text", "map"][usize::from(root)]);
            }
        }
        if flags & 0x20 != 0 {
            write_var_string(out, ["k", "l"][usize::from(choices.up_to(2))]);
        }
    }
    item_content(out, choices, content);
}

fn id(out: &mut Vec<u8>, choices: &mut Choices<'_>) {
    out.push(1 + choices.up_to(3));
    out.push(choices.up_to(12));
}

fn item_content(out: &mut Vec<u8>, choices: &mut Choices<'_>, content: u8) {
    match content {
        1 => out.push(1 + choices.up_to(5)),
        3 => write_var_bytes(out, &[0xff; 3][..usize::from(choices.up_to(4))]),
        4 => write_var_string(
            out,
            ["a", "bc", "def", "😀", "x😀y", "é\u{fffd}"][usize::from(choices.up_to(6))],
        ),
        5 => write_var_string(out, json(choices)),
        6 => {
            write_var_string(out, ["bold", "link"][usize::from(choices.up_to(2))]);
            write_var_string(out, json(choices));
        }
        7 => match [0, 1, 2, 3, 4, 6][usize::from(choices.up_to(6))] {
            3 => out.extend([3, 1, b'p']),
            kind => out.push(kind),
        },
        8 => {
            let len = 1 + choices.up_to(4);
            out.push(len);
            (0..len).for_each(|_| value(out, choices, 3));
        }
        _ => {
            write_var_string(out, "guid");
            out.push(118);
            match choices.up_to(3) {
                0 => out.push(0),
                1 => out
                    .extend([2, 2, b'g', b'c', 121, 8, b'a', b'u', b't', b'o', b'L', b'o', b'a', b'd', 120]),
                _ => {
                    out.extend([1, 4, b'm', b'e', b't', b'a']);
                    value(out, choices, 2);
                }
            }
        }
    }
}

fn json(choices: &mut Choices<'_>) -> &'static str {
    const TEXTS: [&str; 8] = [
        "null",
        "true",
        "{}",
        "[1,-0.5e3]",
        "\"\\ud83d\\ude00\"",
        "9223372036854775807",
        "{\"a\":{\"a\":1}}",
        "-0",
    ];
    TEXTS[usize::from(choices.up_to(8))]
}

fn value(out: &mut Vec<u8>, choices: &mut Choices<'_>, depth: u8) {
    let tag = 127 - choices.up_to(if depth == 0 { 9 } else { 12 });
    out.push(tag);
    match tag {
        125 => write_var_uint(out, u64::from(choices.up_to(64))),
        124 => out.extend([0x7f, 0xc0, 0, 0]),
        123 | 122 => out.extend([choices.up_to(255), 0xf0, 1, 2, 3, 4, 5, 6]),
        119 => write_var_string(out, "v"),
        118 => {
            let len = choices.up_to(3);
            out.push(len);
            for _ in 0..len {
                write_var_string(out, ["k", "constructor"][usize::from(choices.up_to(2))]);
                value(out, choices, depth - 1);
            }
        }
        117 => {
            let len = choices.up_to(3);
            out.push(len);
            (0..len).for_each(|_| value(out, choices, depth - 1));
        }
        116 => write_var_bytes(out, &[1]),
        _ => {}
    }
}

fn deletes(out: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let clients = choices.up_to(4);
    out.push(clients);
    for client in 1..=clients {
        let ranges = 1 + choices.up_to(3);
        out.extend([client, ranges]);
        let mut clock = 0;
        for _ in 0..ranges {
            clock += choices.up_to(4);
            let len = 1 + choices.up_to(4);
            out.extend([clock, len]);
            clock += len;
        }
    }
}
