//! Many defects in one text, of which a variable of the environment chooses at most one when the program runs.
//!
//! The body of a function that defects change is kept once as it stands and once for each of them:
//!
//! ```text
//! fn f() { if PLANTED == "one" { BODY CHANGED BY one } else if PLANTED == "two" { BODY CHANGED BY two } else { BODY } }
//! ```
//!
//! So everything is built once, and a process that is started without the variable is as the checkout is.

use super::entry::Defect;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use syn::visit::{self, Visit};

/// The variable that names the defect.
pub(super) const VARIABLE: &str = "PINWIRE_DEFECT";

/// `text`, a source file, with all of `defects` planted in it.
pub(super) fn plant(text: &str, defects: &[&Defect]) -> Result<String> {
    let bodies = bodies(text)?;
    let mut variants: BTreeMap<usize, (Range<usize>, String)> = BTreeMap::new();
    for defect in defects {
        let (body, changed) =
            change(text, &bodies, defect).with_context(|| format!("defect {}", defect.name))?;
        let (_, variants) = variants.entry(body.start).or_insert_with(|| (body.clone(), String::new()));
        variants.push_str(&format!(" if {} {changed} else", chosen(&defect.name)));
    }
    let mut planted = text.to_owned();
    // From the end, so that places before it stay where they are.
    for (body, variants) in variants.into_values().rev() {
        let whole = format!("{{{variants} {} }}", &text[body.clone()]);
        planted.replace_range(body, &whole);
    }
    Ok(planted)
}

/// An expression: whether the environment names this defect. It is looked at once a process.
fn chosen(name: &str) -> String {
    format!(
        "{{ static PLANTED: ::std::sync::LazyLock<bool> = ::std::sync::LazyLock::new(|| \
         ::std::env::var_os(\"{VARIABLE}\").is_some_and(|name| name == \"{name}\")); *PLANTED }}"
    )
}

/// The body of the function that the defect changes, and that body with the change, both in braces.
fn change(text: &str, bodies: &[Body], defect: &Defect) -> Result<(Range<usize>, String)> {
    let found = text.matches(&defect.from).count();
    ensure!(found == 1, "its `from` text occurs {found} times in {}; it must occur once", defect.file);
    let start = text.find(&defect.from).context("its `from` text")?;
    let body = bodies.iter().find(|body| body.range.start < start && start < body.range.end);
    let body = body.context("its `from` text is not in the body of a function")?;
    let end = start + defect.from.trim_end().len();
    ensure!(end < body.range.end, "its `from` text goes beyond the body of a function");
    if let Some(reason) = body.hindrance {
        bail!("it cannot be planted in a function that {reason}");
    }
    let mut changed = text[body.range.start..start].to_owned();
    changed.push_str(defect.to.trim_end());
    changed.push_str(&text[end..body.range.end]);
    Ok((body.range.clone(), changed))
}

/// Where a function's body is, braces included.
struct Body {
    range: Range<usize>,
    /// Why its body cannot be a choice.
    hindrance: Option<&'static str>,
}

/// The bodies of functions, without those within others.
fn bodies(text: &str) -> Result<Vec<Body>> {
    let file = syn::parse_file(text)?;
    let mut found = Bodies(Vec::new());
    found.visit_file(&file);
    Ok(found.0)
}

struct Bodies(Vec<Body>);

impl Bodies {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let is_opaque = matches!(&signature.output, syn::ReturnType::Type(_, returned) if matches!(**returned, syn::Type::ImplTrait(_)));
        let hindrance = match (signature.constness, is_opaque) {
            (Some(_), _) => Some("is const"),
            (None, true) => Some("returns an opaque type"),
            (None, false) => None,
        };
        let braces = block.brace_token.span;
        let range = braces.open().byte_range().start..braces.close().byte_range().end;
        self.0.push(Body { range, hindrance });
    }
}

// Bodies are not visited: a function in a function is part of the outer one.
impl<'ast> Visit<'ast> for Bodies {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        match &item.default {
            Some(block) => self.add(&item.sig, block),
            None => visit::visit_trait_item_fn(self, item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry;
    use super::*;

    const TEXT: &str = "//! Größe.\nconst ONE: u8 = 1;\nimpl A {\n    fn f() -> u8 {\n        let a = 2;\n        a + 3\n    }\n}\nfn g() -> u8 {\n    4\n}\nfn h() -> impl B {\n    5\n}\n";

    fn defect(name: &str, from: &str, to: &str) -> Defect {
        let text = format!("file: a.rs\ntest: -p a\n--- from\n{from}\n--- to\n{to}\n");
        entry::parse(name, &text).unwrap()
    }

    /// Without blanks, and with the choice shortened.
    fn dense(text: &str) -> String {
        let mut text = text.to_owned();
        for name in ["one", "two", "three"] {
            text = text.replace(&chosen(name), name);
        }
        text.split_whitespace().collect()
    }

    #[test]
    fn each_defect_is_a_variant_of_its_function() {
        let defects = [
            defect("one", "        a + 3", "        a + 30"),
            defect("two", "let a = 2;", "let a = 20;"),
            defect("three", "    4", "    40"),
        ];
        let planted = dense(&plant(TEXT, &defects.iter().collect::<Vec<_>>()).unwrap());
        assert!(
            planted.contains("fnf()->u8{ifone{leta=2;a+30}elseiftwo{leta=20;a+3}else{leta=2;a+3}}}"),
            "{planted}"
        );
        assert!(planted.contains("fng()->u8{ifthree{40}else{4}}"), "{planted}");
    }

    #[test]
    fn what_cannot_be_chosen_at_run_time_is_refused() {
        for (from, reason) in
            [("u8 = 1;", "not in the body"), ("}", "occurs"), ("    5", "opaque"), ("    4\n}", "beyond")]
        {
            let defect = defect("one", from, "nothing");
            let error = format!("{:#}", plant(TEXT, &[&defect]).unwrap_err());
            assert!(error.contains(reason), "{from}: {error}");
        }
    }
}
