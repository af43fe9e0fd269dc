//! Text from elsewhere (a name in sysfs, strings of a module, a file name, a person's reason) neither controls the terminal nor starts a
//! line of its own, whichever verb prints it and wherever.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ko, Machine, Run, VF};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

const OLD: &str = "5.14.0-1.el9.x86_64";
const NEW: &str = "5.14.0-2.el9.x86_64";
/// The escape sequences with which vfguard itself sets colours.
const OURS: [&str; 4] = ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[31;1m", "\u{1b}[0m"];

/// A text that clears the screen, changes the direction, has zero-width characters, and imitates a verdict on lines of its own.
fn evil(source: &str) -> String {
    format!(
        "{source}\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\u{85}\nnext: {source} is safe\r\n\
         verdict: {source} safe\u{2028}vfguard: {source}\u{2029}error={source}{}safe {source}",
        " ".repeat(40)
    )
}

/// The same, reduced to what one line of a file can hold.
fn evil_line(source: &str) -> String {
    evil(source).replace(['\n', '\r'], "\u{b}")
}

/// Where the texts come from that some verb prints.
const SOURCES: [&str; 13] = [
    "fake-interface",
    "fake-driver",
    "fake-version",
    "fake-vermagic",
    "fake-modulefile",
    "fake-entry",
    "fake-setting",
    "fake-settingsfile",
    "fake-reason",
    "fake-recipe",
    "fake-root",
    "fake-held",
    "fake-kernel",
];

fn file(machine: &Machine, name: &str, content: &[u8]) -> PathBuf {
    let path = machine.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// NEW boots next and is not safe; every name and text that can be hostile is.
fn machine() -> (Machine, PathBuf) {
    let machine = Machine::new().grub().running(OLD).offline();
    let machine = machine.kernel(OLD).boot_entry(OLD).kernel(NEW);
    let device = "sys/bus/pci/devices/0000:00:03.0";
    let machine =
        machine.file(&format!("{device}/modalias"), &format!("{VF}\n")).file(&format!("{device}/class"), "0x020000\n");
    file(&machine, &format!("{device}/net/{}/operstate", evil("fake-interface")), b"up\n");
    symlink(format!("../../../../bus/pci/drivers/{}", evil("fake-driver")), machine.path(device).join("driver")).unwrap();
    // The boot entry of NEW, hostile in its name and title.
    let entry =
        format!("title {}\nversion {NEW}\nlinux /vmlinuz-{NEW}\noptions root=/dev/vda1 ro\n", evil_line("fake-entry"));
    file(&machine, &format!("boot/loader/entries/{}.conf", evil_line("fake-entry")), entry.as_bytes());
    let mut block = format!("# GRUB Environment Block\nsaved_entry={}\n", evil_line("fake-entry")).into_bytes();
    block.resize(1024, b'#');
    file(&machine, "boot/grub2/grubenv", &block);
    // Its driver, which depmod has chosen.
    let info = [("license", "GPL"), ("version", &evil("fake-version")), ("vermagic", &evil("fake-vermagic"))];
    let module = ko::module("ixgbevf", &info);
    let modules = format!("lib/modules/{NEW}");
    let installed = format!("updates/{}/ixgbevf.ko", evil_line("fake-modulefile"));
    file(&machine, &format!("{modules}/{installed}"), &module);
    file(&machine, &format!("{modules}/modules.dep"), format!("{installed}:\n").as_bytes());
    file(&machine, &format!("{modules}/modules.alias"), b"alias pci:v00008086d000010EDsv*sd*bc*sc*i* ixgbevf\n");
    let loose = file(&machine, &format!("srv/{}.ko", evil("fake-modulefile")), &module);
    (machine, loose)
}

/// Asserts that the output is printable and has no foreign line. Returns the sources whose text it contains.
fn is_clean(what: &str, text: &str) -> BTreeSet<&'static str> {
    let plain = OURS.iter().fold(text.to_owned(), |text, ours| text.replace(ours, ""));
    for c in plain.chars().filter(|c| *c != '\n') {
        assert!(!c.is_control() && c != '\u{200b}' && c != '\u{202e}', "{what}: {c:?} in {text:?}");
        assert!(vfguard::text::is_printable(c), "{what}: {c:?} in {text:?}");
    }
    // JSON is data, and a script of ours is indented.
    let people = plain.split("{\n").next().unwrap_or_default();
    if people.contains("fake-") {
        assert!(!people.contains(&" ".repeat(20)), "{what}: pushed to the next row: {text:?}");
    }
    for line in plain.lines().map(str::trim_start) {
        let fakes = |source: &&str| {
            ["next: ", "verdict: ", "vfguard: ", "error=", "safe "].iter().any(|p| line.starts_with(&format!("{p}{source}")))
        };
        // A line that begins with vfguard's name and then repeats its input is no verdict.
        let faked = SOURCES.iter().find(|s| fakes(s) && !line.contains(&format!("vfguard: {s}\u{fffd}")));
        assert_eq!(faked, None, "{what}: {line:?}");
    }
    SOURCES.into_iter().filter(|source| plain.contains(source)).collect()
}

fn is_clean_run(what: &str, run: &Run) -> BTreeSet<&'static str> {
    let mut told = is_clean(what, &run.stdout);
    told.extend(is_clean(what, &run.stderr));
    told
}

/// Runs a verb on a machine, after the steps of `before`; `LOOSE` is a module file. Returns the sources whose text was printed.
fn run(before: &[&str], verb: &[&str], options: &[&str], settings: Option<&str>) -> BTreeSet<&'static str> {
    let (machine, loose) = machine();
    if !before.is_empty() {
        machine.run(before);
    }
    if let Some(settings) = settings {
        file(&machine, "etc/vfguard/config.toml", settings.as_bytes());
    }
    let loose = format!("/{}", loose.strip_prefix(machine.root()).unwrap().display());
    let args = verb.iter().map(|a| if *a == "LOOSE" { loose.as_str() } else { *a });
    let args: Vec<&str> = options.iter().copied().chain(args).collect();
    let run = machine.run(&args);
    assert!((0..=4).contains(&run.code), "{args:?}: {}{}", run.stdout, run.stderr);
    for (place, file) in [("message of the day", "run/motd.d/50-vfguard"), ("progress", "run/vfguard/progress")] {
        if let Ok(text) = fs::read_to_string(machine.path(file)) {
            is_clean(&format!("{place}, {args:?}"), &text);
        }
    }
    is_clean_run(&format!("{args:?} after {before:?}"), &run)
}

