//! placeholder
use anyhow::Result;
#[derive(clap::Parser, Debug)]
/// x
pub struct Args {}
/// x
pub fn run(_args: &Args) -> Result<()> {
    Ok(())
}
