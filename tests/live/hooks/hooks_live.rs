//! Building in the service, on a live root: a namespace made of this machine's programs, in which a stand-in for systemctl runs the units'
//! own command lines. (With a real systemd: the vm tier.)

#[path = "../../machine/mod.rs"]
mod machine;

use machine::lab::Lab;
use machine::live::enter;
use machine::{Machine, Run};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A stand-in for systemd: `start UNIT` runs its ExecStart in a session of its own, or joins a run in progress, as a job does; `show`
/// answers from the files. It logs a line for each call.
const SYSTEMCTL: &str = r#"#!/bin/bash
echo "$*" >>/var/calls
block=yes; words=()
for w in "$@"; do [ "$w" = --no-block ] && block=no || words+=("$w"); done
set -- "${words[@]}"
case $1 in
start)
    [ -e "/var/masked" ] && { echo "Failed to start $2: Unit $2 is masked." >&2; exit 1; }
    file=/usr/lib/systemd/system/$2
    [ $block = yes ] || exit 0
    exec 9>/run/unit.lock
    flock -n 9 || { flock 9; exit 0; }
    setsid bash -c "exec $(sed -n 's/^ExecStart=//p' "$file")" >>/var/journal 2>&1 &
    wait $!
    [ $? = 0 ] || [ $? = 3 ] ;;
show)
    case $* in
    *ActiveState*) flock -n /run/unit.lock true && echo ActiveState=inactive || echo ActiveState=activating; exit ;;
    esac
    refuser=VFGUARD_blocks_reboot__run_vfguard_status.service
    for u in "${@:3}"; do
        loaded=loaded requires=
        [ ! -e "/run/systemd/system/$u.d/50-vfguard.conf" ] || requires=$refuser
        [ "$u" != $refuser ] || { loaded=not-found; [ ! -L "/run/systemd/system/$u" ] || loaded=masked; }
        printf 'Id=%s\nLoadState=%s\nRequires=%s\n\n' "$u" $loaded "$requires"
    done ;;
esac
"#;
/// A stand-in for apt-get: it installs the headers, or no repository has them.
const APT: &str = r#"#!/bin/bash
echo "apt-get $*" >>/var/calls
[ "${!#}" = update ] && { touch /var/updated; exit; }
[ -e /var/updated ] || { echo "E: Failed to fetch ${!#}  404  Not Found"; exit 100; }
[ -e /var/slow ] && { sleep 1; sleep 1; }
[ -e /var/no-headers ] && { echo "E: Unable to locate package ${!#}"; exit 100; }
mv /usr/src/hidden "/usr/src/${!#}"
"#;
/// The demo driver's kernel is installed and nothing is built; another kernel is running.
fn machine(lab: &Lab) -> (Machine, String) {
    let kernel = lab.get("K_NEW").to_owned();
    let machine = lab
        .install(lab.machine().grub(), &kernel)
        .demo(lab)
        .file("osrelease", "6.1.0-1-old\n")
        .file("cmdline", "ro\n")
        // The packages are Debian's, as dpkg's files show; the boot menu here is a Red Hat one.
        .file("var/lib/dpkg/info/dpkg.list", "/usr/bin/dpkg\n")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/group", "root:x:0:\n");
    let mut machine = machine
        .file("usr/local/sbin/systemctl", SYSTEMCTL)
        .file("usr/local/sbin/apt-get", APT)
        .file("run/systemd/system/x", "");
    fs::remove_file(machine.path("etc/os-release")).unwrap();
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        machine = machine.file(&format!("usr/lib/systemd/system/{name}"), &fs::read_to_string(&path).unwrap());
    }
    for program in ["usr/local/sbin/systemctl", "usr/local/sbin/apt-get"] {
        fs::set_permissions(machine.path(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    fs::create_dir_all(machine.path("var/cache/vfguard")).unwrap();
    (machine, kernel)
}

fn text(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.path(path)).unwrap_or_default()
}

fn built(machine: &Machine, kernel: &str) -> bool {
    machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko")).exists()
}

fn closed(machine: &Machine) -> bool {
    machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists()
}

#[test]
fn a_hook_starts_the_service_shows_its_progress_and_reports_the_verdict() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let run = enter(&machine, "vfguard reconcile --from yum");
    assert_eq!(run.code, 0, "{}{}{}", run.stdout, run.stderr, text(&machine, "var/journal"));
    assert!(text(&machine, "var/calls").lines().any(|l| l == "start vfguard.service"), "{}", text(&machine, "var/calls"));
    let lines: Vec<&str> = run.stderr.lines().collect();
    let at = |word: &str| lines.iter().position(|l| l.contains(word)).unwrap_or_else(|| panic!("no {word} in {lines:#?}"));
    assert!(at("gate closed") < at("demo is not proven yet (a reboot is refused meanwhile)"), "{lines:#?}");
    assert!(at("is not proven yet") < at("building demo") && at("building demo") < at("built, verified and installed"));
    assert!(run.stdout.contains("safe: a reboot keeps the network"), "{}", run.stdout);
    assert!(!run.stderr.contains('\r') && lines.iter().all(|l| l.starts_with("vfguard: ")), "{lines:#?}");
    assert!(text(&machine, "var/journal").contains("building demo"), "the service did not do the work");
    assert!(built(&machine, &kernel) && !closed(&machine));
}

