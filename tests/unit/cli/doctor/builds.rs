//! What a build needs: headers, source, recipes, compiler, sandbox.

use super::*;

#[test]
fn a_device_with_an_in_tree_driver_needs_no_headers_unless_the_settings_do() {
    let ena = "pci:v00001D0Fd0000EC20sv00000000sd00000000bc02sc00i00";
    let machine = || good().device("0000:00:05.0", ena, Some("ena"));
    expect(&machine().file("sys/module/ena/taint", "\n"), "headers", "ok", "no driver needs to be built here");
    expect(&machine().file("sys/module/ena/taint", "OE\n"), "headers", "failed", K);
    let required =
        machine().file("sys/module/ena/taint", "\n").file("etc/vfguard/config.toml", "[drivers]\nrequired = ['ena']\n");
    expect(&required, "headers", "failed", K);
}

#[test]
fn headers_of_a_kernel_that_may_start_must_be_installed() {
    let machine = good().vf("ixgbevf");
    expect(&machine, "headers", "failed", K);
    // For another kernel it is a warning.
    expect(&good().vf("ixgbevf").kernel("5.14.0-0.el9.x86_64"), "headers", "warning", "5.14.0-0");
    let tree = format!("usr/src/kernels/{K}");
    let machine = machine.file(&format!("{tree}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{K}\"\n"));
    let machine = machine.file(&format!("{tree}/include/linux/module.h"), "").file(&format!("{tree}/Makefile"), "");
    expect(&machine.file(&format!("{tree}/Module.symvers"), "x"), "headers", "ok", K);
}

#[test]
fn a_source_is_looked_up_and_below_another_root_no_server_is_asked() {
    let release = |url: &str| {
        let digest = "a".repeat(64);
        good().vf("ixgbevf").recipe(&format!("[[releases]]\nversion = '1'\nurls = ['{url}']\nsha256 = '{digest}'\n"))
    };
    let machine = release("file:///srv/ixgbevf-1.tar.gz");
    expect(&machine, "source", "warning", "ixgbevf-1.tar.gz");
    expect(&machine.file("srv/ixgbevf-1.tar.gz", "x"), "source", "ok", "file:///srv/ixgbevf-1.tar.gz");
    // 192.0.2.0/24 is reserved for documentation and unused; asking it would take longer than this test may.
    let start = std::time::Instant::now();
    expect(&release("https://192.0.2.1/ixgbevf-1.tar.gz"), "source", "warning", "not asked");
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn broken_settings_and_recipes_are_named_and_the_other_checks_still_run() {
    expect(&good().file("etc/vfguard/config.toml", "mode = 3\n"), "settings", "failed", "config.toml");
    let machine = good().file("etc/vfguard/drivers.d/ixgbevf.toml", "name = 'ixgbevf'\n");
    expect(&machine, "recipes", "failed", "ixgbevf.toml");
    expect(&machine, "boot-default", "ok", "");
}

#[test]
fn the_user_of_a_build_is_reported() {
    let machine = good();
    for (setpriv, status) in
        [("setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin", "warning: sandbox: "), ("", "ok: sandbox: ")]
    {
        let text = in_namespace(&machine, &format!("exec {setpriv} \"$0\" --root \"$R\" doctor"));
        assert!(text.contains(status), "{setpriv}: {text}");
    }
}

#[test]
fn a_missing_compiler_is_reported() {
    // The directories where programs are searched are empty.
    let script = "for d in /usr/local/sbin /usr/local/bin /usr/sbin /sbin; do [ -L $d ] || mount -t tmpfs t $d; done; \
                  cp \"$0\" \"$R/vfguard\"; \
                  mount -t tmpfs t /usr/bin; exec \"$R/vfguard\" --root \"$R\" doctor";
    let machine = good();
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .env("R", machine.root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("failed: compiler: not installed: make, gcc"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
