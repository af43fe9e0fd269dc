use super::*;
use std::time::Duration;

fn k(name: &str) -> KernelRelease {
    name.parse().unwrap()
}

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    for (file, text) in files {
        host.write_atomic(file, text.as_bytes(), 0o644).unwrap();
    }
    (dir, host)
}

#[test]
fn a_kernel_of_another_kind_is_not_a_newer_one_of_the_same_kind() {
    for (one, other, same) in [
        ("6.1.0-56-amd64", "6.1.0-57-amd64", true),
        ("6.1.0-56-amd64", "6.12.9+deb12-amd64", true),
        ("6.1.0-56-amd64", "6.1.0-57-rt-amd64", false),
        ("6.1.0-56-amd64", "6.1.0-57-cloud-amd64", false),
        ("6.8.0-48-generic", "6.8.0-1017-aws", false),
        ("5.14.0-70.13.1.el9_0.x86_64", "5.14.0-503.11.1.el9_5.x86_64", true),
        ("5.14.0-503.11.1.el9_5.x86_64", "5.14.0-503.11.1.el9_5.x86_64+debug", false),
        ("4.18.0-553.el8_10.x86_64", "4.18.0-553.rt7.342.el8_10.x86_64", false),
        ("5.14.21-150400.24.100-default", "5.14.21-150400.24.111-default", true),
        ("6.1.102-111.amzn2023.x86_64", "6.12.20-23.97.amzn2023.x86_64", true),
    ] {
        assert_eq!(flavour(&k(one)) == flavour(&k(other)), same, "{one}, {other}");
    }
}

#[test]
fn a_default_that_grub_cfg_sets_itself_is_told_apart_from_a_saved_one() {
    let head = "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n";
    let tail = "fi\nif [ \"${boot_counter}\" ]; then\n  set default=1\nfi\n";
    for (line, value) in [
        ("   set default=\"${saved_entry}\"\n", None),
        ("   set default=\"0\"\n", Some("0")),
        ("   set default=\"1>2\"\n", Some("1>2")),
        ("   set default='Linux, with 6.1'\n", Some("Linux, with 6.1")),
        ("   set default=\"\"\n", None),
    ] {
        assert_eq!(literal(&format!("{head}{line}{tail}")).as_deref(), value, "{line}");
    }
    assert_eq!(literal("set timeout=5\n"), None);
}

#[test]
fn the_setting_is_changed_in_the_file_that_decides() {
    let main = ("/etc/default/grub", "GRUB_TIMEOUT=0\nGRUB_DEFAULT=\"1>2\"\n");
    let cloud = ("/etc/default/grub.d/50-cloud.cfg", "GRUB_DEFAULT=2\n");
    let (early, note) =
        (("/etc/default/grub.d/10-a.cfg", "GRUB_DEFAULT=3\n"), ("/etc/default/grub.d/99", "GRUB_DEFAULT=4\n"));
    for (files, file) in [
        (vec![], main.0),
        (vec![main], main.0),
        (vec![main, cloud], cloud.0),
        (vec![main, early, cloud, note], cloud.0),
        (vec![cloud], cloud.0),
    ] {
        let (dir, host) = host(&files);
        std::fs::create_dir_all(host.path("/etc/default")).unwrap();
        let command = setting(&host, "0").replace("/etc/", &format!("{}/etc/", dir.path().display()));
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
        assert!(host.read_text(file).unwrap().lines().any(|l| l == "GRUB_DEFAULT=0"), "{command}");
    }
}

#[test]
fn the_reason_why_packages_do_not_move_a_saved_default_is_reported() {
    let plugin = ("/usr/lib/kernel/install.d/20-grub.install", "");
    let settings = |text| vec![plugin, (SYSCONFIG, text)];
    for (files, word) in [
        (vec![], None),
        (vec![plugin], Some("is not there")),
        (settings("UPDATEDEFAULT=yes\n"), None),
        (settings("UPDATEDEFAULT=\"yes\"\n"), None),
        (settings("DEFAULTKERNEL=kernel\nUPDATEDEFAULT=no\n"), Some("UPDATEDEFAULT=no in")),
        (settings("DEFAULTKERNEL=kernel\n"), Some("does not say")),
    ] {
        let (_dir, host) = host(&files);
        let told = pinned(&host);
        assert_eq!(told.is_some(), word.is_some(), "{told:?}");
        assert!(told.unwrap_or_default().contains(word.unwrap_or_default()));
    }
}

#[test]
fn the_age_counts_from_the_earlier_of_two_times() {
    let now = SystemTime::now();
    for (days, text) in [(0, "today"), (1, "1 day ago"), (40, "40 days ago")] {
        assert!(age(now - Duration::from_secs(days * 86400 + 60)).ends_with(text));
    }
    assert!(age(now + Duration::from_secs(600)).ends_with("today"), "a clock that was set back");
    let (_dir, host) = host(&[("/lib/modules/6.1.0-9/modules.dep", "")]);
    assert!(installed_since(&host, &k("6.1.0-8")).is_none());
    let list = "/var/lib/dpkg/info/linux-image-6.1.0-9.list";
    host.write_atomic(list, b"", 0o644).unwrap();
    let then = now - Duration::from_secs(12 * 86400 + 60);
    std::fs::File::options().append(true).open(host.path(list)).unwrap().set_modified(then).unwrap();
    assert_eq!(installed_since(&host, &k("6.1.0-9")).map(age).unwrap(), ", installed 12 days ago");
}

#[test]
fn a_quoted_word_stays_one_word_for_the_shell() {
    let word = "it's a \"title\" $HOME `x`";
    let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", shell(word))]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
}