#[test]
fn a_hook_that_must_not_wait_returns_at_once_with_the_gate_closed() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let machine = machine.file("etc/vfguard/config.d/9.toml", "[hook]\nwait = false\n");
    let run = enter(&machine, "vfguard reconcile --from dnf");
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(text(&machine, "var/calls").contains("start --no-block vfguard.service"));
    assert!(
        run.stderr.contains("goes on in the background") && run.stdout.contains("a reboot is refused"),
        "{}",
        run.stdout
    );
    assert!(!built(&machine, &kernel) && closed(&machine));
}

#[test]
fn a_hook_builds_itself_if_the_service_cannot_be_started() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let run = enter(
        &machine.file("var/masked", ""),
        "vfguard reconcile --from yum; echo \"code $?\"; ls /lib/modules/*/updates/vfguard",
    );
    assert!(run.stdout.contains("code 0") && run.stdout.contains("demo.ko"), "{kernel}: {}{}", run.stdout, run.stderr);
}

#[test]
fn many_hooks_of_one_transaction_do_the_work_once() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let hooks = "for h in postinst kernel-install rpm-trigger dnf; do vfguard reconcile --from $h & p+=($!); done; \
                 for p in ${p[@]}; do wait $p || exit 9; done; vfguard reconcile --from yum";
    let run = enter(&machine, hooks);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let builds = text(&machine, "var/journal").matches("building demo").count();
    assert_eq!(builds, 1, "{}", text(&machine, "var/journal"));
    assert!(built(&machine, &kernel) && !closed(&machine));
}

#[test]
fn a_killed_hook_leaves_the_service_running() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let script =
        "vfguard reconcile --from yum & p=$!; for i in {1..600}; do grep -q 'building demo' /var/journal 2>/dev/null && break; sleep 0.05; done; \
                  kill -9 $p; flock /run/unit.lock true; vfguard reconcile --from dnf";
    let run = enter(&machine, script);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(text(&machine, "var/journal").matches("building demo").count(), 1);
    assert!(built(&machine, &kernel) && !closed(&machine));
}

/// The headers are not installed yet; apt-get would install them.
fn headless(lab: &Lab) -> (Machine, String) {
    let (machine, kernel) = machine(lab);
    fs::rename(machine.path(&format!("usr/src/linux-headers-{kernel}")), machine.path("usr/src/hidden")).unwrap();
    (machine, kernel)
}

#[test]
fn without_headers_the_hook_returns_at_once_and_they_are_installed_after_the_transaction() {
    let lab = Lab::open();
    let (machine, kernel) = headless(&lab);
    let script = "vfguard reconcile --from rpm-trigger; echo \"hook $?\"; grep -c apt-get /var/calls; systemctl start vfguard.service; \
                  grep -c apt-get /var/calls; systemctl start vfguard-headers.service; systemctl start vfguard.service; \
                  vfguard check; echo \"check $?\"; ls /lib/modules/*/updates/vfguard";
    let run = enter(&machine, script);
    let calls = text(&machine, "var/calls");
    assert!(
        run.stdout.contains("hook 3\n0\n0\n"),
        "headers were installed inside the transaction: {}{}",
        run.stdout,
        run.stderr
    );
    assert!(run.stderr.contains("its headers are not there (yet)"), "{}", run.stderr);
    assert!(
        calls.contains("start --no-block vfguard.service") && calls.contains("start --no-block vfguard-headers.service"),
        "{calls}"
    );
    let apt = calls.lines().find(|l| l.starts_with("apt-get") && !l.ends_with("update")).unwrap();
    assert!(apt.contains("install") && apt.ends_with(&format!("linux-headers-{kernel}")), "{apt}");
    assert!(
        run.stdout.contains("check 0") && run.stdout.contains("demo.ko"),
        "{}{}",
        run.stdout,
        text(&machine, "var/journal")
    );
    assert!(!closed(&machine));
}

