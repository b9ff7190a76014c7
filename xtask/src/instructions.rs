//! Instruction counts of the micro benchmarks against the figures that are kept, so that a regression shows itself.
//!
//! `benches/instructions.toml` holds a figure per case and what it was counted on. Counts are the same on a busy machine as
//! on an idle one, but not with another compiler, and hardly with another C library or processor: see [`Trust`].

use crate::shell::{cargo, command, root, stdout};
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// How far a case may be from its figure without an own tolerance.
const TOLERANCE_PERCENT: f64 = 2.0;
/// The least tolerance where the C library or the processor differs: both choose how bytes are copied and searched.
const ELSEWHERE_PERCENT: f64 = 20.0;

const MEND: &str = "If the change is meant, keep the new figures with `cargo xtask instructions --write` and say why in the commit.";
const HEAD: &str = "\
# Instructions that one operation of each micro benchmark takes (benches/micro), written by `cargo xtask instructions --write`.
# `tolerance` is edited by hand: percent, for cases that need another than the default.
";

/// By name of a case.
type Counts = BTreeMap<String, f64>;

/// The kept figures.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    basis: Basis,
    tolerance: Counts,
    instructions: Counts,
}

/// What counts depend on besides the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Basis {
    rustc: String,
    /// Architecture, and the instruction sets among which libraries choose.
    processor: String,
    libc: String,
}

/// How much a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The same compiler, C library and kind of processor.
    Full,
    /// The same compiler: tolerances are widened to [`ELSEWHERE_PERCENT`].
    Wide,
    /// Another compiler or architecture: differences are shown and judged by nobody.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Same,
    Better,
    Worse,
    /// Counted, but no figure is kept.
    New,
    /// Kept, but no case has the name.
    Gone,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    case: String,
    old: Option<f64>,
    new: Option<f64>,
    finding: Finding,
}

/// Counts, and compares or, with `--write`, keeps.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let write = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => bail!("instructions takes --write or nothing, not {args:?}"),
    };
    let kept = read()?;
    let (counts, basis) = (count()?, Basis::here()?);
    let trust = Trust::between(&kept.basis, &basis);
    let rows = compare(&kept, &counts, trust);
    print!("{}", table(&rows));
    if write {
        let tolerance = kept.tolerance;
        fs::write(path(), written(&Kept { basis, tolerance, instructions: counts }))?;
        println!("kept in {}", path().display());
        return Ok(Tally::default());
    }
    Ok(judge(&rows, trust, &kept.basis, &basis))
}

fn path() -> PathBuf {
    root().join("benches/instructions.toml")
}

/// Builds the benchmarks and counts every case.
fn count() -> Result<Counts> {
    let mut bench =
        cargo(["bench", "--quiet", "-p", "pinwire-benches", "--bench", "micro", "--", "--counts"]);
    let counts = read_counts(&stdout(bench.stderr(Stdio::inherit()))?)?;
    ensure!(!counts.is_empty(), "no case was counted");
    Ok(counts)
}

/// Lines of `NAME TAB COUNT`.
fn read_counts(output: &str) -> Result<Counts> {
    let line = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    output.lines().map(|text| line(text).with_context(|| format!("not a count: {text:?}"))).collect()
}

impl Basis {
    fn here() -> Result<Self> {
        // What libraries choose among at run time; the processor's model does not matter.
        const SETS: &[&str] = &["ssse3", "sse4_2", "avx", "avx2", "bmi2", "sha_ni", "asimd", "sha2"];
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        let has = |set: &&&str| flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == **set));
        let mut processor = std::env::consts::ARCH.to_owned();
        for set in SETS.iter().filter(has) {
            processor.push(' ');
            processor.push_str(set);
        }
        let version = |program: &str, args: &[&str]| {
            Ok::<_, anyhow::Error>(stdout(command(program).args(args))?.trim().to_owned())
        };
        Ok(Self {
            rustc: version("rustc", &["--version"])?,
            processor,
            libc: version("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_default(),
        })
    }

    fn architecture(&self) -> &str {
        self.processor.split(' ').next().unwrap_or_default()
    }
}

impl Trust {
    fn between(kept: &Basis, here: &Basis) -> Self {
        if kept == here {
            Self::Full
        } else if kept.rustc == here.rustc && kept.architecture() == here.architecture() {
            Self::Wide
        } else {
            Self::None
        }
    }
}

fn compare(kept: &Kept, counts: &Counts, trust: Trust) -> Vec<Row> {
    let mut rows = Vec::new();
    for (case, &new) in counts {
        let old = kept.instructions.get(case).copied();
        let own = kept.tolerance.get(case).copied().unwrap_or(TOLERANCE_PERCENT);
        let percent = if trust == Trust::Full { own } else { own.max(ELSEWHERE_PERCENT) };
        let finding = old.map_or(Finding::New, |old| {
            if new > old * (1.0 + percent / 100.0) {
                Finding::Worse
            } else if new < old * (1.0 - percent / 100.0) {
                Finding::Better
            } else {
                Finding::Same
            }
        });
        rows.push(Row { case: case.clone(), old, new: Some(new), finding });
    }
    let gone = kept.instructions.iter().filter(|(case, _)| !counts.contains_key(*case));
    rows.extend(gone.map(|(case, old)| Row {
        case: case.clone(),
        old: Some(*old),
        new: None,
        finding: Finding::Gone,
    }));
    rows
}

