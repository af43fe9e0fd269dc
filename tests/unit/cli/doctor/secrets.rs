//! Passwords in URLs of the settings.

use super::machine::Machine;
use super::{expect, good};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_password_in_a_url_in_a_world_readable_file_is_a_warning() {
    let secret = "[fetch]\nmirrors = [\"https://ops:s3cret@mirror.example/drivers/\"]\n";
    let mode = |machine: &Machine, path: &str, mode: u32| {
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["etc/vfguard/config.toml", "etc/vfguard/config.d/50-mirror.toml"] {
        let machine = good().file(path, secret);
        mode(&machine, path, 0o644);
        expect(&machine, "secrets", "warning", path);
        let text = machine.run(&["doctor"]).stdout;
        assert!(text.contains(&format!("chmod 0640 /{path}")) && !text.contains("s3cret"), "{text}");
        mode(&machine, path, 0o640);
        expect(&machine, "secrets", "ok", "no URL");
        // The directory keeps others out.
        mode(&machine, path, 0o644);
        mode(&machine, "etc/vfguard", 0o750);
        expect(&machine, "secrets", "ok", "no URL");
    }
    let machine = good().file("etc/vfguard/config.toml", "[fetch]\nmirrors = [\"https://mirror.example/drivers/\"]\n");
    mode(&machine, "etc/vfguard/config.toml", 0o644);
    expect(&machine, "secrets", "ok", "no URL");
}
