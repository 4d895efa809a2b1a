//! Tokens that differ, so that nobody can have seen one before, and the script by which `wrk` sends them in turn.

use std::{
    fmt::Write as _,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde_json::Value;
use tollgate_filter_cases::{Keys, Token};

use crate::{stack::write, work_dir};

/// More than a filter remembers, so that each comes again only once it is forgotten.
const TOKENS: usize = 4_000;

/// Tokens of `https://issuer.example` for `api`, RS256 by the key `rs`, good for an hour.
pub(super) struct Tokens {
    /// The key set.
    pub jwks: Value,
    /// A script for `wrk`.
    pub script: PathBuf,
}

impl Tokens {
    pub fn mint() -> Result<Self> {
        let keys = Keys::load()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut script = "local tokens = {\n".to_owned();
        for number in 0..TOKENS {
            let token = Token::rs256(now).claim("jti", format!("t-{number}")).sign_rsa(&keys);
            writeln!(script, "\"{token}\",")?;
        }
        script.push_str(
            "}\nlocal requests, last = {}, 0\ninit = function()\n  for i, token in ipairs(tokens) do\n    \
             requests[i] = wrk.format(\"GET\", \"/\", { authorization = \"Bearer \" .. token })\n  end\nend\n\
             request = function()\n  last = last % #requests + 1\n  return requests[last]\nend\n",
        );
        let path = work_dir::new("bench-tokens")?.join("tokens.lua");
        write(&path, &script)?;
        Ok(Self { jwks: keys.jwks(), script: path })
    }
}
