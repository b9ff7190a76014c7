//! The built-in page and the example editor in headless Chromium, against the release build of the node.

use crate::scripts::Scripts;
use crate::tally::Tally;
use crate::{setup, unit};
use anyhow::Result;
use std::time::Duration;

/// Test files that run at the same time, each with a browser of its own.
const CONCURRENCY: u32 = 2;
/// A run takes half a minute; beyond this it hangs.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// All test files, or those named.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let browser = setup::install_browser()?;
    setup::install_browser_packages()?;
    unit::build(&[])?;
    let mut scripts = Scripts::new("tests/browser", "browser", CONCURRENCY);
    scripts.command.args(args).env("PINWIRE_DRIVER", "auto").env("PINWIRE_CHROMIUM", browser);
    scripts.run(RUN_LIMIT)
}
