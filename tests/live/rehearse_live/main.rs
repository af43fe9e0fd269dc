//! `rehearse` and the package manager: real apt on a live root, and a mirror on loopback whose content changes.

#[path = "../../machine/mod.rs"]
mod machine;
mod mirror;
mod packages;
#[path = "../../support/mod.rs"]
mod support;
#[path = "../../support/tar.rs"]
mod tar;

use machine::live::enter;
use machine::{Machine, Run};
use mirror::{bookworm, Mirror, Package};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};
use support::{Reply, Server};

const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups env -u HOME ";
const REFRESHED: &str = "\npackage lists: refreshed just now\n";

/// Whether the requirements of these tests are there.
fn able() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let apt = ["/usr/bin/apt-get", "/usr/bin/dpkg-deb"].iter().all(|p| Path::new(p).exists());
    if !root || !apt {
        let why = if root { "apt and dpkg are not here" } else { "a mount namespace of its own wants root" };
        // Written directly, because libtest hides the output of a test that passes; tests/run.sh lists it.
        static ONCE: Once = Once::new();
        #[allow(clippy::disallowed_methods)]
        ONCE.call_once(|| {
            let _ = writeln!(std::io::stderr(), "\nskipped build/rehearse_live: {why}");
        });
    }
    root && apt
}

/// A Debian machine whose apt settings have hooks for its own update, and a driver whose archive does not exist.
fn debian(sources: &str) -> Machine {
    let hook = |name: &str| format!("APT::Update::{name} {{ \"touch /var/hook-{name}\"; }};\n");
    let machine = Machine::new()
        .file("osrelease", "6.1.0-56-amd64\n")
        .file("cmdline", "ro\n")
        .file("etc/os-release", "ID=debian\nVERSION_ID=12\n")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n")
        .file("etc/group", "root:x:0:\nnogroup:x:65534:\n")
        .file("etc/apt/sources.list", sources)
        .file("etc/apt/apt.conf.d/50hooks", &["Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"].map(hook).concat())
        .file("etc/apt/apt.conf.d/60test", "Acquire::Retries \"0\";\nAcquire::http::Pipeline-Depth \"0\";\n")
        .file("var/lib/dpkg/status", "")
        .offline()
        .recipe(&format!(
            "[[releases]]\nversion = '1'\nurls = ['file:///srv/none.tar.gz']\nsha256 = '{}'\n",
            "a".repeat(64)
        ));
    for dir in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "lib/modules", "usr/bin"] {
        fs::create_dir_all(machine.path(dir)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// Runs the machine's own `apt-get update`, and makes it nine days old.
fn update(machine: &Machine) {
    let run =
        enter(machine, "apt-get -q -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any update && rm /var/hook-*");
    assert_eq!(run.code, 0, "the hooks are to run, and the update to succeed: {}{}", run.stdout, run.stderr);
    for entry in fs::read_dir(machine.path("var/lib/apt/lists")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            let then = SystemTime::now() - Duration::from_secs(9 * 24 * 3600 + 60);
            File::options().write(true).open(entry.path()).unwrap().set_modified(then).unwrap();
        }
    }
}

/// Every file of the machine's package manager: path, time, content.
fn kept(dir: &Path) -> Vec<(String, SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        if meta.is_dir() {
            all.extend(kept(&path));
        }
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        all.push((path.display().to_string(), meta.modified().unwrap(), content));
    }
    all.sort();
    all
}

/// Runs a rehearsal, which prints the names below /usr/src of its scratch root on stderr.
fn rehearse(machine: &Machine, who: &str, args: &str) -> Run {
    enter(machine, &format!("{who}vfguard rehearse --scratch /tmp/s {args}; rc=$?; ls -x /tmp/s/usr/src >&2; exit $rc"))
}

fn taken(run: &Run) -> &str {
    let mut lines = run.stdout.lines();
    assert!(lines.next().is_some_and(|l| l.starts_with("NOT FETCHED: ixgbevf")), "{}{}", run.stdout, run.stderr);
    lines.next().and_then(|l| l.strip_prefix("kernel ")).unwrap_or_else(|| panic!("{}{}", run.stdout, run.stderr))
}

