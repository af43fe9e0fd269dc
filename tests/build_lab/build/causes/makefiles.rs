//! Makefiles that want a setting or a directory: the line that is named mends it.

use super::*;
use std::path::Path;

#[test]
fn a_setting_that_the_makefile_needs_and_the_kernel_lacks_is_named_and_the_next_release_is_tried() {
    // As Intel's 3.2.2 requires the setting of the physical driver.
    let lab = Lab::open();
    let mut stage = Stage::new("K_NEW");
    let kbuild = "obj-$(CONFIG_OWN_SWITCH) += ixgbevf.o\nixgbevf-objs := vf.o mbx.o ethtool.o ixgbevf_main.o ipsec.o\n";
    let (first, second) = (stage.machine.path("first.tar.gz"), stage.machine.path("second.tar.gz"));
    let digest = with_file(&lab.file("IXGBEVF_61"), "Kbuild", kbuild, &first);
    fs::copy(lab.file("IXGBEVF_61"), second).unwrap();
    let recipe = |make: &str, more: &str| {
        format!(
            "name = 'ixgbevf'\ndevices = ['pci:v00008086d000010EDsv*sd*bc*sc*i*']\n{make}[[releases]]\nversion = '1'\n\
             urls = ['file:///first.tar.gz']\nsha256 = '{digest}'\n{more}"
        )
    };
    let own = "etc/vfguard/drivers.d/ixgbevf.toml";
    stage.machine = stage.machine.file(own, &recipe("", "")).vf("ixgbevf");
    let command = ["prepare", &stage.kernel, "--driver", "ixgbevf"];
    assert_eq!(stage.machine.run(&command).code, 1);
    let (detail, remedy) = stage.told();
    println!("{detail}\n  {remedy}");
    assert!(detail.contains("make ended well and built no module: ixgbevf.ko is not there"), "{detail}");
    assert!(detail.contains("asks for CONFIG_OWN_SWITCH=m, which this kernel does not have"), "{detail}");
    let line = "make = [\"BUILD_KERNEL={kernel}\", \"KSRC={source}\", \"KOBJ={build}\", \"CONFIG_OWN_SWITCH=m\"]\n";
    assert!(remedy.contains(line.trim_end()), "{remedy}");
    // Another attempt would fail in the same way.
    assert!(stage.record()["drivers"]["ixgbevf"]["inputs"].is_string(), "{}", stage.record());
    // The reported remedy works.
    stage.machine = stage.machine.file(own, &recipe(line, ""));
    let run = stage.machine.run(&command);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    // Without it, the next release builds.
    let more = format!(
        "[[releases]]\nversion = '{}'\nurls = ['file:///second.tar.gz']\nsha256 = '{}'\nfallback = true\nkernels = {{ from = '9.0' }}\n",
        lab.get("IXGBEVF_61_VERSION"),
        lab.get("IXGBEVF_61_SHA256")
    );
    stage.machine = stage.machine.file(own, &recipe("", &more).replacen("sha256", "kernels = { below = '9.0' }\nsha256", 1));
    let run = stage.machine.run(&[&command[..], &["--rebuild"]].concat());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains(lab.get("IXGBEVF_61_VERSION")) || run.stderr.contains("trying the next release"),
        "{}",
        run.stderr
    );
}

/// Repacks a real driver's archive, with another content of a file in `src`. Returns its digest.
fn with_file(archive: &Path, file: &str, text: &str, to: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    assert!(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().unwrap().success());
    let top = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(top.join("src").join(file), text).unwrap();
    let name = top.file_name().unwrap().to_str().unwrap();
    let status = Command::new("tar").arg("-czf").arg(to).arg("-C").arg(dir.path()).arg(name).status().unwrap();
    assert!(status.success());
    vfguard::driver::Digest::of(fs::File::open(to).unwrap()).unwrap().to_string()
}

#[test]
fn a_makefile_that_knows_only_one_directory_is_reported_and_the_line_of_the_remedy_fixes_it() {
    let makefile = "default:\n\t$(MAKE) -C $(KSRC) M=$(CURDIR) modules\n";
    for (kernel, archive) in [("K_NEW", "IXGBEVF_61"), ("K_612", "IXGBEVF_612")] {
        let lab = Lab::open();
        let mut stage = Stage::new(kernel);
        let file = stage.machine.path("ixgbevf.tar.gz");
        let digest = with_file(&lab.file(archive), "Makefile", makefile, &file);
        // The recipe as a package installs it.
        let packaged = "usr/lib/vfguard/drivers.d/ixgbevf.toml";
        let recipe = format!(
            "name = 'ixgbevf'\ndevices = ['pci:v00008086d000010EDsv*sd*bc*sc*i*']\n[[releases]]\nversion = '1'\n\
             urls = ['file:///ixgbevf.tar.gz']\nsha256 = '{digest}'\n"
        );
        stage.machine = stage.machine.file(packaged, &recipe).vf("ixgbevf");
        let command = ["prepare", &stage.kernel, "--driver", "ixgbevf"];
        let run = stage.machine.run(&command);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        let (detail, remedy) = stage.told();
        println!("{kernel}: {detail}\n  {remedy}");
        assert!(detail.contains("this makefile ignores KOBJ") && !detail.contains("make oldconfig"), "{detail}");
        let line = "make = [\"BUILD_KERNEL={kernel}\", \"KSRC={build}\"]";
        assert!(remedy.contains(line) && run.stderr.contains(&remedy), "{remedy}{}", run.stderr);
        // Exactly as the remedy says: copy the file, add the line there, run the same command again.
        let (copy, _) = remedy.split_once(';').unwrap();
        let [cp, from, to] = copy.split(' ').collect::<Vec<_>>()[..] else { panic!("{copy}") };
        assert_eq!((cp, from), ("cp", format!("/{packaged}").as_str()));
        let own = to.trim_start_matches('/');
        assert!(remedy.contains("above its first [[releases]]") && remedy.ends_with("then the same command again"));
        let text = recipe.replacen("[[releases]]", &format!("{line}\n[[releases]]"), 1);
        stage.machine = stage.machine.file(own, &text);
        let run = stage.machine.run(&command);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let made = fs::read_dir(stage.machine.path(&format!("lib/modules/{}/updates/vfguard", stage.kernel))).unwrap();
        assert!(made.flatten().any(|e| e.file_name().to_string_lossy().starts_with("ixgbevf.ko")));
        // If the change is undone, the remedy names the file in /etc.
        stage.machine = stage.machine.file(own, &recipe);
        assert_eq!(stage.machine.run(&[&command[..], &["--rebuild"]].concat()).code, 1);
        assert!(stage.told().1.starts_with(&format!("write into {to}, above")), "{}", stage.told().1);
    }
}
