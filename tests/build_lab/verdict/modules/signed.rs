//! Signed modules, and the label of an installed one.

use super::*;

/// A key of a machine's owner, below the root, and a kernel image that knows it or another key.
fn key(dir: &Path, name: &str) -> Vec<u8> {
    let (key, certificate) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.crt")));
    fs::create_dir_all(dir).unwrap();
    let output = Command::new("openssl")
        .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-outform", "PEM"])
        .args(["-subj", &format!("/CN=vfguard test {name}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let der = Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&certificate).output().unwrap();
    der.stdout
}

#[test]
fn with_a_key_modules_are_signed_by_the_kernels_own_program_and_the_build_cannot_read_the_key() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().grub().running(k).demo(&lab), k);
    let keys = machine.path("etc/vfguard/keys");
    let (own, other) = (key(&keys, "own"), key(&keys, "other"));
    let image = |certificate: &[u8]| [&b"\x7fELF"[..], &[0; 100], certificate, &[0; 100]].concat();
    let vmlinuz = machine.path(&format!("boot/vmlinuz-{k}"));
    fs::write(&vmlinuz, image(&own)).unwrap();
    let entry = machine.path(&format!("boot/loader/entries/0123456789abcdef0123456789abcdef-{k}.conf"));
    let text = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, text.replace("ro\n", "ro module.sig_enforce=1\n")).unwrap();

    let run = machine.run(&["prepare", k]);
    assert_eq!(run.code, 0, "without enforcement in the running kernel: {}{}", run.stdout, run.stderr);
    let codes = |machine: &Machine| -> (i32, Vec<String>) {
        let run = machine.run(&["--format", "json", "check", k]);
        let value = run.json();
        let all = value["kernels"][0]["findings"].as_array().unwrap().clone();
        (run.code, all.iter().filter(|f| f["severity"] != "info").map(|f| f["code"].as_str().unwrap().into()).collect())
    };
    assert_eq!(codes(&machine), (3, vec!["unsigned".to_owned()]));

    let config = "[sign]\nkey = '/etc/vfguard/keys/own.pem'\ncertificate = '/etc/vfguard/keys/own.crt'\n";
    let machine = machine.file("etc/vfguard/config.toml", config);
    let run = machine.run(&["prepare", k, "--rebuild"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let file = machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"));
    let signer = Command::new("modinfo").args(["-F", "signer"]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&signer.stdout).trim(), "vfguard test own", "modinfo sees another signer");
    let value = machine.run(&["--format", "json", "verify", file.to_str().unwrap(), "--kernel", k]).json();
    assert_eq!((&value["verdict"], &value["module"]["signature"]["signer"]), (&"safe".into(), &"vfguard test own".into()));
    assert_eq!(codes(&machine), (0, vec![]), "a kernel that insists loads what its own key signed");

    // The kernel knows another key; the content was changed after signing.
    fs::write(&vmlinuz, image(&other)).unwrap();
    assert_eq!(codes(&machine), (3, vec!["signer-untrusted".to_owned()]));
    fs::write(&vmlinuz, image(&own)).unwrap();
    let good = fs::read(&file).unwrap();
    let at = good.windows(8).position(|w| w == b"license=").unwrap();
    let mut tampered = good.clone();
    tampered[at + 8] ^= 1;
    fs::write(&file, &tampered).unwrap();
    assert!(codes(&machine).1.contains(&"signature-invalid".to_owned()));
    fs::write(&file, &good).unwrap();

    // A makefile does not find the key, even if everybody may read it.
    let secret = fs::read_to_string(keys.join("own.pem")).unwrap();
    let line = secret.lines().nth(1).unwrap();
    let path = keys.join("own.pem");
    assert!(Command::new("chmod").arg("644").arg(&path).status().unwrap().success());
    let script = format!(
        "cat {0} /etc/vfguard/keys/own.pem; grep -rs {1} /etc /var /root /home /tmp /proc/[0-9]*/root/etc/vfguard; env; exit 1\n",
        path.display(),
        &line[..20]
    );
    let (archive, digest) = lab::archive(machine.root(), &script, &[]);
    let run = machine.run(&["prepare", k, "--source", archive.to_str().unwrap(), "--sha256", &digest]);
    assert_eq!(run.code, 1);
    let logs = fs::read_dir(machine.path("var/lib/vfguard/log")).unwrap();
    let log: String = logs.map(|e| String::from_utf8_lossy(&fs::read(e.unwrap().path()).unwrap()).into_owned()).collect();
    assert!(log.contains("own.pem: No such file"), "the script did not run: {log}");
    assert!(!log.contains(line), "the build read the key");

    // If others can write the key or the program, nothing is signed, and the remedy fixes it.
    let chmod = |mode: &str, path: &Path| assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
    let program = fs::canonicalize(machine.path(&format!("usr/src/linux-headers-{k}/scripts/sign-file"))).unwrap();
    assert!(program.starts_with(machine.root()));
    // A copy for this test: the lab's roots are hard links.
    fs::copy(&program, program.with_extension("own")).unwrap();
    fs::rename(program.with_extension("own"), &program).unwrap();
    for (path, bad, said) in
        [(&path, "666", "own.pem may be written by others"), (&program, "777", "sign-file (owner 0, mode 777)")]
    {
        let marker = machine.path("ran");
        let before = fs::read(path).unwrap();
        if *path == program {
            fs::write(path, format!("#!/bin/sh\ntouch {}\nexit 1\n", marker.display())).unwrap();
        }
        chmod(bad, path);
        let run = machine.run(&["prepare", k, "--rebuild"]);
        assert!(run.code == 1 && run.stderr.contains("signing demo.ko") && run.stderr.contains(said), "{}", run.stderr);
        assert!(!marker.exists(), "a program that others can write ran as root");
        let doctor = machine.run(&["doctor"]).stdout;
        assert_eq!(doctor.contains("no module can be signed"), *path != program, "{doctor}");
        fs::write(path, before).unwrap();
        // As the remedy says.
        chmod("go-w", path);
        assert_eq!(machine.run(&["prepare", k, "--rebuild"]).code, 0);
    }
    let doctor = machine.run(&["doctor"]).stdout;
    assert!(doctor.contains("can read the private key") && doctor.contains("chmod 600"), "{doctor}");
    chmod("600", &path);
    assert!(machine.run(&["doctor"]).stdout.contains("modules are signed with /etc/vfguard/keys/own.pem"));

    // A missing key fails the build with a message, and nothing unsigned is installed.
    fs::remove_file(&path).unwrap();
    let run = machine.run(&["prepare", k, "--rebuild"]);
    assert!(run.code == 1 && run.stderr.contains("signing demo.ko"), "{}", run.stderr);
    assert_eq!(fs::read(&file).unwrap(), good);
}

#[test]
fn an_installed_module_gets_the_label_of_the_in_tree_one() {
    use vfguard::host::sys;
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k).demo(&lab), k).file(&format!("lib/modules/{k}/kernel/own.ko"), "");
    let label = b"system_u:object_r:modules_object_t:s0\0";
    let own = fs::File::open(machine.path(&format!("lib/modules/{k}/kernel/own.ko"))).unwrap();
    // Root may set it on any file system with extended attributes, with or without SELinux.
    sys::set_label(&own, label).unwrap();
    let run = machine.run(&["prepare", k]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let file = fs::File::open(machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"))).unwrap();
    assert_eq!(sys::label(&file).as_deref(), Some(&label[..]));
}