fn table(rows: &[Row]) -> String {
    let number = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.1}"));
    let mut text =
        format!("{:<34} {:>12} {:>12} {:>7}\n", "instructions of one operation", "kept", "now", "ratio");
    for row in rows {
        let ratio = row.old.zip(row.new).map_or("-".to_owned(), |(old, new)| format!("{:.3}", new / old));
        let mark = match row.finding {
            Finding::Same => "",
            Finding::Better => "  better",
            Finding::Worse => "  WORSE",
            Finding::New => "  NEW",
            Finding::Gone => "  GONE",
        };
        let _ = writeln!(
            text,
            "{:<34} {:>12} {:>12} {ratio:>7}{mark}",
            row.case,
            number(row.old),
            number(row.new)
        );
    }
    text
}

/// Says what to do and counts each case as a test.
fn judge(rows: &[Row], trust: Trust, kept: &Basis, here: &Basis) -> Tally {
    if trust != Trust::Full {
        println!("counted on {here:?}, kept from {kept:?}");
    }
    match trust {
        Trust::Full => {}
        Trust::Wide => println!("so tolerances are {ELSEWHERE_PERCENT} % at least"),
        Trust::None => println!("warning: so nothing is judged. {MEND}"),
    }
    if rows.iter().any(|row| row.finding == Finding::Better) {
        println!(
            "some cases are better: keep that with `cargo xtask instructions --write`, or it can be lost unseen"
        );
    }
    let mut tally = Tally::default();
    for row in rows {
        let failed = is_failure(row.finding, trust);
        if failed {
            println!("{}", complaint(row));
        }
        tally.record(!failed);
    }
    if tally.failed > 0 {
        println!("{MEND}");
    }
    tally
}

/// A case without a figure, or a figure without a case, fails everywhere: it would compare nothing.
fn is_failure(finding: Finding, trust: Trust) -> bool {
    match finding {
        Finding::Same | Finding::Better => false,
        Finding::Worse => trust != Trust::None,
        Finding::New | Finding::Gone => true,
    }
}

fn complaint(row: &Row) -> String {
    let Row { case, old, new, .. } = row;
    match (old, new) {
        (Some(old), Some(new)) => {
            let percent = (new / old - 1.0) * 100.0;
            format!("{case}: {new:.1} instructions, {old:.1} are kept: {percent:+.1} %")
        }
        (None, _) => format!("{case}: benches/instructions.toml has no figure for it"),
        (_, None) => {
            format!("{case}: benches/instructions.toml has a figure for it, but there is no such case")
        }
    }
}

fn read() -> Result<Kept> {
    match fs::read_to_string(path()) {
        Ok(text) => parse(&text).context("benches/instructions.toml"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error).context("benches/instructions.toml"),
    }
}

fn parse(text: &str) -> Result<Kept> {
    let file: toml::Table = text.parse()?;
    let table = |name: &str| file.get(name).and_then(toml::Value::as_table);
    let word = |name: &str| {
        let value = table("basis").and_then(|basis| basis.get(name)).and_then(toml::Value::as_str);
        value.map(str::to_owned).with_context(|| format!("[basis] lacks `{name}`"))
    };
    let numbers = |name: &str| -> Result<Counts> {
        let number = |(case, value): (&String, &toml::Value)| {
            let value = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
            let is_sound = |value: &f64| value.is_finite() && *value > 0.0;
            let value =
                value.filter(is_sound).with_context(|| format!("[{name}] {case}: not a positive number"))?;
            Ok((case.clone(), value))
        };
        table(name).into_iter().flatten().map(number).collect()
    };
    let basis = Basis { rustc: word("rustc")?, processor: word("processor")?, libc: word("libc")? };
    let kept = Kept { basis, tolerance: numbers("tolerance")?, instructions: numbers("instructions")? };
    let stray = kept.tolerance.keys().find(|case| !kept.instructions.contains_key(*case));
    ensure!(stray.is_none(), "[tolerance] {stray:?}: no such case");
    Ok(kept)
}

