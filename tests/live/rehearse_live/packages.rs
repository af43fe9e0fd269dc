//! Packages from a hostile Debian mirror: nothing that apt does not verify is unpacked, and unpacked files cannot reach anything outside.

use super::mirror::{gpg, Mirror, Package};
use super::tar::{Header, Tar};
use super::{able, debian, enter, rehearse, taken, NOBODY};
use crate::machine::{Machine, Run};
use std::fs;

const KERNEL: &str = "6.1.0-57-amd64";
const NO_NAMESPACES: &str = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin ";

fn headers() -> Vec<Package> {
    vec![(format!("linux-headers-{KERNEL}"), "1", String::new())]
}

/// A machine that trusts the key `lab` for the mirror, and the gpg directory with that key and the key `wrong`.
fn trusting(mirror: &Mirror, conf: &str) -> (Machine, tempfile::TempDir) {
    let gnupg = tempfile::tempdir().unwrap();
    for key in ["lab", "wrong"] {
        gpg(gnupg.path(), &["--passphrase", "", "--quick-generate-key", key, "rsa2048", "sign", "never"]);
    }
    gpg(gnupg.path(), &["--output", "lab.gpg", "--export", "lab"]);
    let sources = mirror.sources().replace("trusted=yes", "signed-by=/etc/apt/keyrings/lab.gpg");
    let machine = debian(&sources).file("etc/apt/apt.conf.d/70loose", conf);
    fs::create_dir_all(machine.path("etc/apt/keyrings")).unwrap();
    fs::copy(gnupg.path().join("lab.gpg"), machine.path("etc/apt/keyrings/lab.gpg")).unwrap();
    (machine, gnupg)
}

#[test]
fn a_package_that_does_not_match_the_signed_index_is_refused() {
    if !able() {
        return;
    }
    let mirror = Mirror::start();
    let (machine, gnupg) = trusting(&mirror, "");
    mirror.publish(&headers(), &[]);
    mirror.sign(gnupg.path(), "lab");
    for who in ["", NOBODY, NO_NAMESPACES] {
        let run = rehearse(&machine, who, KERNEL);
        assert_eq!(taken(&run), KERNEL);
        assert!(run.stderr.contains("linux-headers-"), "{who}{}", run.stderr);
    }
    mirror.tamper("linux-headers-6.1.0-57-amd64");
    let run = rehearse(&machine, "", KERNEL);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("could not be downloaded: ") && run.stderr.contains("Hash Sum mismatch"), "{}", run.stderr);
}

/// The machine's own settings accept everything.
const LOOSE: &str = "APT::Get::AllowUnauthenticated \"true\";\nAcquire::AllowInsecureRepositories \"true\";\n\
    Acquire::AllowWeakRepositories \"true\";\nAcquire::AllowDowngradeToInsecureRepositories \"true\";\n";

#[test]
fn an_unsigned_index_is_refused_for_any_settings_of_the_machine() {
    if !able() {
        return;
    }
    for key in [None, Some("wrong")] {
        let mirror = Mirror::start();
        let (machine, gnupg) = trusting(&mirror, LOOSE);
        mirror.publish(&headers(), &[]);
        if let Some(key) = key {
            mirror.sign(gnupg.path(), key);
        }
        let run = rehearse(&machine, "", KERNEL);
        assert_eq!(run.code, 1, "{key:?} {}", run.stdout);
        assert!(run.stderr.contains("there are no package lists here, and they could not be fetched: "), "{}", run.stderr);
        assert_eq!(mirror.downloads("linux-headers-6.1.0-57-amd64"), 0, "{key:?}");
        if key.is_none() {
            // The machine's own apt accepts it.
            let own = enter(
                &machine,
                &format!("cd /tmp && apt-get -q -o APT::Sandbox::User=root update; apt-get -q download linux-headers-{KERNEL} && ls *.deb"),
            );
            assert_eq!(own.code, 0, "{}{}", own.stdout, own.stderr);
        }
    }
}