#[test]
fn old_lists_are_refreshed_for_the_rehearsal_and_the_machines_lists_do_not_change() {
    if !able() {
        return;
    }
    for who in ["", NOBODY] {
        let mirror = Mirror::start();
        mirror.publish(&bookworm(&[55, 56], 56), &[]);
        let machine = debian(&mirror.sources());
        update(&machine);
        let before = [kept(&machine.path("var/lib/apt")), kept(&machine.path("var/cache/apt"))];
        assert!(before[0].len() > 3, "{before:?}");
        mirror.publish(&bookworm(&[55, 56, 57], 56), &[]);
        let run = rehearse(&machine, who, "--available");
        assert_eq!(taken(&run), "6.1.0-57-amd64", "{who}{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(REFRESHED), "{who}{}", run.stdout);
        let still = "\n6.1.0-57-amd64: its headers are on offer; an update still installs 6.1.0-56-amd64\n";
        assert!(run.stdout.contains(still), "{who}{}", run.stdout);
        assert!(!run.stdout.contains("passed over"), "{who}{}", run.stdout);
        // Each package was downloaded once, and is in the scratch root.
        for package in ["linux-headers-6.1.0-57-amd64", "linux-headers-6.1.0-57-common", "linux-kbuild-6.1"] {
            assert!(run.stderr.contains(package), "{who}{}", run.stderr);
            assert_eq!(mirror.downloads(package), 1, "{who}{package}");
        }
        assert_eq!(mirror.downloads("linux-headers-6.1.0-56-amd64"), 0);
        let after = [kept(&machine.path("var/lib/apt")), kept(&machine.path("var/cache/apt"))];
        assert!(before == after, "{who}the machine's own lists changed");
        let hooks = kept(&machine.path("var")).into_iter().filter(|(path, ..)| path.contains("hook-")).count();
        assert_eq!(hooks, 0, "{who}the hooks of the machine's own update ran");
    }
}

#[test]
fn a_named_kernel_is_looked_up_in_refreshed_lists_too() {
    if !able() {
        return;
    }
    let mirror = Mirror::start();
    mirror.publish(&bookworm(&[56], 56), &[]);
    let machine = debian(&mirror.sources());
    update(&machine);
    mirror.publish(&bookworm(&[56, 57], 56), &["linux-headers-6.1.0-56-amd64"]);
    let run = rehearse(&machine, "", "6.1.0-57-cloud-amd64");
    assert_eq!(taken(&run), "6.1.0-57-cloud-amd64");
    assert!(run.stdout.contains(REFRESHED) && !run.stdout.contains("an update still"), "{}", run.stdout);
    for (kernel, why) in [
        ("6.1.0-56-amd64", "linux-headers-6.1.0-56-amd64 could not be downloaded: 404 Whatever"),
        ("6.1.0-58-amd64", "linux-headers-6.1.0-58-amd64 is not on offer"),
    ] {
        let run = rehearse(&machine, "", &format!("--format json {kernel}"));
        let message = run.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(message, format!("no headers of {kernel}: {why} (package lists: refreshed just now)"));
    }
}

#[test]
fn a_listed_kernel_that_cannot_be_downloaded_is_skipped_and_reported() {
    if !able() {
        return;
    }
    let mirror = Mirror::start();
    let machine = debian(&mirror.sources());
    mirror.publish(&bookworm(&[9, 99, 100], 99), &["linux-headers-6.1.0-100-common"]);
    let run = rehearse(&machine, "", "--available");
    assert_eq!(taken(&run), "6.1.0-99-amd64");
    let said = "\npassed over 6.1.0-100-amd64: linux-headers-6.1.0-100-common could not be downloaded: 404 Whatever\n";
    assert!(run.stdout.contains(said) && run.stdout.contains(REFRESHED), "{}", run.stdout);
    assert!(!run.stdout.contains("an update still"), "{}", run.stdout);
    assert!(!run.stderr.contains("linux-headers-6.1.0-100"), "{}", run.stderr);

    // Its common package is not even listed, and the metapackage is newer than both.
    let mut packages = bookworm(&[9, 99, 100], 101);
    packages.retain(|(name, ..)| name != "linux-headers-6.1.0-100-common");
    mirror.publish(&packages, &[]);
    let run = rehearse(&machine, "", "--available --format json");
    let report = run.json();
    assert_eq!(report["kernels"][0]["kernel"], "6.1.0-99-amd64");
    assert_eq!(report["lists"], serde_json::json!({"refreshed": true, "in_part": false, "age_days": null, "why": null}));
    assert_eq!(
        report["passed_over"],
        serde_json::json!([
            {"kernel": "6.1.0-101-amd64", "why": "its headers are not on offer"},
            {"kernel": "6.1.0-100-amd64", "why": "linux-headers-6.1.0-100-common is not on offer"},
        ])
    );
    assert_eq!(report["update_installs"], serde_json::Value::Null);

    // Four are tried, not all.
    let all: Vec<String> = (1..=9).map(|n| format!("linux-headers-6.1.0-{n}-amd64")).collect();
    mirror.publish(&bookworm(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 9), &all.iter().map(String::as_str).collect::<Vec<_>>());
    let run = rehearse(&machine, "", "--available");
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(
        run.stderr.contains("no kernel's headers could be downloaded (package lists: refreshed just now)"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("6.1.0-6-amd64: ") && !run.stderr.contains("6.1.0-5-amd64"), "{}", run.stderr);
}

#[test]
fn lists_that_cannot_be_refreshed_are_used_and_their_age_is_reported() {
    if !able() {
        return;
    }
    for who in ["", NOBODY] {
        let mirror = Mirror::start();
        mirror.publish(&bookworm(&[55, 56], 56), &[]);
        let machine = debian(&mirror.sources());
        update(&machine);
        mirror.publish(&bookworm(&[55, 56, 57], 57), &[]);
        mirror.lose_lists();
        let run = rehearse(&machine, who, "--available");
        assert_eq!(taken(&run), "6.1.0-56-amd64", "{who}{}{}", run.stdout, run.stderr);
        let told = "\npackage lists: 9 days old, and could not be refreshed: ";
        assert!(run.stdout.contains(told) && run.stdout.contains("404 Whatever"), "{who}{}", run.stdout);

        let report = rehearse(&machine, who, "--available --format json").json();
        let lists = &report["lists"];
        assert_eq!((&lists["refreshed"], &lists["in_part"], &lists["age_days"]), (&false.into(), &false.into(), &9.into()));
        assert!(lists["why"].as_str().unwrap().contains("404 Whatever"), "{who}{lists}");

        // The packages are unreachable too, and the error also reports the age.
        drop(mirror);
        let run = rehearse(&machine, who, "--available");
        assert_eq!(run.code, 1, "{who}{}", run.stdout);
        assert!(run.stderr.contains("(package lists: 9 days old, and could not be refreshed: "), "{who}{}", run.stderr);
        assert!(run.stderr.contains("Connection refused"), "{who}{}", run.stderr);

        // Lists of a mirror that is not configured any more do not count.
        let sources = fs::read_to_string(machine.path("etc/apt/sources.list")).unwrap();
        fs::write(machine.path("etc/apt/sources.list"), sources.replace("127.0.0.1", "127.0.0.2")).unwrap();
        let run = rehearse(&machine, who, "--available");
        assert!(
            run.stderr.contains("there are no package lists here, and they could not be fetched: "),
            "{who}{}",
            run.stderr
        );

        // A machine without any lists.
        fs::remove_dir_all(machine.path("var/lib/apt/lists")).unwrap();
        let run = rehearse(&machine, who, "--available --format json");
        let error = run.json()["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("there are no package lists here, and they could not be fetched: "), "{who}{message}");
        assert!(message.contains("Connection refused"), "{who}{message}");
        assert_eq!((run.code, &error["remedy"]), (1, &"apt-get update".into()), "{who}");
    }
}

#[test]
fn one_unreachable_repository_is_reported_and_the_others_are_used() {
    if !able() {
        return;
    }
    let mirror = Mirror::start();
    mirror.publish(&bookworm(&[56, 57], 56), &[]);
    let gone = Server::always(Reply::status(404)).port();
    // Not at the mirror's address: apt remembers that an address does not answer, for all ports.
    let other = format!("deb [trusted=yes] http://127.0.0.2:{gone} bookworm main\n");
    let machine = debian(&mirror.sources()).file("etc/apt/sources.list.d/other.list", &other);
    let run = rehearse(&machine, "", "--available");
    assert_eq!(taken(&run), "6.1.0-57-amd64");
    assert!(run.stdout.contains("\npackage lists: refreshed only in part: "), "{}", run.stdout);
    assert!(run.stdout.contains(&format!("http://127.0.0.2:{gone}")), "{}", run.stdout);
}

#[test]
fn ubuntus_metapackage_is_known_and_the_sessions_proxy_is_used() {
    if !able() {
        return;
    }
    let mirror = Mirror::start();
    let headers = |n: u32| {
        [
            (format!("linux-headers-6.8.0-{n}-generic"), "1", format!("linux-headers-6.8.0-{n}, libc6")),
            (format!("linux-headers-6.8.0-{n}"), "1", String::new()),
        ]
    };
    let mut packages: Vec<Package> = [60, 61].into_iter().flat_map(headers).collect();
    packages.push(("linux-headers-generic".into(), "1", "linux-headers-6.8.0-60-generic".into()));
    mirror.publish(&packages, &[]);
    let machine = debian("deb [trusted=yes] http://mirror.invalid bookworm main\n");
    let proxy = format!("http_proxy=http://127.0.0.1:{} ", mirror.server.port());
    let run = rehearse(&machine, &proxy, "--available");
    assert_eq!(taken(&run), "6.8.0-61-generic");
    assert!(run.stdout.contains("an update still installs 6.8.0-60-generic"), "{}", run.stdout);
}

/// A stand-in for dnf: its repositories are reachable or not, and the newest kernel's package does not exist yet.
const DNF: &str = r#"#!/bin/bash
echo "dnf $*" >>/var/calls
case " $* " in
*offered-by*) echo "offered-by baseos"; exit ;;
*" --dump "*) printf 'baseurl = file:///srv\ngpgcheck = 1\ngpgkey = \n'; exit ;;
*" --refresh "*) [ -e /var/online ] || { echo "Error: Failed to download metadata for repo 'baseos'"; exit 1; } ;;
*" -C "*) [ -e /var/cache/dnf ] || { echo "Error: Cache-only enabled but no cache for 'baseos'"; exit 1; } ;;
*" download "*)
    [ "${!#}" != kernel-devel-5.14.0-503.el9.x86_64 ] || { echo "Error: Cannot download, all mirrors were already tried"; exit 1; }
    echo cpio >"${!#}.rpm"; exit ;;
