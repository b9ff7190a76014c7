//! A page of documentation as steps to run: its shell blocks, with what comments above them say about running them.
//!
//! A comment is invisible when the page is shown. One that begins with `blocks:` stands alone above a block, on lines of its
//! own, and holds a directive:
//!
//! | directive | |
//! | --- | --- |
//! | `service TEXT` | the block goes on in the background; the next one runs once it has said TEXT |
//! | `says TEXT` | the block says TEXT |
//! | `replace TEXT by SHELL` | TEXT in the block is replaced by SHELL |
//! | `hidden`, with lines of shell below it | a block of its own that readers do not need; `hidden service TEXT` goes on |
//! | `not run: REASON` | the block is only checked: it parses, and the flags that it gives exist |
//! | `page not run: REASON` | the same for every block of the page |
//! | `page in the checkout` | blocks run in the checkout, not in an empty folder |
//! | `page on a machine` | the page is run by the stage `package`, on a machine of its own |

use anyhow::{Context, Result, bail, ensure};

/// A page with what it has to run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) steps: Vec<Step>,
    pub(crate) is_in_checkout: bool,
    pub(crate) is_on_a_machine: bool,
}

/// A block, or a command of one that shows what commands say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// Of its first line in the page, from 1.
    pub(crate) line: usize,
    pub(crate) script: String,
    /// The lines that the page shows below the command.
    pub(crate) shown: Vec<String>,
    pub(crate) says: Vec<String>,
    /// It goes on in the background, and is ready when it has said this.
    pub(crate) service: Option<String>,
    /// Why it is not run.
    pub(crate) not_run: Option<String>,
}

/// Directives that wait for their block.
#[derive(Default)]
struct Pending {
    step: Step,
    replacements: Vec<(String, String)>,
}

impl Page {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut page = Self::default();
        let mut page_not_run = None;
        let mut pending = Pending::default();
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            let place = || format!("line {number}");
            if let Some(begin) = line.trim_start().strip_prefix("<!-- blocks:") {
                let body = comment(begin, &mut lines).with_context(place)?;
                let (directive, script) = body.split_once('\n').unwrap_or((&body, ""));
                match directive.trim().strip_prefix("page ") {
                    Some("in the checkout") => page.is_in_checkout = true,
                    Some("on a machine") => page.is_on_a_machine = true,
                    Some(other) => {
                        let reason = other.strip_prefix("not run: ");
                        page_not_run = Some(
                            reason
                                .with_context(|| format!("no directive: page {other}"))
                                .with_context(place)?
                                .to_owned(),
                        );
                    }
                    None => {
                        pending
                            .take(directive.trim(), script, number, &mut page.steps)
                            .with_context(place)?;
                    }
                }
            } else if let Some(kind) = line.trim_start().strip_prefix("```") {
                let body = block(&mut lines).with_context(place)?;
                pending.end(kind.trim(), &body, number + 1, &mut page.steps).with_context(place)?;
            }
        }
        ensure!(pending.is_empty(), "a directive at the end has no block");
        for step in &mut page.steps {
            if step.not_run.is_none() {
                step.not_run.clone_from(&page_not_run);
            }
        }
        Ok(page)
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.step == Step::default() && self.replacements.is_empty()
    }

    fn take(&mut self, directive: &str, script: &str, line: usize, steps: &mut Vec<Step>) -> Result<()> {
        if let Some(rest) = directive.strip_prefix("hidden") {
            ensure!(!script.trim().is_empty(), "hidden shell stands on the lines below");
            let service = rest.trim().strip_prefix("service ").map(str::to_owned);
            ensure!(service.is_some() || rest.trim().is_empty(), "no directive: {directive}");
            let script = script.trim_end().to_owned();
            steps.push(Step { line: line + 1, script, service, ..Step::default() });
            return Ok(());
        }
        ensure!(script.trim().is_empty(), "only `hidden` has lines below it");
        if let Some(text) = directive.strip_prefix("service ") {
            self.step.service = Some(text.to_owned());
        } else if let Some(text) = directive.strip_prefix("says ") {
            self.step.says.push(text.to_owned());
        } else if let Some(reason) = directive.strip_prefix("not run: ") {
            self.step.not_run = Some(reason.to_owned());
        } else if let Some((text, by)) =
            directive.strip_prefix("replace ").and_then(|rest| rest.split_once(" by "))
        {
            self.replacements.push((text.to_owned(), by.to_owned()));
        } else {
            bail!("no directive: {directive}; xtask/src/blocks/page.rs lists them");
        }
        Ok(())
    }

    fn end(&mut self, kind: &str, body: &str, line: usize, steps: &mut Vec<Step>) -> Result<()> {
        let is_shell = matches!(kind, "sh" | "bash" | "shell" | "console");
        if !is_shell {
            ensure!(self.is_empty(), "a directive stands above a block that is no shell");
            return Ok(());
        }
        let Self { step, replacements } = std::mem::take(self);
        let mut body = body.to_owned();
        for (text, by) in replacements {
            ensure!(body.contains(&text), "the block has no `{text}` to replace");
            body = body.replace(&text, &by);
        }
        if kind == "console" {
            steps.extend(commands(&body, line, &step)?);
        } else {
            steps.push(Step { line, script: body, ..step });
        }
        Ok(())
    }
}