fn written(kept: &Kept) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let Basis { rustc, processor, libc } = &kept.basis;
    let mut text = format!(
        "{HEAD}\n[basis]\nrustc = {}\nprocessor = {}\nlibc = {}\n",
        quoted(rustc),
        quoted(processor),
        quoted(libc)
    );
    let _ = writeln!(text, "\n[tolerance]");
    // A case that went takes its tolerance along.
    for (case, percent) in kept.tolerance.iter().filter(|(case, _)| kept.instructions.contains_key(*case)) {
        let _ = writeln!(text, "{} = {percent:.1}", quoted(case));
    }
    let _ = writeln!(text, "\n[instructions]");
    for (case, count) in &kept.instructions {
        let _ = writeln!(text, "{} = {count:.1}", quoted(case));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        Basis { rustc: "rustc 1.95.0".into(), processor: "x86_64 avx2".into(), libc: "glibc 2.36".into() }
    }

    fn counts(pairs: &[(&str, f64)]) -> Counts {
        pairs.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    fn kept() -> Kept {
        Kept {
            basis: basis(),
            tolerance: counts(&[("token/ES256", 5.0)]),
            instructions: counts(&[("mask/64 KiB", 1_000.0), ("token/ES256", 200_000.0)]),
        }
    }

    fn finding(case: &str, new: f64, trust: Trust) -> Finding {
        let rows = compare(&kept(), &counts(&[(case, new)]), trust);
        rows.into_iter().find(|row| row.case == case).unwrap().finding
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(parse(&written(&kept())).unwrap(), kept());
    }

    #[test]
    fn more_instructions_than_the_tolerance_are_a_failure_that_names_case_and_figures() {
        assert_eq!(finding("mask/64 KiB", 1_019.0, Trust::Full), Finding::Same);
        assert_eq!(finding("mask/64 KiB", 1_021.0, Trust::Full), Finding::Worse);
        assert_eq!(finding("mask/64 KiB", 979.0, Trust::Full), Finding::Better);
        let rows = compare(&kept(), &counts(&[("mask/64 KiB", 8_000.0), ("token/ES256", 2e5)]), Trust::Full);
        assert_eq!(judge(&rows, Trust::Full, &basis(), &basis()), Tally { passed: 1, failed: 1 });
        assert_eq!(complaint(&rows[0]), "mask/64 KiB: 8000.0 instructions, 1000.0 are kept: +700.0 %");
    }

    #[test]
    fn a_case_may_have_a_tolerance_of_its_own() {
        assert_eq!(finding("token/ES256", 209_000.0, Trust::Full), Finding::Same);
        assert_eq!(finding("token/ES256", 211_000.0, Trust::Full), Finding::Worse);
    }

    #[test]
    fn another_library_widens_and_another_compiler_only_warns() {
        let other_libc = Basis { libc: "glibc 2.39".into(), ..basis() };
        let other_sets = Basis { processor: "x86_64 ssse3".into(), ..basis() };
        let other_rustc = Basis { rustc: "rustc 1.96.0".into(), ..basis() };
        let other_arch = Basis { processor: "aarch64 avx2".into(), ..basis() };
        assert_eq!(Trust::between(&basis(), &basis()), Trust::Full);
        assert_eq!(Trust::between(&basis(), &other_libc), Trust::Wide);
        assert_eq!(Trust::between(&basis(), &other_sets), Trust::Wide);
        assert_eq!(Trust::between(&basis(), &other_rustc), Trust::None);
        assert_eq!(Trust::between(&basis(), &other_arch), Trust::None);
        assert_eq!(finding("mask/64 KiB", 1_190.0, Trust::Wide), Finding::Same);
        assert_eq!(finding("mask/64 KiB", 1_210.0, Trust::Wide), Finding::Worse);
        assert!(is_failure(Finding::Worse, Trust::Wide) && !is_failure(Finding::Worse, Trust::None));
    }

    #[test]
    fn a_case_without_a_figure_and_a_figure_without_a_case_fail_everywhere() {
        let rows = compare(&kept(), &counts(&[("mask/64 KiB", 1_000.0), ("new/case", 1.0)]), Trust::Full);
        let findings: Vec<Finding> = rows.iter().map(|row| row.finding).collect();
        assert_eq!(findings, [Finding::Same, Finding::New, Finding::Gone]);
        for trust in [Trust::Full, Trust::Wide, Trust::None] {
            assert_eq!(judge(&rows, trust, &basis(), &basis()), Tally { passed: 1, failed: 2 });
        }
    }

    #[test]
    fn bad_figures_are_refused_with_their_place() {
        let text = written(&kept());
        for (good, bad) in [
            ("\"mask/64 KiB\" = 1000.0", "\"mask/64 KiB\" = 0.0"),
            ("\"token/ES256\" = 5.0", "\"token/RS256\" = 5.0"),
            ("libc =", "lib ="),
        ] {
            assert!(text.contains(good), "{text}");
            assert!(parse(&text.replacen(good, bad, 1)).is_err(), "{bad}");
        }
        let error = parse(&text.replacen("= 1000.0", "= \"many\"", 1)).unwrap_err();
        assert_eq!(error.to_string(), "[instructions] mask/64 KiB: not a positive number");
    }

    #[test]
    fn counts_are_read_line_by_line_and_nothing_else_is_taken() {
        let expected = counts(&[("a b/c", 12.5), ("d/e", 3.0)]);
        assert_eq!(read_counts("a b/c\t12.5\nd/e\t3.0\n").unwrap(), expected);
        assert!(read_counts("a b/c 12.5\n").is_err());
        assert!(read_counts("a\tmany\n").is_err());
    }
}
