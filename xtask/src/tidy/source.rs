//! What one Rust file uses: paths, statics, macros, attributes, unsafe code.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemStatic, Macro, UseTree};

/// A thing a file uses, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) what: What,
    /// From 1.
    pub(super) line: usize,
    /// Inside an item that only tests compile.
    pub(super) in_test: bool,
    /// Inside a test whose runtime skips ahead instead of waiting.
    pub(super) on_virtual_clock: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A path as written, imports flattened: `std::io::Read`. A glob import ends in `*`.
    Path(String),
    /// A method call: its name.
    Method(String),
    /// A macro call: its last segment.
    Macro(String),
    /// A `static` item: its type as tokens, and whether it is `mut`.
    Static { ty: String, mutable: bool },
    /// An attribute: its path.
    Attribute(String),
    /// A block, function, impl or trait that is `unsafe`, or an attribute that allows one.
    Unsafe,
}

/// Reads a whole file.
pub(super) fn read(text: &str) -> syn::Result<Vec<Use>> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader {
        uses: Vec::new(),
        test_depth: usize::from(is_test_only(&file.attrs)),
        on_virtual_clock: false,
    };
    reader.visit_file(&file);
    Ok(reader.uses)
}

struct Reader {
    uses: Vec<Use>,
    test_depth: usize,
    on_virtual_clock: bool,
}

impl Reader {
    fn push(&mut self, what: What, spanned: &impl Spanned) {
        let line = spanned.span().start().line;
        let (in_test, on_virtual_clock) = (self.test_depth > 0, self.on_virtual_clock);
        self.uses.push(Use { what, line, in_test, on_virtual_clock });
    }

    fn flatten(&mut self, prefix: &str, tree: &UseTree) {
        let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        match tree {
            UseTree::Path(path) => self.flatten(&join(&path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.push(What::Path(join(&name.ident.to_string())), name),
            UseTree::Rename(rename) => self.push(What::Path(join(&rename.ident.to_string())), rename),
            UseTree::Glob(glob) => self.push(What::Path(join("*")), glob),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.flatten(prefix, item)),
        }
    }

    /// A macro's body is only tokens: paths in it are found by their spelling.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path = String::new();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        path.clear();
                    }
                    if !path.is_empty() {
                        path.push_str("::");
                    }
                    path.push_str(&ident.to_string());
                    colons = 0;
                    if ident == "unsafe" {
                        self.push(What::Unsafe, ident);
                    } else {
                        self.push(What::Path(path.clone()), ident);
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    colons = 0;
                    path.clear();
                    self.read_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    colons = 0;
                    path.clear();
                }
            }
        }
    }

    fn within(&mut self, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        let only = usize::from(is_test_only(attributes));
        self.test_depth += only;
        visit(self);
        self.test_depth -= only;
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.within(&item.attrs, |reader| reader.flatten("", &item.tree));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.push(What::Path(segments.join("::")), path);
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.push(What::Method(call.method.to_string()), &call.method);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if let Some(last) = call.path.segments.last() {
            self.push(What::Macro(last.ident.to_string()), call);
        }
        self.visit_path(&call.path);
        self.read_tokens(call.tokens.clone());
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        let ty = source_of(&item.ty);
        let mutable = matches!(item.mutability, syn::StaticMutability::Mut(_));
        self.within(&item.attrs, |reader| {
            reader.push(What::Static { ty, mutable }, &item.ident);
            visit::visit_item_static(reader, item);
        });
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let segments: Vec<String> =
            attribute.path().segments.iter().map(|segment| segment.ident.to_string()).collect();
        let path = segments.join("::");
        if let syn::Meta::List(list) = &attribute.meta {
            let lifts = ["allow", "expect", "warn"].contains(&path.as_str());
            if lifts && list.tokens.clone().into_iter().any(|token| token.to_string() == "unsafe_code") {
                self.push(What::Unsafe, attribute);
            }
            // `#[cfg_attr(condition, ignore)]` is an `ignore`, too.
            if path == "cfg_attr"
                && list.tokens.clone().into_iter().any(|token| token.to_string() == "ignore")
            {
                self.push(What::Attribute("ignore".to_owned()), attribute);
            }
        }
        self.push(What::Attribute(path), attribute);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.within(&item.attrs, |reader| visit::visit_item_mod(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let outer = self.on_virtual_clock;
        self.on_virtual_clock |= item.attrs.iter().any(pauses_the_clock);
        self.within(&item.attrs, |reader| visit::visit_item_fn(reader, item));
        self.on_virtual_clock = outer;
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.push(What::Unsafe, token);
        }
        self.within(&item.attrs, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if let Some(token) = &item.unsafety {
            self.push(What::Unsafe, token);
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.unsafety {
            self.push(What::Unsafe, token);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.push(What::Unsafe, &block.unsafe_token);
        visit::visit_expr_unsafe(self, block);
    }
}

/// The source text of `node`.
fn source_of(node: &impl Spanned) -> String {
    node.span().source_text().unwrap_or_default()
}

/// `#[tokio::test(start_paused = true)]`.
fn pauses_the_clock(attribute: &Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.tokens.to_string().contains("start_paused = true")
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().segments.last().is_some_and(|last| last.ident == "test") {
            return true;
        }
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let text = list.tokens.to_string();
        attribute.path().is_ident("cfg")
            && (text == "test" || text.starts_with("all (test") || text.starts_with("all(test"))
    })
}
