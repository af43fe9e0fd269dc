//! The hooks of package managers, the scripts and the units.

use super::*;

#[test]
fn yums_plugin_must_be_installed_loaded_and_enabled_and_its_action_in_a_form_that_yum_accepts() {
    expect(&good().file("etc/yum.conf", "[main]\nplugins=0\n"), "hook-yum", "failed", "no plugins");
    expect(&good().file("etc/yum.conf", "[main]\n[x]\nplugins=1\n"), "hook-yum", "failed", "no plugins");
    // The other file takes precedence, if it exists.
    let other = good().file("etc/yum/yum.conf", "[main]\nplugins=0\n");
    expect(&other, "hook-yum", "failed", "no plugins (plugins in /etc/yum/yum.conf)");
    let other = good().file("etc/yum.conf", "[main]\nplugins=0\n").file("etc/yum/yum.conf", "[main]\nplugins=1\n");
    assert!(!other.run(&["doctor"]).stdout.contains("failed: hook-yum"));
    expect(&without(good(), "usr/lib/yum-plugins/post-transaction-actions.py"), "hook-yum", "failed", "missing");
    let conf = "etc/yum/pluginconf.d/post-transaction-actions.conf";
    expect(&good().file(conf, "[main]\nenabled=0\n"), "hook-yum", "failed", "does not enable");
    let action = "etc/yum/post-actions/vfguard.action";
    expect(&without(good(), action), "hook-yum", "failed", "there is no vfguard*.action");
    for bad in [
        "kernel:update:vfguard reconcile",
        "kernel*:install:vfguard reconcile --from yum:x",
        "k:install:vfguard reconcile $name",
    ] {
        expect(&good().file(action, bad), "hook-yum", "failed", "yum wants");
    }
    expect(&good().file(action, "#kernel*:install:vfguard reconcile\n"), "hook-yum", "failed", "does not call");
    // Unreadable even for root: a directory replaces the package's file.
    let machine = without(good(), action);
    fs::create_dir(machine.path(action)).unwrap();
    expect(&machine, "hook-yum", "failed", "cannot be read");
}

#[test]
fn dnf_4s_hook_is_optional_so_its_problems_are_warnings() {
    expect(&good().file("etc/dnf/dnf.conf", "[main]\nplugins=0\n"), "hook-dnf", "warning", "no plugins");
    let plugin = "usr/lib/python3.9/site-packages/dnf-plugins/post-transaction-actions.py";
    let machine = good().file("usr/lib/python3.9/site-packages/dnf-plugins/copr.py", "");
    expect(&without(machine, plugin), "hook-dnf", "warning", "not installed");
    expect(&good().file(plugin, "libdnf.conf.ConfigParser.substitute(x)"), "hook-dnf", "warning", "runs no action");
    let conf = "etc/dnf/plugins/post-transaction-actions.conf";
    expect(&good().file(conf, "[main]\nenabled = 0\n"), "hook-dnf", "warning", "switches the plugin off");
    expect(
        &without(good(), "etc/dnf/plugins/post-transaction-actions.d/vfguard.action"),
        "hook-dnf",
        "warning",
        "there is no",
    );
}

#[test]
fn dnf_5s_hook_is_optional_too() {
    expect(&without(good(), "usr/lib64/libdnf5/plugins/actions.so"), "hook-dnf5", "warning", "not installed");
    let conf = "etc/dnf/libdnf5-plugins/actions.conf";
    expect(&good().file(conf, "[main]\nenabled = 0\n"), "hook-dnf5", "warning", "switches the plugin off");
    let actions = "etc/dnf/libdnf5-plugins/actions.d/vfguard.actions";
    expect(&without(good(), actions), "hook-dnf5", "warning", "there is no");
    expect(&good().file(actions, "pre_transaction:::: vfguard reconcile\n"), "hook-dnf5", "warning", "dnf5 wants");
}

#[test]
fn the_trigger_must_be_in_rpms_database_and_not_disabled() {
    expect(&good().file("var/lib/rpm/rpmdb.sqlite", "nothing"), "hook-rpm-trigger", "failed", "no file trigger");
    let conf = "[main]\ntsflags=nodocs noscripts\n";
    expect(&good().file("etc/dnf/dnf.conf", conf), "hook-rpm-trigger", "failed", "tsflags");
}

#[test]
fn scripts_must_exist_and_be_executable() {
    for (name, path) in [
        ("hook-kernel-install", "usr/lib/kernel/install.d/45-vfguard.install"),
        ("hook-postinst", "etc/kernel/postinst.d/zzz-vfguard"),
    ] {
        expect(&without(good(), path), name, "failed", "there is no");
        let machine = good();
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o644)).unwrap();
        expect(&machine, name, "failed", "cannot be run");
    }
    expect(&Machine::new().kernel(K), "hooks", "failed", "no package manager");
}

#[test]
fn units_must_exist_and_be_enabled() {
    expect(&without(good(), "usr/lib/systemd/system/vfguard-headers.service"), "units", "failed", "vfguard-headers.service");
    expect(
        &without(good(), "etc/systemd/system/timers.target.wants/vfguard.timer"),
        "unit-enabled",
        "failed",
        "not enabled",
    );
    let machine = good();
    symlink("/dev/null", machine.path("etc/systemd/system/vfguard-watch.path")).unwrap();
    expect(&machine, "unit-enabled", "failed", "vfguard-watch.path is masked");
}