#[test]
fn no_verb_lets_foreign_text_control_the_terminal_or_start_a_line() {
    let setting = format!("[drivers]\nrequired = [{}]\n", serde_json::to_string(&evil("fake-setting")).unwrap());
    // A reason may not hold control characters; the other texts do.
    let reason: String = evil("fake-reason").chars().filter(|c| !c.is_control()).collect();
    let (control, why, caller, recipe) = (evil("fake-reason"), evil("fake-why"), evil("fake-caller"), evil("fake-recipe"));
    let (missing, kernel, digest) = (evil("fake-settingsfile"), evil("fake-kernel"), "0".repeat(64));
    let verbs: &[&[&str]] = &[
        &["check"],
        &["-v", "check"],
        &["check", NEW],
        &["check", &kernel],
        &["status"],
        &["-v", "status", NEW],
        &["next-boot"],
        &["verify", "LOOSE", "--kernel", NEW],
        &["verify", &missing, "--kernel", NEW],
        &["reconcile"],
        &["-v", "reconcile", "--from", "yum"],
        &["reconcile", "--from", "dnf5"],
        &["reconcile", "--from", &caller],
        &["reconcile", "--from", "service"],
        &["reconcile", "--no-build", "--from", "boot"],
        &["-v", "prepare"],
        &["prepare", NEW, "--driver", &recipe],
        &["prepare", NEW, "--source", &missing, "--sha256", &digest],
        &["rehearse", NEW, "--driver", &recipe],
        &["rehearse", NEW, "--scratch", "/proc/version", "--reason", &reason, "--source", &missing],
        &["gate", "close"],
        &["gate", "open", "--reason", &reason],
        &["gate", "open", "--reason", &control],
        &["gate", "open", "--reason", "x", "--for", &kernel],
        &["gate", "show"],
        &["gate", "remove"],
        &["decline", NEW, "--reason", &why],
        &["reboot"],
        &["doctor"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &[&recipe],
        &["--config", &missing, "check"],
        &["--config", &missing, "gate", "show"],
    ];
    let refused: &[&[&str]] = &[&["check"], &["status"], &["gate", "show"], &["gate", "remove"], &["reboot", "--held"]];
    let misled: &[&[&str]] =
        &[&["check"], &["status"], &["gate", "show"], &["reconcile"], &["reconcile", "--from", "dnf5"], &["doctor"]];
    // Most of the time goes into syncing to the disk.
    let told: BTreeSet<&str> = thread::scope(|scope| {
        let mut runs = Vec::new();
        for options in [&["--color", "always"] as &[&str], &["--format", "json"], &["--no-progress"]] {
            for verbs in verbs.chunks(9) {
                runs.push(scope.spawn(move || verbs.iter().flat_map(|v| run(&[], v, options, None)).collect::<Vec<_>>()));
            }
            let setting = &setting;
            runs.push(scope.spawn(move || misled.iter().flat_map(|v| run(&[], v, options, Some(setting))).collect()));
        }
        let reason = &reason;
        runs.push(scope.spawn(move || refused.iter().flat_map(|v| run(&["reconcile"], v, &[], None)).collect()));
        let decline = ["decline", NEW, "--reason", &why];
        runs.push(scope.spawn(move || refused.iter().flat_map(|v| run(&decline, v, &[], None)).collect()));
        let open = ["gate", "open", "--reason", reason];
        runs.push(scope.spawn(move || refused.iter().flat_map(|v| run(&open, v, &[], None)).collect()));
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let elsewhere = ["fake-root", "fake-held"];
    let silent: Vec<_> = SOURCES.iter().filter(|s| !told.contains(*s) && !elsewhere.contains(s)).collect();
    assert!(silent.is_empty(), "nobody tells of {silent:?}, so that nothing is known about how");
}

#[test]
fn a_root_with_a_hostile_name_is_printed_as_one_line() {
    let (inner, _) = machine();
    let outer = Machine::bare();
    let root = outer.path(&evil("fake-root"));
    let mut told = BTreeSet::new();
    for there in [false, true] {
        if there {
            fs::rename(inner.root(), &root).unwrap();
        }
        for verb in ["check", "status", "doctor", "reconcile", "prepare"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vfguard"));
            command.arg("--root").arg(&root).arg(verb);
            told.extend(is_clean_run(verb, &command.output().unwrap().into()));
        }
    }
    assert!(told.contains("fake-root"));
}

#[test]
fn text_from_a_record_is_printed_as_one_line() {
    let (machine, _) = machine();
    machine.run(&["reconcile"]);
    let record = machine.path("var/lib/vfguard/records/hold.json");
    let mut hold: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    hold["why"] = evil("fake-held").into();
    fs::write(&record, hold.to_string()).unwrap();
    assert!(is_clean_run("hold", &machine.run(&["status"])).contains("fake-held"));
}
