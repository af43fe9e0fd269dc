//! Trust: certificates, redirects, proxies, and who gets to see credentials.

use super::*;

#[test]
fn redirects_are_followed_up_to_a_limit() {
    let good = Reply::ok(&archive());
    let hops = |n: usize| {
        let good = good.clone();
        let server = Server::start(move |request, _| match request.path()[1..].parse::<usize>() {
            Ok(0) | Err(_) => good.clone(),
            Ok(left) => Reply::redirect(&format!("/{}", left - 1)),
        });
        (server.url(&format!("/{n}")), server)
    };
    for n in [1, 3, 10] {
        let (url, server) = hops(n);
        Case::new().good(&[&url]);
        assert_eq!(server.requests().len(), n + 1);
    }
    let (url, server) = hops(11);
    let told = Case::new().bad(&[&url]);
    assert!(told.contains("more than 10 redirects"), "{told}");
    assert_eq!(server.requests().len(), 11, "and it is not tried again");
    let ring = Server::always(Reply::redirect("/again"));
    assert!(Case::new().bad(&[&ring.url("/again")]).contains("more than 10 redirects"));
    for to in ["file:///etc/shadow", "ftp://localhost/x", "data:text/plain,x", "http://", ""] {
        let server = Server::always(Reply::redirect(to));
        let mut case = Case::new();
        case.config.attempts = 1;
        case.bad(&[&server.url("/a")]);
    }
}

