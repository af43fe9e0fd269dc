//! Looks up names of servers, each in its own thread.
//!
//! getaddrinfo(3) cannot be interrupted and has no time limit. reqwest's own resolver runs it in the client's thread pool,
//! and the client waits for that pool when it is dropped. A separate thread can be left behind when the answer is no longer
//! needed. It ends with the lookup, which the C library bounds (resolv.conf(5): `timeout`, `attempts`).

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use tokio::sync::oneshot;

/// A resolver that uses this lookup function.
pub(super) struct Names(fn(&str) -> io::Result<Vec<SocketAddr>>);

impl Default for Names {
    fn default() -> Names {
        // reqwest sets the port.
        Names(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (answer, answered) = oneshot::channel();
        let look_up = self.0;
        // If the receiver is gone, the answer is not needed.
        let work = move || _ = answer.send(look_up(name.as_str()));
        let started = thread::Builder::new().name("look-up".into()).spawn(work);
        Box::pin(async move {
            started?;
            let addresses = answered.await??;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::blocking::Client;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Far longer than the test takes.
    const LONG: Duration = Duration::from_secs(600);

    fn client(names: Names) -> Client {
        _ = rustls::crypto::ring::default_provider().install_default();
        let limit = Duration::from_millis(300);
        Client::builder().no_proxy().dns_resolver(Arc::new(names)).connect_timeout(limit).build().unwrap()
    }

    #[test]
    fn a_client_ends_while_a_name_is_looked_up() {
        let start = Instant::now();
        let client = client(Names(|_| {
            thread::sleep(LONG);
            Ok(Vec::new())
        }));
        let error = client.get("http://mirror.example/x").send().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        drop(client);
        assert!(start.elapsed() < LONG / 10, "{:?}", start.elapsed());
    }

    #[test]
    fn the_address_from_the_lookup_is_used_and_its_error_is_reported() {
        use std::io::{Read, Write};
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://mirror.example:{}/x", server.local_addr().unwrap().port());
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = [0; 1000];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let found = client(Names(|_| Ok(vec![([127, 0, 0, 1], 0).into()])));
        assert_eq!(found.get(&url).send().unwrap().text().unwrap(), "ok");
        assert!(serving.join().unwrap().to_lowercase().contains("host: mirror.example:"));
        let fails = client(Names(|_| Err(io::Error::other("no such name"))));
        let error = fails.get(&url).send().unwrap_err();
        assert!(error.is_connect() && format!("{error:?}").contains("no such name"), "{error:?}");
        assert!(Names::default().0("localhost").unwrap().iter().all(|a| a.ip().is_loopback()));
    }
}
