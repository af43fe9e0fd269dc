//! A real HTTP server on loopback that misbehaves as configured, with or without TLS, and its own certificate authority.
#![allow(dead_code)] // each test crate uses a part
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longer than any time limit of a test.
const FOREVER: Duration = Duration::from_secs(20);

/// What the server sends for a request, byte by byte.
#[derive(Clone, Default)]
pub struct Reply {
    raw: Vec<u8>,
    cut: Option<usize>,
    stall: Option<usize>,
    drip: Option<Duration>,
    flood: bool,
}

impl Reply {
    /// Exactly this status, these headers and this body.
    pub fn exactly(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut raw = format!("HTTP/1.1 {status} Whatever\r\n").into_bytes();
        for (name, value) in headers {
            raw.extend(format!("{name}: {value}\r\n").bytes());
        }
        raw.extend(b"\r\n");
        raw.extend(body);
        Reply { raw, ..Reply::default() }
    }

    /// An honest answer.
    pub fn ok(body: &[u8]) -> Reply {
        Reply::exactly(200, &[("Content-Length", &body.len().to_string()), ("Connection", "close")], body)
    }

    pub fn status(status: u16) -> Reply {
        Reply::exactly(status, &[("Content-Length", "0"), ("Connection", "close")], b"")
    }

    pub fn redirect(to: &str) -> Reply {
        Reply::exactly(302, &[("Location", to), ("Content-Length", "0"), ("Connection", "close")], b"")
    }

    /// Closes the connection after this many bytes, including headers.
    pub fn cut(mut self, at: usize) -> Reply {
        self.cut = Some(at);
        self
    }

    /// Sends nothing after this many bytes, and keeps the connection open.
    pub fn stall(mut self, at: usize) -> Reply {
        self.stall = Some(at);
        self
    }

    /// Sends one byte at a time, with a pause after each.
    pub fn drip(mut self, pause: Duration) -> Reply {
        self.drip = Some(pause);
        self
    }

    /// Repeats the last byte without end.
    pub fn flood(mut self) -> Reply {
        self.flood = true;
        self
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    fn send(&self, to: &mut impl Write, stop: &AtomicBool) -> std::io::Result<()> {
        let end = self.cut.or(self.stall).unwrap_or(self.raw.len()).min(self.raw.len());
        if let Some(pause) = self.drip {
            for byte in &self.raw[..end] {
                to.write_all(&[*byte])?;
                to.flush()?;
                wait(pause, stop);
            }
        } else {
            to.write_all(&self.raw[..end])?;
            to.flush()?;
        }
        if self.stall.is_some() {
            wait(FOREVER, stop);
        }
        let more = [self.raw.last().copied().unwrap_or(0); 64 << 10];
        while self.flood && !stop.load(Ordering::Relaxed) {
            to.write_all(&more)?;
        }
        Ok(())
    }
}

fn wait(time: Duration, stop: &AtomicBool) {
    let start = std::time::Instant::now();
    while start.elapsed() < time && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(5).min(time));
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET /path HTTP/1.1`.
    pub line: String,
    pub headers: Vec<String>,
}

impl Request {
    /// The path in its first line.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// Chooses the answer from the request and the number of earlier requests.
pub type Script = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// The server; it stops when this is dropped.
pub struct Server {
    address: SocketAddr,
    tls: bool,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// A server for plain HTTP.
    pub fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::run(Arc::new(script), None)
    }

    /// A server for plain HTTP with one answer to all requests.
    pub fn always(reply: Reply) -> Server {
        Server::start(move |_, _| reply.clone())
    }

    /// A server for HTTPS with a certificate for `localhost`.
    pub fn tls(authority: &Authority, script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::run(Arc::new(script), Some(authority.server("localhost")))
    }

    /// A server for HTTPS with a certificate for another name.
    pub fn tls_as(authority: &Authority, name: &str, reply: Reply) -> Server {
        Server::run(Arc::new(move |_: &Request, _| reply.clone()), Some(authority.server(name)))
    }

    /// A server that accepts connections and sends nothing.
    pub fn mute() -> Server {
        Server::always(Reply::default().stall(0))
    }

    fn run(script: Arc<Script>, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let is_tls = tls.is_some();
        let (seen, ended) = (requests.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (script, tls, seen, ended) = (script.clone(), tls.clone(), seen.clone(), ended.clone());
                thread::spawn(move || {
                    // Many tests are about clients that close the connection early.
                    let _ = serve(stream, &*script, tls, &seen, &ended);
                });
            }
        });
        Server { address, tls: is_tls, requests, stop }
    }

    /// A URL on this server.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    script: &Script,
    tls: Option<Arc<rustls::ServerConfig>>,
    seen: &Mutex<Vec<Request>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(FOREVER))?;
    stream.set_write_timeout(Some(FOREVER))?;
    let Some(config) = tls else {
        let reply = script_for(stream.try_clone()?, script, seen)?;
        return reply.send(&mut &stream, stop);
    };
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let reply = script_for(&mut stream, script, seen)?;
    reply.send(&mut stream, stop)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn script_for(from: impl Read, script: &Script, seen: &Mutex<Vec<Request>>) -> std::io::Result<Reply> {
    let mut lines = BufReader::new(from).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    let headers = lines.take_while(|l| l.as_ref().is_ok_and(|l| !l.is_empty())).flatten().collect();
    let request = Request { line, headers };
    let nth = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    Ok(script(&request, nth))
}

/// A certificate authority that no system trusts.
pub struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "vfguard test authority");
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// Its certificate, in the format of `fetch.ca_file`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn server(&self, name: &str) -> Arc<rustls::ServerConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}
