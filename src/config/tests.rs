use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let host = Host::new(dir.path()).unwrap();
    (dir, host)
}

#[test]
fn nothing_on_disk_means_defaults() {
    let (_dir, host) = host(&[]);
    assert_eq!(Config::load(&host, None).unwrap(), Config::default());
}

#[test]
fn later_fragments_win_key_by_key() {
    let (_dir, host) = host(&[
        ("etc/vfguard/config.toml", "mode = 'observe'\n[fetch]\nattempts = 5\ntimeout = 7\n"),
        ("etc/vfguard/config.d/20-b.toml", "[fetch]\nattempts = 2\n"),
        ("etc/vfguard/config.d/10-a.toml", "mode = 'enforce'\n[fetch]\nattempts = 9\n"),
        ("etc/vfguard/config.d/README", "not read"),
    ]);
    let config = Config::load(&host, None).unwrap();
    assert_eq!((config.mode, config.fetch.attempts, config.fetch.timeout), (Mode::Enforce, 2, 7));
}

#[test]
fn mistakes_name_the_file_and_what_is_wrong() {
    for (text, word) in [
        ("mod = 'observe'", "mod"),
        ("[gate]\npoweroff = 'yes'", "poweroff"),
        ("mode = ", "config.toml"),
        ("[build]\njobs = 0", "build.jobs"),
        ("[sign]\nkey = '/k'", "sign"),
        ("accept_in_tree = 'fall-back'", "expected one of `auto`, `always`, `never`, `fallback`"),
    ] {
        let (_dir, host) = host(&[("etc/vfguard/config.toml", text)]);
        let error = Config::load(&host, None).unwrap_err();
        assert!(format!("{error:#}").contains(word), "{error:#}");
        assert!(crate::error::remedy(&error).is_some());
    }
}

#[test]
fn a_file_that_a_group_may_replace_is_refused_unless_it_is_the_callers_own_group() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o775)).unwrap();
    assert!(trust::read_text(&path, &path).is_ok());
    if nix::unistd::geteuid().is_root() {
        nix::unistd::chown(dir.path(), None, Some(nix::unistd::Gid::from_raw(65534))).unwrap();
        assert!(trust::read_text(&path, &path).is_err());
    }
}

