//! The Debian packages: built, inspected, and lived with on a machine of their own.

mod deb;
mod inspect;
mod life;
mod machine;
mod notices;

use crate::tally::Tally;
use crate::unit;
use anyhow::Result;

/// Builds the packages, looks into them, and does with them on a machine what their page says.
pub(crate) fn run(_args: &[String]) -> Result<Tally> {
    unit::build(&[])?;
    let packages = deb::build()?;
    let mut tally = inspect::all(&packages)?;
    if tally.failed == 0 {
        tally += life::live(&packages)?;
    }
    Ok(tally)
}

/// Builds the packages from a release build.
pub(crate) fn deb(_args: &[String]) -> Result<Tally> {
    unit::build(&[])?;
    for package in deb::build()? {
        println!("{}", package.display());
    }
    Ok(Tally::default())
}
