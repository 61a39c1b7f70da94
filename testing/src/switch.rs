use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

struct Shared {
    target: AtomicU16,
    delay_ms: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A proxy that can lead to another server from one moment to the next, cut what is open, and delay what passes: what a
/// name that moves, or a bad network, looks like from outside.
pub struct SwitchProxy {
    port: u16,
    shared: Arc<Shared>,
}

impl SwitchProxy {
    /// Passes everything on to `server`, a port of the loopback interface.
    #[must_use]
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(server),
            delay_ms: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let sharing = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if sharing.ended.load(Ordering::Acquire) {
                    return;
                }
                let target = sharing.target.load(Ordering::Acquire);
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    pass_on(client, server, &sharing);
                }
            }
        });
        Self { port, shared }
    }

    /// Its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port from now on, and cuts what is open.
    pub fn lead_to(&self, server: u16) {
        self.shared.target.store(server, Ordering::Release);
        self.cut_all();
    }

    /// Cuts every connection that is open.
    pub fn cut_all(&self) {
        for open in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may be closed already.
            let _ = open.shutdown(Shutdown::Both);
        }
    }

    /// Holds back every piece that passes, in both directions, for that long.
    pub fn delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(ms, Ordering::Release);
    }
}

impl Drop for SwitchProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.cut_all();
        // Wakes the listener up, so that it sees that it has ended.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass_on(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let halves = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
    shared.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
    for (from, to) in halves {
        let (Ok(mut from), Ok(mut to)) = (from, to) else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                thread::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::Acquire)));
                if to.write_all(&chunk[..read]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}