#[test]
fn a_file_that_others_may_replace_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (mode, trusted) in [(0o755, true), (0o777, false), (0o757, false), (0o1777, true), (0o700, true)] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let read = trust::read_text(&path, Path::new("/etc/vfguard/config.toml"));
        assert_eq!(read.is_ok(), trusted, "{mode:o}");
        if let Err(error) = read {
            let remedy = crate::error::remedy(&error).unwrap();
            assert!(
                format!("{error:#}").contains("replaced by others") && remedy.contains("chmod go-w /etc/vfguard"),
                "{error:#}"
            );
        }
    }
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let (dir, host) = host(&[("etc/vfguard/config.toml", "mode = 'observe'")]);
    fs::set_permissions(dir.path().join("etc/vfguard/config.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let error = Config::load(&host, None).unwrap_err();
    assert!(format!("{error:#}").contains("written by others"), "{error:#}");
}

#[test]
fn a_dangling_link_is_an_error_and_not_a_default() {
    let (dir, host) = host(&[]);
    fs::create_dir_all(dir.path().join("etc/vfguard")).unwrap();
    std::os::unix::fs::symlink("gone.toml", dir.path().join("etc/vfguard/config.toml")).unwrap();
    assert!(Config::load(&host, None).is_err());
}

#[test]
fn every_number_has_a_range_and_what_is_out_of_it_is_refused_with_its_key_the_range_and_a_remedy() {
    let file = include_str!("../../packaging/config.toml").replace("\n# ", " ");
    let man = include_str!("../../packaging/man/chapters.roff").replace("\\-", "-");
    for (key, range) in numbers::ALL {
        let (section, name) = key.split_once('.').unwrap();
        let (least, most) = (*range.start(), *range.end());
        let load = |value: &str| {
            let (_dir, host) = host(&[("etc/vfguard/config.toml", &format!("[{section}]\n{name} = {value}\n"))]);
            Config::load(&host, None)
        };
        for value in [least, least + 1, most - 1, most] {
            load(&value.to_string()).unwrap_or_else(|e| panic!("{key} = {value}: {e:#}"));
        }
        let mut wrong: Vec<String> = [most + 1, u64::from(u32::MAX) + 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX]
            .map(|n| n.to_string())
            .into();
        wrong.extend((least > 0).then(|| "0".to_owned()));
        wrong.extend(
            ["-1", "-9223372036854775808", "1.0", "1e3", "inf", "nan", "true", "'10'", "'10s'", "[1]", "{ a = 1 }"]
                .map(Into::into),
        );
        wrong.extend([u64::MAX.to_string() + "0", u128::MAX.to_string(), u128::MAX.to_string() + "0"]);
        for value in wrong {
            let error = load(&value).err().unwrap_or_else(|| panic!("{key} = {value} is taken"));
            let (text, remedy) = (format!("{error:#}"), crate::error::remedy(&error).unwrap_or_default());
            assert!(text.contains("/etc/vfguard/config.toml") && text.contains(name), "{key} = {value}: {text}");
            // Longer numbers fit into no integer type, so the TOML parser refuses them.
            if value.len() <= 39 {
                assert!(
                    text.contains(&format!("{key} to be a whole number from {least} to {most}")),
                    "{key} = {value}: {text}"
                );
            }
            assert!(remedy.contains("mend /etc/vfguard/config.toml"), "{key}: {remedy}");
        }
        assert!(
            file.contains(&format!("{key} {least} to {most}")),
            "config.toml does not say that {key} is from {least} to {most}"
        );
        assert!(man.contains(&format!("{least} to {most}")), "the manual does not say that {key} is from {least} to {most}");
    }
}

#[test]
fn every_numeric_setting_has_a_range() {
    let source = include_str!("mod.rs");
    let lines: Vec<&str> = source.lines().collect();
    let numbers: Vec<usize> = (0..lines.len())
        .filter(|n| {
            lines[*n].starts_with("    pub ")
                && ["u8", "u16", "u32", "u64", "usize", "i64", "f64", "Duration"]
                    .iter()
                    .any(|t| lines[*n].ends_with(&format!(": {t},")) || lines[*n].ends_with(&format!("<{t}>,")))
        })
        .collect();
    assert_eq!(numbers.len(), numbers::ALL.len());
    for n in numbers {
        assert!(lines[n - 1].contains("deserialize_with = \"numbers::"), "{}", lines[n]);
    }
}

#[test]
fn the_largest_numbers_overflow_nothing_that_is_computed_from_them() {
    for (_, range) in numbers::ALL {
        assert!(std::time::Instant::now().checked_add(Duration::from_secs(*range.end())).is_some());
    }
    let hook = Hook { lock_timeout: 10800, ..Hook::default() };
    assert_eq!(hook.patience(), Duration::from_secs(10800));
}

#[test]
fn more_fragments_or_recipes_than_any_machine_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    for (place, load) in [
        (FRAGMENTS, &(|| Config::load(&host, None).map(drop)) as &dyn Fn() -> Result<()>),
        ("/etc/vfguard/drivers.d", &|| crate::driver::recipe::recipes(&host).map(drop)),
    ] {
        for i in 0..MAX_FILES {
            let text = include_str!("../../packaging/drivers.d/igbvf.toml")
                .replace("name = \"igbvf\"", &format!("name = \"a{i}\""));
            host.write_atomic(format!("{place}/{i}.toml"), if place == FRAGMENTS { b"" } else { text.as_bytes() }, 0o644)
                .unwrap();
        }
        load().unwrap();
        host.write_atomic(format!("{place}/more.toml"), b"", 0o644).unwrap();
        let told = format!("{:#}", load().unwrap_err());
        assert!(told.contains(&format!("{place} holds {} files", MAX_FILES + 1)), "{told}");
    }
}