/// A rehearsal with a package that contains these files, and the result of unpacking it by dpkg-deb as root, as vfguard once did.
fn unpacked(files: Tar) -> (Run, Run) {
    let mirror = Mirror::start();
    mirror.publish_as(&headers(), &[], Some(&files.end()));
    let machine = debian(&mirror.sources());
    let list = "find /etc/cron.d /tmp/s ! -type l \\( -name evil -o -perm /06022 -o ! -type f ! -type d \\) -printf '%M %p %s\\n' >&2";
    let run = enter(
        &machine,
        &format!("mkdir /etc/cron.d; vfguard rehearse --scratch /tmp/s {KERNEL}; rc=$?; ls -x /tmp/s/usr/src >&2; {list}; exit $rc"),
    );
    let former = format!(
        "cd /tmp && apt-get -q -o APT::Sandbox::User=root update >&2; apt-get -q -o APT::Sandbox::User=root download linux-headers-{KERNEL} >&2
         mkdir /tmp/s && dpkg-deb -x *.deb /tmp/s; {}",
        list.replace(">&2", "")
    );
    (run, enter(&machine, &former))
}

fn tree() -> Tar {
    let dirs = ["./", "./usr/", "./usr/src/", "./usr/src/linux/"];
    dirs.into_iter().fold(Tar::default(), Tar::dir).file("./usr/src/linux/Makefile", b"all:\n")
}

#[test]
fn names_in_a_package_that_lead_outside_reach_nothing() {
    if !able() {
        return;
    }
    for (what, files) in [
        ("absolute", tree().file("/etc/cron.d/evil", b"x")),
        ("dotdot", tree().file("./usr/../../../../etc/cron.d/evil", b"x")),
        ("through a link", tree().symlink("./usr/src/linux/link", "/etc/cron.d").file("./usr/src/linux/link/evil", b"x")),
        ("a hard link", tree().hardlink("./usr/src/linux/evil", "/etc/passwd")),
    ] {
        let (run, _) = unpacked(files);
        assert_eq!(run.code, 1, "{what}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("a downloaded package of headers is refused: "), "{what}: {}", run.stderr);
        assert!(!run.stderr.contains("/evil "), "{what}: {}", run.stderr);
    }
}

#[test]
fn devices_special_mode_bits_and_sparse_files_of_a_package_are_not_unpacked() {
    if !able() {
        return;
    }
    let name = |name: &str| format!("./usr/src/linux/{name}");
    let device = Header::new(b'3', name("device").as_bytes(), 0).with(329, b"0000001\0").with(337, b"0000003\0").mode(0o666);
    let fifo = Header::new(b'6', name("fifo").as_bytes(), 0);
    // 10 GiB of zeros, in GNU's old format: one hole up to the end.
    let end = format!("{:011o}\0", 10u64 << 30);
    let sparse = Header::new(b'S', name("sparse").as_bytes(), 0)
        .with(257, b"ustar  \0")
        .with(386, end.as_bytes())
        .with(398, b"00000000000\0")
        .with(483, end.as_bytes());
    for (what, header, formerly, why) in [
        ("device", device, "crw", "cannot be unpacked"),
        ("fifo", fifo, "prw", "neither a file, a directory nor a link"),
        ("sparse", sparse, "", "cannot be unpacked"),
    ] {
        let (run, former) = unpacked(tree().raw(header, b""));
        assert!(former.stdout.contains(formerly), "{what}: {}{}", former.stdout, former.stderr);
        assert_eq!(run.code, 1, "{what}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(why), "{what}: {}", run.stderr);
    }
    let setuid = Header::new(b'0', name("su").as_bytes(), 1).mode(0o4777).with(108, b"0000000\0").with(116, b"0000000\0");
    let (run, former) = unpacked(tree().raw(setuid, b"x"));
    assert!(former.stdout.contains("-rws"), "{}{}", former.stdout, former.stderr);
    assert_eq!(taken(&run), KERNEL, "{}{}", run.stdout, run.stderr);
    assert!(!run.stderr.contains("rws") && run.stderr.contains("linux"), "{}", run.stderr);
}