#[test]
fn https_needs_a_trusted_authority_and_a_private_one_can_be_set() {
    let authority = Authority::new();
    let good = Reply::ok(&archive());
    let server = Server::tls(&authority, move |_, _| good.clone());
    let mut case = Case::new();
    let told = case.bad(&[&server.url("/a")]);
    assert!(told.contains("not trusted") && told.contains("fetch.ca_file"), "{told}");
    assert!(!case.notes().contains("trying again"), "a certificate does not get better: {}", case.notes());
    write(&case.dir.path().join("etc/pki/own.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/etc/pki/own.pem".into());
    case.good(&[&server.url("/a")]);
}

#[test]
fn a_certificate_for_another_name_or_of_another_authority_is_refused() {
    let authority = Authority::new();
    let mut case = Case::new();
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    let elsewhere = Server::tls_as(&authority, "elsewhere.test", Reply::ok(&archive()));
    assert!(case.bad(&[&elsewhere.url("/a")]).contains("not trusted"));
    let stranger = Server::tls_as(&Authority::new(), "localhost", Reply::ok(&archive()));
    assert!(case.bad(&[&stranger.url("/a")]).contains("not trusted"));
}

#[test]
fn a_cut_tls_connection_fails() {
    let authority = Authority::new();
    let whole = Reply::ok(&archive());
    let reply = whole.clone();
    let server = Server::tls(&authority, move |request, _| reply.clone().cut(request.path()[1..].parse().unwrap()));
    let mut case = Case::new();
    case.config.attempts = 1;
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    for i in 0..10 {
        case.bad(&[&server.url(&format!("/{}", i * whole.len() / 10))]);
    }
    case.good(&[&server.url(&format!("/{}", whole.len()))]);
}

#[test]
fn a_ca_file_that_is_missing_empty_or_writable_by_others_is_an_error() {
    let server = Server::always(Reply::ok(&archive()));
    for (content, mode, word) in [
        (None, 0o644, "ca.pem"),
        (Some(""), 0o644, "holds none"),
        (Some("no pem"), 0o644, "ca.pem"),
        (Some("x"), 0o666, "written by others"),
    ] {
        let mut case = Case::new();
        if let Some(content) = content {
            write(&case.dir.path().join("ca.pem"), content.as_bytes());
            fs::set_permissions(case.dir.path().join("ca.pem"), fs::Permissions::from_mode(mode)).unwrap();
        }
        case.config.ca_file = Some("/ca.pem".into());
        let told = case.bad(&[&server.url("/a")]);
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_redirect_from_https_to_http_is_refused_and_the_reverse_is_allowed() {
    let authority = Authority::new();
    let plain = Server::always(Reply::ok(&archive()));
    let (down, up) = (plain.url("/down"), Reply::ok(&archive()));
    let secure = Server::tls(&authority, move |request, _| match request.path() {
        "/up" => up.clone(),
        "/twice" => Reply::redirect("/down"),
        _ => Reply::redirect(&down),
    });
    let upwards = Server::always(Reply::redirect(&secure.url("/up")));
    let mut case = Case::new();
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    for path in ["/down", "/twice"] {
        let told = case.bad(&[&secure.url(path)]);
        assert!(told.contains("from https to http"), "{told}");
    }
    assert_eq!(plain.requests().len(), 0, "not even asked");
    case.good(&[&upwards.url("/a")]);
}

#[test]
fn credentials_are_sent_but_never_shown() {
    let server = Server::always(Reply::status(403));
    let url = format!("http://scott:t1ger@localhost:{}/a?token=t1ger", server.port());
    let case = Case::new();
    let mut shown = case.bad(&[
        &url,
        "https://scott:t1ger@no-such-host.invalid/?t1ger",
        "scott:t1ger@nonsense",
        "http://scott:t1ger@[::1/",
    ]);
    shown += &case.notes();
    assert!(!shown.contains("t1ger"), "{shown}");
    let sent = server.requests()[0].headers.join("\n").to_lowercase();
    assert!(sent.contains("authorization: basic"), "{sent}");
    let good = Reply::ok(&archive());
    let server = Server::start(move |_, _| good.clone());
    let url = format!("http://scott:t1ger@localhost:{}/a?token=t1ger", server.port());
    let case = Case::new();
    assert_eq!(case.good(&[&url]).origin(), &FetchedFrom::Url(format!("http://***@localhost:{}/a?***", server.port())));
    assert!(!case.notes().contains("t1ger"), "{}", case.notes());
}

#[test]
fn credentials_are_not_carried_to_another_host_by_a_redirect() {
    let good = Reply::ok(&archive());
    let other = Server::start(move |_, _| good.clone());
    let first = Server::always(Reply::redirect(&other.url("/b").replace("localhost", "127.0.0.1")));
    let url = format!("http://scott:t1ger@localhost:{}/a", first.port());
    Case::new().good(&[&url]);
    let sent = other.requests()[0].headers.join("\n").to_lowercase();
    assert!(!sent.contains("authorization") && !sent.contains("referer"), "{sent}");
}

/// Run by [`a_proxy_from_the_environment_is_used_and_no_proxy_is_honoured`] in a process of its own, in which the proxy is set. Without
/// that it does nothing.
#[test]
fn fetch_through_the_environment() {
    let Ok(url) = std::env::var("VFGUARD_TEST_URL") else { return };
    let mut case = Case::new();
    case.config.attempts = 1;
    match case.fetch(&[&url]) {
        Ok(_) => println!("FETCHED"),
        Err(e) => println!("{e:#}"),
    }
    println!("{}", case.notes());
}

#[test]
fn a_proxy_from_the_environment_is_used_and_no_proxy_is_honoured() {
    let run = |url: &str, vars: &[(&str, &str)]| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "trust::fetch_through_the_environment", "--nocapture"])
            .env_clear()
            .env("VFGUARD_TEST_URL", url)
            .envs(vars.iter().copied())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let proxy = Server::always(Reply::ok(&archive()));
    let with_password = proxy.url("").replace("http://", "http://scott:t1ger@");
    let told = run("http://archive.invalid/a", &[("http_proxy", &with_password)]);
    assert!(told.contains("FETCHED"), "{told}");
    assert_eq!(proxy.requests()[0].path(), "http://archive.invalid/a");
    let told = run("http://archive.invalid/a", &[("http_proxy", &with_password), ("no_proxy", "archive.invalid")]);
    assert!(!told.contains("FETCHED") && proxy.requests().len() == 1, "{told}");
    let refusing = Server::always(Reply::status(407));
    let with_password = refusing.url("").replace("http://", "http://scott:t1ger@");
    let told = run("https://archive.invalid/a", &[("HTTPS_PROXY", &with_password)]);
    assert_eq!(refusing.requests()[0].line, "CONNECT archive.invalid:443 HTTP/1.1");
    assert!(!told.contains("FETCHED") && !told.contains("t1ger"), "{told}");
    let good = Server::always(Reply::ok(&archive()));
    let told = run(&good.url("/a"), &[("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")]);
    assert!(told.contains("FETCHED"), "plain HTTP needs no certificates: {told}");
}