esac
printf '5.14.0-70.el9.x86_64\n5.14.0-427.el9.x86_64\n5.14.0-503.el9.x86_64\n'
"#;

#[test]
fn dnf_refreshes_its_lists_or_reports_their_age_and_skips_kernels_that_it_cannot_download() {
    if !able() {
        return;
    }
    let mut machine = debian("")
        .file("etc/os-release", "ID=rocky\nID_LIKE=\"rhel centos fedora\"\n")
        .file("usr/local/sbin/dnf", DNF)
        .file("usr/local/sbin/rpmkeys", "#!/bin/sh\necho '    V4 RSA/SHA256 Signature, key ID 1: OK'\n")
        .file("usr/local/sbin/rpm2cpio", "#!/bin/sh\ncat \"$1\"\n")
        .file("usr/local/sbin/cpio", "#!/bin/sh\n[ \"$(cat)\" = cpio ] && mkdir -p usr/src/kernels/unpacked\n");
    for program in ["dnf", "rpmkeys", "rpm2cpio", "cpio"] {
        fs::set_permissions(machine.path("usr/local/sbin").join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = rehearse(&machine, "", "--available");
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(
        run.stderr.contains("dnf has no package lists here, and they could not be fetched: Failed to"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("; dnf makecache"), "{}", run.stderr);

    let repomd = "var/cache/dnf/baseos-0123456789abcdef/repodata/repomd.xml";
    machine = machine.file(repomd, "");
    let then = SystemTime::now() - Duration::from_secs(3 * 24 * 3600 + 60);
    File::options().write(true).open(machine.path(repomd)).unwrap().set_modified(then).unwrap();
    let run = rehearse(&machine, "", "--available");
    assert_eq!(taken(&run), "5.14.0-427.el9.x86_64");
    let told = "\npackage lists: 3 days old, and could not be refreshed: Failed to download metadata for repo 'baseos'\n";
    assert!(run.stdout.contains(told), "{}", run.stdout);
    let passed =
        "\npassed over 5.14.0-503.el9.x86_64: kernel-devel-5.14.0-503.el9.x86_64 could not be downloaded: Cannot download";
    assert!(run.stdout.contains(passed), "{}", run.stdout);
    assert!(run.stderr.contains("kernels"), "it is not unpacked: {}", run.stderr);

    machine = machine.file("var/online", "").file("var/calls", "");
    let run = rehearse(&machine, "", "--available");
    assert!(taken(&run) == "5.14.0-427.el9.x86_64" && run.stdout.contains(REFRESHED), "{}", run.stdout);
    let calls = fs::read_to_string(machine.path("var/calls")).unwrap();
    assert!(calls.contains("--refresh --setopt=*.skip_if_unavailable=0 "), "{calls}");
    assert_eq!((calls.matches("--refresh").count(), calls.matches("download").count()), (1, 2), "{calls}");
}