#[test]
fn a_package_manager_that_installs_headers_goes_on_when_vfguard_is_killed_and_the_next_run_finds_them() {
    let lab = Lab::open();
    let (machine, kernel) = headless(&lab);
    let machine = machine.file("var/slow", "");
    let script =
        "vfguard reconcile --from headers & main=$!; until grep -q 'apt-get.* install ' /var/calls; do sleep 0.05; done; \
                  sleep 0.2; kill -9 $main; wait $main; echo \"killed $?\"; for i in {1..300}; do [ -e /usr/src/hidden ] || break; sleep 0.1; done; ls /usr/src; rm /var/slow; \
                  systemctl start vfguard.service; vfguard check; echo \"check $?\"";
    let run = enter(&machine, script);
    assert!(run.stdout.contains("killed 137\n"), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(&format!("linux-headers-{kernel}\n")), "it was cut short: {}", run.stdout);
    assert!(run.stdout.contains("check 0"), "{}{}", run.stdout, text(&machine, "var/journal"));
    assert_eq!(text(&machine, "var/calls").matches(" install ").count(), 1);
}

#[test]
fn headers_that_no_repository_has_are_tried_once_and_reported_and_a_setting_prevents_that() {
    let lab = Lab::open();
    let (machine, kernel) = headless(&lab);
    let machine = machine.file("var/no-headers", "");
    let script =
        "systemctl start vfguard.service; systemctl start vfguard-headers.service; systemctl start vfguard.service; \
                  systemctl start vfguard-headers.service; vfguard check; cat /run/motd.d/50-vfguard";
    let run = enter(&machine, script);
    assert!(
        run.stdout.matches("no repository offers the headers").count() >= 2,
        "check and the message of the day: {}",
        run.stdout
    );
    assert!(run.stdout.contains(&format!("vfguard decline {kernel}")), "{}", run.stdout);
    let calls = text(&machine, "var/calls");
    assert_eq!(calls.matches("install linux-headers").count(), 1, "{calls}");
    assert_eq!(calls.matches("--no-block vfguard-headers.service").count(), 1, "{calls}");
    assert!(closed(&machine));

    let (machine, _) = headless(&lab);
    let machine = machine.file("etc/vfguard/config.d/9.toml", "[build]\ninstall_headers = false\n");
    enter(&machine, "systemctl start vfguard.service; vfguard reconcile");
    let calls = text(&machine, "var/calls");
    assert!(!calls.contains("apt-get") && !calls.contains("vfguard-headers"), "{calls}");
}

#[test]
fn headers_are_installed_even_if_neither_log_nor_record_can_be_written() {
    let lab = Lab::open();
    let (machine, _) = headless(&lab);
    let machine = machine.file("var/lib/vfguard/log", "no directory").file("var/lib/vfguard/records", "no directory");
    let run = enter(&machine, "vfguard reconcile --from headers; ls -d /usr/src/linux-headers-*-amd64");
    assert!(run.code == 0 && run.stderr.contains("its headers are installed"), "{}{}", run.stdout, run.stderr);

    let (machine, _) = headless(&lab);
    let machine = machine.file("var/no-headers", "").file("var/lib/vfguard/records", "no directory");
    let run = enter(&machine, "vfguard reconcile --from headers");
    assert!(run.stderr.contains("this is not remembered: ") && run.stderr.contains("Unable to locate"), "{}", run.stderr);
    assert_eq!(text(&machine, "var/calls").matches("install linux-headers").count(), 1);
}

