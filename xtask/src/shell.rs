//! Running other programs, and where things are.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The workspace root.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Programs that `setup` installed for this checkout.
pub(crate) fn tools_dir() -> PathBuf {
    target_dir().join("tools")
}

/// A command in the workspace root that finds installed tools.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = tools_dir().join("bin");
    if let Ok(joined) = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path))) {
        command.env("PATH", joined);
    }
    command
}

/// A cargo command in the workspace root. What `cargo run` set for xtask itself does not leak into it.
pub(crate) fn cargo<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = command("cargo");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command.env("CARGO_TARGET_DIR", target_dir());
    command.args(args);
    command
}

/// Runs to success, output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end, output shown.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run {}", shown(command)))
}

/// Runs to success and gives its standard output.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {stderr}", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end, output shown, or kills it when `limit` is over.
pub(crate) fn status_within(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    match wait_within(&mut child, limit)? {
        Some(status) => Ok(status),
        None => bail!("{} did not end within {} s", shown(command), limit.as_secs()),
    }
}

/// Waits for `child`; `None` when it had to be killed at the limit.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    const POLL: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "std has no wait with a timeout")]
        std::thread::sleep(POLL);
    }
}

/// True where `program` starts and reports success.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    command(program).args(args).output().is_ok_and(|output| output.status.success())
}

fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    format!("`{line}`")
}

/// Files of the checkout, tracked or new, relative to the root; ignored ones are left out.
pub(crate) fn project_files() -> Result<Vec<PathBuf>> {
    let listed =
        stdout(command("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let root = root();
    let mut files: Vec<PathBuf> =
        listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    files.retain(|file| root.join(file).is_file());
    Ok(files)
}
