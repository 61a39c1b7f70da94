use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Which way a proxy cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never gets the request.
    Request,
    /// The server has executed the request, and its answer is thrown away.
    Answer,
}

struct Armed {
    cut: Cut,
    needle: Vec<u8>,
    times: usize,
}

/// A proxy before a server of this machine that cuts the connection when a certain request passes.
pub struct CuttingProxy {
    port: u16,
    armed: Arc<Mutex<Option<Armed>>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl CuttingProxy {
    /// Passes everything on to `server`, a port of the loopback interface.
    #[must_use]
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (armed, connections, ended) = (Arc::default(), Arc::default(), Arc::default());
        let proxy =
            Self { port, armed: Arc::clone(&armed), connections: Arc::clone(&connections), ended: Arc::clone(&ended) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                connections.fetch_add(1, Ordering::AcqRel);
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    pass_on(client, server, &armed);
                }
            }
        });
        proxy
    }

    /// Its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has been asked for.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Cuts the next `times` connections on which a request with `needle` passes in one piece.
    pub fn cut(&self, cut: Cut, needle: &[u8], times: usize) {
        *self.armed.lock().expect("nobody panics with it") = Some(Armed { cut, needle: needle.to_vec(), times });
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the listener up, so that it sees that it has ended.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What happens to a request.
fn verdict(armed: &Mutex<Option<Armed>>, request: &[u8]) -> Option<Cut> {
    let mut armed = armed.lock().expect("nobody panics with it");
    let found = armed
        .as_mut()
        .filter(|armed| armed.times > 0 && request.windows(armed.needle.len()).any(|window| window == armed.needle))?;
    found.times -= 1;
    Some(found.cut)
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, armed: &Arc<Mutex<Option<Armed>>>) {
    let swallow = Arc::new(AtomicBool::new(false));
    let (Ok(mut to_client), Ok(mut from_server)) = (client.try_clone(), server.try_clone()) else { return };
    let (armed, swallowing) = (Arc::clone(armed), Arc::clone(&swallow));
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = client.read(&mut chunk) {
            match verdict(&armed, &chunk[..read]) {
                Some(Cut::Request) => break,
                Some(Cut::Answer) => swallow.store(true, Ordering::Release),
                None => {}
            }
            if server.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from_server.read(&mut chunk) {
            if swallowing.load(Ordering::Acquire) || to_client.write_all(&chunk[..read]).is_err() {
                break;
            }
        }
        let _ = (to_client.shutdown(Shutdown::Both), from_server.shutdown(Shutdown::Both));
    });
}