/// The run of vfguard-boot.service, in its cgroup or in another one, while logins are barred as early in a boot. Its processes are traced.
fn decided_early(machine: &Machine, cgroup: &str) -> (Run, usize) {
    let script = format!(
        "touch /run/nologin; echo '0::/system.slice/{cgroup}' >/var/cgroup; mount --bind /var/cgroup /proc/$$/cgroup; \
         exec strace -D -f -qq -e trace=execve -e status=successful -o /var/trace vfguard --no-progress reconcile --no-build --from boot"
    );
    let run = enter(machine, &script);
    // The first one is vfguard itself.
    (run, text(machine, "var/trace").matches("execve(").count() - 1)
}

#[test]
fn early_at_boot_no_process_is_started_where_all_is_safe() {
    let lab = Lab::open();
    let (machine, _) = machine(&lab);
    let run = enter(&machine, "vfguard reconcile --from service");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let (run, started) = decided_early(&machine, "vfguard-boot.service");
    assert_eq!((run.code, started), (0, 0), "{}{}{}", run.stdout, run.stderr, text(&machine, "var/trace"));
    // A control: any other run does start processes, since it may be inside an offline update and has to ask.
    let (run, started) = decided_early(&machine, "vfguard.service");
    assert!(run.code == 0 && started > 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn with_upstart_as_init_a_hook_builds_itself_though_the_package_has_units() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    fs::remove_dir_all(machine.path("run/systemd")).unwrap();
    let machine = machine
        .file("usr/sbin/initctl", "")
        .file("etc/init/control-alt-delete.conf", "")
        .file("usr/libexec/vfguard/upstart-wrapper", include_str!("../../../packaging/el6/wrapper"))
        .file("usr/sbin/vfguard-upstart", include_str!("../../../packaging/el6/vfguard-upstart"));
    let run = enter(
        &machine,
        "rm -f /usr/lib/systemd/systemd; for p in reboot shutdown telinit; do rm -f /sbin/$p; printf '#!/bin/sh\\n' >/sbin/$p; done; sh /usr/sbin/vfguard-upstart install; \
         vfguard reconcile --from postinst; echo \"code $?\"; vfguard reconcile --from yum; vfguard check",
    );
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(run.code == 0 && run.stdout.contains("code 0\n") && built(&machine, &kernel), "{said}");
    assert!(!said.contains("systemctl") && !machine.path("var/calls").exists(), "{said}{}", text(&machine, "var/calls"));
}

#[test]
fn if_yums_action_follows_a_scriptlet_only_decides_and_the_action_shows_the_build() {
    let lab = Lab::open();
    let (machine, kernel) = machine(&lab);
    let machine = machine
        .file("etc/yum.conf", "[main]\nplugins=1\n")
        .file("usr/lib/yum-plugins/post-transaction-actions.py", "")
        .file("etc/yum/pluginconf.d/post-transaction-actions.conf", "[main]\nenabled=1\n")
        .file("etc/yum/post-actions/vfguard.action", include_str!("../../../packaging/hooks/yum.action"));
    let yum = |option: &str| {
        format!("ln -sfn /run /var/run; bash -c 'exec -a \"yum {option}\" sleep 300' & echo $! >/var/run/yum.pid; sleep 0.2")
    };
    let run = enter(&machine, &format!("{}; vfguard reconcile --from postinst; echo \"code $?\"; kill %1", yum("-y")));
    assert!(
        run.stdout.contains("code 3\n") && !built(&machine, &kernel) && closed(&machine),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert!(run.stderr.contains("done after this transaction"), "{}", run.stderr);
    assert!(text(&machine, "var/calls").contains("start --no-block vfguard.service"));
    let run = enter(&machine, &format!("{}; vfguard reconcile --from yum; echo \"code $?\"; kill %1", yum("-y")));
    assert!(
        run.stdout.contains("code 0\n") && built(&machine, &kernel) && !closed(&machine),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert!(
        run.stderr.contains("building demo") && run.stdout.contains("safe: a reboot keeps"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    // The worker, which is no hook, opened nothing while yum was running; it leaves waiting for yum's end to another unit.
    assert!(
        text(&machine, "var/calls").contains("start --no-block vfguard-headers.service"),
        "{}",
        text(&machine, "var/calls")
    );
}
