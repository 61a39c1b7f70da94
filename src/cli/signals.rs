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

/// Does something on a thread of its own once a signal asks to stop, for whoever waits for something else.
#[cfg(unix)]
pub(crate) fn on_stop(then: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    use std::{io::Read, os::unix::net::UnixStream};
    let failed = |error| output::io("listening for signals", error);
    let (mut woken, wakes) = UnixStream::pair().map_err(failed)?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, wakes.try_clone().map_err(failed)?).map_err(failed)?;
    }
    std::thread::spawn(move || {
        if woken.read_exact(&mut [0]).is_ok() {
            then();
        }
    });
    Ok(())
}

/// Elsewhere the second signal ends who waits.
#[cfg(not(unix))]
pub(crate) fn on_stop(_then: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    Ok(())
}