/// The commands of a block that shows what they say: `$ ` begins a command, `> ` goes on with it.
fn commands(body: &str, first: usize, like: &Step) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (at, line) in body.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            let (says, service, not_run) = (like.says.clone(), like.service.clone(), like.not_run.clone());
            let script = command.to_owned();
            steps.push(Step { line: first + at, script, says, service, not_run, ..Step::default() });
            continue;
        }
        let step = steps.last_mut().context("a console block begins with `$ ` and a command")?;
        match line.strip_prefix("> ").filter(|_| step.shown.is_empty()) {
            Some(more) => step.script.push_str(&format!("\n{more}")),
            None => step.shown.push(line.to_owned()),
        }
    }
    Ok(steps)
}

/// The rest of a comment that began with `begin`.
fn comment<'a>(begin: &'a str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<String> {
    let mut body = vec![begin];
    let mut last = begin;
    loop {
        if let Some(before) = last.trim_end().strip_suffix("-->") {
            body.pop();
            body.push(before.trim_end());
            return Ok(body.join("\n"));
        }
        last = lines.next().context("the comment has no end")?.1;
        body.push(last);
    }
}

/// The lines of a block up to its fence.
fn block<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<String> {
    let mut body = String::new();
    for (_, line) in lines {
        if line.trim() == "```" {
            return Ok(body);
        }
        body.push_str(line);
        body.push('\n');
    }
    bail!("the block has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(page: &Page) -> Vec<&str> {
        page.steps.iter().map(|step| step.script.trim_end()).collect()
    }

    #[test]
    fn blocks_are_steps_in_order_and_comments_say_how_they_run() {
        let page = Page::parse(
            "# Page\n<!-- blocks: page in the checkout -->\n\n<!-- blocks: hidden service ready\nprepare -p 1\n-->\n\n\
             <!-- blocks: replace TOKEN by $T -->\n<!-- blocks: says hello -->\n```sh\nsay TOKEN\nmore\n```\n\n\
             ```toml\na = 1\n```\n<!-- blocks: not run: it takes an hour -->\n```bash\nwait\n```\n",
        )
        .unwrap();
        assert!(page.is_in_checkout && !page.is_on_a_machine);
        assert_eq!(scripts(&page), ["prepare -p 1", "say $T\nmore", "wait"]);
        assert_eq!(page.steps[0].service.as_deref(), Some("ready"));
        assert_eq!((page.steps[1].line, page.steps[1].says.as_slice()), (11, &["hello".to_owned()][..]));
        assert_eq!(page.steps[2].not_run.as_deref(), Some("it takes an hour"));
    }

    #[test]
    fn a_console_block_is_its_commands_each_with_what_it_says() {
        let page = Page::parse("```console\n$ one \\\n> two\nsaid\n> said too\n$ three\n```\n").unwrap();
        assert_eq!(scripts(&page), ["one \\\ntwo", "three"]);
        assert_eq!(page.steps[0].shown, ["said", "> said too"]);
        assert_eq!(page.steps[1].line, 6);
    }

    #[test]
    fn what_nobody_would_notice_is_an_error() {
        for wrong in [
            "<!-- blocks: surprise x -->\n```sh\na\n```\n",
            "<!-- blocks: page surprise -->\n",
            "<!-- blocks: says x -->\n```toml\na = 1\n```\n",
            "<!-- blocks: says x -->\n",
            "<!-- blocks: replace x by y -->\n```sh\na\n```\n",
            "<!-- blocks: hidden -->\n",
            "```console\nno command\n```\n",
            "```sh\nno end\n",
        ] {
            assert!(Page::parse(wrong).is_err(), "{wrong}");
        }
    }
}
