use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::output;
use crate::Error;

/// A flag that SIGINT and SIGTERM set, so that work ends between two transactions. A second signal ends the process.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, sets it, and is no reason to exit.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| output::io("listening for signals", error))?;
    }
    Ok(stop)
}
