use std::{fs::OpenOptions, io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;
use tasklog_log::{StoreError, note::PrivateKey};

use super::{Context, Ended, output};
use crate::{Error, Rejection};

/// Make a key that signs checkpoints (Ed25519), and print the verifier key that checks its signatures.
///
/// The file is the secret: only its owner may read it, and one that is there is never replaced. The verifier key is for
/// everybody.
#[derive(Args)]
pub(crate) struct Keygen {
    /// The key's name, such as a host name: without spaces and +
    #[arg(long)]
    name: String,
    /// Where to write the private key
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Keygen {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| StoreError::unavailable_because("asking for random bytes", error))?;
        let key = PrivateKey::from_seed(&self.name, &seed).map_err(|error| Rejection::invalid(error.to_string()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&self.out).and_then(|mut file| {
            writeln!(file, "{}", key.to_secret_text())?;
            file.sync_all()
        });
        written.map_err(|error| output::io(&format!("writing {}", self.out.display()), error))?;
        let verifier = key.verifier().to_string();
        context.out.line(if context.out.json { json!({ "verifier_key": verifier }).to_string() } else { verifier })?;
        Ok(Ended::Well)
    }
}
