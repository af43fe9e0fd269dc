//! `--source`: an archive that a person names, in each supported packing, is built as the recipe builds the release that it contains.

use crate::machine::lab::Lab;
use crate::machine::{Machine, Run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel and a recipe with one release, 1.0.0, that needs a variable. Its archive exists only where the test puts it.
struct Stage {
    lab: Lab,
    machine: Machine,
    kernel: String,
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-euc", script]).status().unwrap().success(), "{script}");
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().grub(), &kernel).offline();
        Stage { lab, machine, kernel }.recipe(&"0".repeat(64), "make = ['CONFIG_DEMO=m']")
    }

    fn recipe(mut self, pin: &str, make: &str) -> Stage {
        let recipe = format!(
            "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n\
             [[releases]]\nversion = '1.0.0'\nurls = ['file:///nowhere.tar.gz']\nsha256 = '{pin}'\n{make}\n"
        );
        self.machine = self.machine.file("etc/vfguard/drivers.d/demo.toml", &recipe);
        self
    }

    /// The lab's driver in a top directory with this name, with a makefile that stops without the variable, packed by a shell command that
    /// reads a tar.
    fn archive(&self, top: &str, packer: &str, name: &str) -> PathBuf {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (self.lab.file("DEMO"), self.machine.path(name));
        sh(&format!(
            "cd {0}; tar -xzf {1}; mv demo-* {top}; \
             printf 'ifneq ($(CONFIG_DEMO),m)\\n$(error CONFIG_DEMO is not m)\\nendif\\nobj-$(CONFIG_DEMO) := demo.o\\n' >{top}/src/Kbuild; \
             tar -cf tar {top}; {packer} <tar >{2}",
            dir.path().display(),
            from.display(),
            to.display()
        ));
        to
    }

    fn prepare(&self, archive: &Path) -> Run {
        let digest = vfguard::driver::Digest::of(fs::File::open(archive).unwrap()).unwrap().to_string();
        let archive = archive.to_str().unwrap();
        self.machine.run(&["prepare", &self.kernel, "--driver", "demo", "--source", archive, "--sha256", &digest])
    }

    /// The version in the record, if one was built.
    fn built(&self) -> Option<String> {
        let record = self.machine.path(&format!("var/lib/vfguard/records/{}.json", self.kernel));
        let record: serde_json::Value = serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap();
        record["drivers"]["demo"]["version"].as_str().map(str::to_owned)
    }
}

#[test]
fn an_archive_in_each_packing_gets_the_variables_of_the_release_that_its_top_directory_names() {
    let stage = Stage::new();
    for (packer, name) in [("xz -c", "demo.tar.xz"), ("cat", "demo.tar"), ("gzip -c", "demo.any-name")] {
        let run = stage.prepare(&stage.archive("ethernet-linux-demo-1.0.0", packer, name));
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("demo 1.0.0") || run.stdout.contains("demo 1.0.0"), "{}{}", run.stdout, run.stderr);
        assert_eq!(stage.built().as_deref(), Some("1.0.0"), "{name}");
    }
}

#[test]
fn a_release_with_the_archives_digest_counts_before_any_name() {
    let stage = Stage::new();
    let archive = stage.archive("snapshot", "xz -c", "demo.tar.xz");
    let run = stage.prepare(&archive);
    assert!(run.code != 0 && run.stderr.contains("CONFIG_DEMO is not m"), "unpinned: {}{}", run.stdout, run.stderr);
    let pin = vfguard::driver::Digest::of(fs::File::open(&archive).unwrap()).unwrap().to_string();
    let stage = stage.recipe(&pin, "make = ['CONFIG_DEMO=m']");
    let run = stage.prepare(&archive);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(stage.built().as_deref(), Some("1.0.0"));
}

#[test]
fn without_the_variables_or_for_another_version_the_same_makefile_stops() {
    for (top, make) in [("ethernet-linux-demo-1.0.0", ""), ("demo-2.0.0", "make = ['CONFIG_DEMO=m']")] {
        let stage = Stage::new().recipe(&"0".repeat(64), make);
        let run = stage.prepare(&stage.archive(top, "gzip -c", "demo.tar.gz"));
        assert!(run.code != 0 && run.stderr.contains("CONFIG_DEMO is not m"), "{top}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn an_unsupported_packing_is_named_before_the_build() {
    let stage = Stage::new();
    let run = stage.prepare(&stage.archive("demo-1.0.0", "bzip2 -c", "demo.tar.gz"));
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr.contains("it is packed with bzip2") && run.stderr.contains("pack it again: `bzip2 -dc"),
        "{}",
        run.stderr
    );
    assert!(!stage.machine.path("var/lib/vfguard/log").exists(), "a build was begun");
}
