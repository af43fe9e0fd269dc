//! Small files that need much memory when read: the real binary reads each with little memory. A run that needs more is killed by the
//! allocator, and gives no answer.
#![allow(missing_docs)]

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;
use std::io::Write;
use std::process::Command;

const K: &str = "6.1.0-56-amd64";

/// A run that is limited to this address space and a minute of processor time.
fn within(mebibytes: u32, machine: &Machine, args: &[&str]) -> Run {
    let plain = machine.command(args);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -t 60 && ulimit -v \"$0\" && exec \"$@\"", &(mebibytes << 10).to_string()]);
    limited.arg(plain.get_program()).args(plain.get_args());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.output().unwrap().into()
}

/// A variable of 64 KiB, `x`.
fn large() -> String {
    format!("set x=0123456789abcdef\n{}", "set x=\"$x$x\"\n".repeat(12))
}

fn grub_cfg(script: &str) -> Machine {
    let machine = Machine::new().grub().kernel(K).vf("ixgbevf").running(K);
    machine.file("boot/grub2/grub.cfg", script)
}

fn numbered(n: usize, line: impl Fn(usize) -> String) -> String {
    (0..n).map(line).collect()
}

/// If reading takes too much, nothing is certain, and the message says why.
#[test]
fn a_grub_cfg_that_needs_much_memory_leaves_the_next_boot_uncertain() {
    let entry = format!("menuentry a {{ linux /vmlinuz-{K}\n}}\n");
    let nested = format!("{}{entry}{}", numbered(50, |i| format!("submenu s{i} {{\n")), "}\n".repeat(50));
    let options = format!("title a\nlinux /vmlinuz-{K}\noptions {}\n", "$x".repeat(100_000));
    let early = format!("title a\nlinux /{}/vmlinuz-{K}\n", "d".repeat(60_000));
    for (what, script, bls) in [
        ("many values", large() + &numbered(22_000, |i| format!("set a{i}=\"$x\"\n")) + &entry, ""),
        ("one command with many values", large() + "echo " + &"$x ".repeat(30_000) + "\n" + &entry, ""),
        ("a loop over many values", large() + "for y in " + &"$x ".repeat(30_000) + "; do true; done\n" + &entry, ""),
        ("titles", large() + &numbered(22_000, |i| format!("menuentry \"t${{x}}{i}\" {{ true; }}\n")) + &entry, ""),
        ("contexts", large() + &numbered(600, |i| format!("set a{i}=\"$x\"; export a{i}\n")) + &nested, ""),
        ("functions", large() + "function f { f \"$@\" \"$x\" \"$@\"; }\nf $x\n" + &entry, ""),
        ("many commands", "a;".repeat(1_200_000) + "\n" + &entry, ""),
        ("one command with many words", "echo ".to_owned() + &"a ".repeat(1_500_000) + "\n" + &entry, ""),
        ("a file that is read again and again", "blscfg\n".repeat(100_000) + &entry, "title a\nlinux /a\n"),
        ("options", large() + "blscfg\n", &options),
        ("early ramdisks", "set early_initrd=\"".to_owned() + &"a ".repeat(30_000) + "\"\nblscfg\n", &early),
    ] {
        let machine = grub_cfg(&script);
        if !bls.is_empty() {
            fs::create_dir_all(machine.path("boot/loader/entries")).unwrap();
            fs::write(machine.path(&format!("boot/loader/entries/{}-{K}.conf", machine::MACHINE_ID)), bls).unwrap();
        }
        let run = within(400, &machine, &["--format", "json", "next-boot"]);
        assert_eq!(run.code, 1, "{what}: {}", run.stderr);
        let (next, problems) = (run.json(), run.stdout);
        assert_eq!(next["certain"], false, "{what}: {next}");
        assert!(problems.contains("takes more than") || problems.contains("grow without end"), "{what}: {problems}");
    }
}

/// An archive that may be compressed while it is made.
struct Image<W>(W);

/// A compressed archive.
fn packed() -> Image<zstd::Encoder<'static, Vec<u8>>> {
    Image(zstd::Encoder::new(Vec::new(), 1).unwrap())
}

impl<W: Write> Image<W> {
    fn entry(&mut self, name: &str, mode: usize, content: &[&[u8]]) {
        let size: usize = content.iter().map(|part| part.len()).sum();
        let mut fields = [0; 13];
        (fields[1], fields[6], fields[11]) = (mode, size, name.len() + 1);
        let mut head = "070701".to_owned();
        fields.iter().for_each(|field| head.push_str(&format!("{field:08X}")));
        head.push_str(name);
        let end = (head.len() + 1).next_multiple_of(4) - head.len();
        head.extend(std::iter::repeat_n('\0', end));
        self.0.write_all(head.as_bytes()).unwrap();
        content.iter().for_each(|part| self.0.write_all(part).unwrap());
        self.0.write_all(&[0; 3][..size.next_multiple_of(4) - size]).unwrap();
    }

    fn file(mut self, name: &str, content: &[&[u8]]) -> Self {
        for (end, _) in name.match_indices('/') {
            self.entry(&name[..end], 0o040_755, &[]);
        }
        self.entry(name, 0o100_644, content);
        self
    }

    fn end(mut self) -> W {
        self.entry("TRAILER!!!", 0, &[]);
        self.0
    }
}

fn with_initramfs(image: &[u8]) -> Machine {
    let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).vf("ixgbevf").running("6.1.0-55-amd64");
    let machine = machine.file(&format!("lib/modules/{K}/updates/ixgbevf.ko"), "new");
    let machine = machine.file(&format!("lib/modules/{K}/modules.dep"), "updates/ixgbevf.ko:\n");
    fs::write(machine.path(&format!("boot/initrd.img-{K}")), image).unwrap();
    machine
}

fn stale(run: &Run) -> Option<String> {
    let value = run.json();
    let all = value["kernels"][0]["findings"].as_array().unwrap_or_else(|| panic!("{value}"));
    let found = all.iter().find(|f| f["code"] == "initramfs-stale" && f["severity"] == "unsafe")?;
    Some(found["detail"].as_str().unwrap().to_owned())
}

#[test]
fn an_initramfs_that_needs_much_memory_is_refused() {
    let piece = vec![b'x'; 8 << 20];
    let large: Vec<&[u8]> = vec![&piece; 25];
    let lines = "install a\n".repeat(1 << 20).into_bytes();
    let mut many = packed();
    (0..500_001).for_each(|i| many.entry(&format!("{i:x}"), 0o100_644, &[]));
    let kept = (0..4).fold(packed(), |image, i| image.file(&format!("etc/{i}.conf"), &large));
    let driver = |i| format!("lib/modules/{K}/{i}/ixgbevf.ko");
    let modules = (0..4).fold(packed(), |image, i| image.file(&driver(i), &large));
    let settings = (0..3).fold(packed(), |image, i| image.file(&format!("etc/modprobe.d/{i}.conf"), &[&lines]));
    for (what, image, why) in [
        ("entries", many, "too many entries"),
        ("texts", kept, "more than 32 MiB"),
        ("modules", modules, "more than 256 MiB"),
        ("settings", settings, "more than 16 MiB"),
    ] {
        let image = image.end().finish().unwrap();
        assert!(image.len() < 5 << 20, "{what}: {} bytes", image.len());
        let run = within(500, &with_initramfs(&image), &["--format", "json", "check", K]);
        assert!(matches!(run.code, 2 | 3), "{what}: {} {}", run.code, run.stderr);
        let said = stale(&run).unwrap_or_else(|| panic!("{what}: {}", run.stdout));
        assert!(said.contains(why), "{what}: {said}");
    }
}

/// As large as a generic initramfs with much firmware: 120 MB, 3,000 entries.
#[test]
fn a_large_honest_initramfs_is_read() {
    let mut noise = vec![0; 40 << 10];
    let mut state = 1u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let mut image = Image(Vec::new());
    ["usr", "usr/lib", "usr/lib/firmware"].iter().for_each(|dir| image.entry(dir, 0o040_755, &[]));
    (0..3000).for_each(|i| image.entry(&format!("usr/lib/firmware/{i}.bin"), 0o100_644, &[&noise]));
    let image = image.file(&format!("usr/lib/modules/{K}/updates/ixgbevf.ko"), &[b"new"]).end();
    assert!(image.len() > 120_000_000, "{}", image.len());
    let run = within(500, &with_initramfs(&image), &["--format", "json", "check", K]);
    assert_eq!(stale(&run), None);
}

/// A minimal module with other contents in some sections, by their numbers.
fn module_with(contents: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut file = machine::ko::module("ixgbevf", &[("license", "GPL")]);
    let word = |file: &[u8], at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    for (section, content) in contents {
        let header = word(&file, 40) + 64 * section;
        let (at, size) = (word(&file, header + 24), word(&file, header + 32));
        let whole = [&file[at..at + size], content].concat();
        let start = file.len() as u64;
        file[header + 24..header + 32].copy_from_slice(&start.to_le_bytes());
        file[header + 32..header + 40].copy_from_slice(&(whole.len() as u64).to_le_bytes());
        file.extend(whole);
    }
    file
}

/// A module that a hostile source may build: all symbols share the bytes of one name.
#[test]
fn a_module_that_needs_much_memory_is_refused() {
    const SYMBOLS: usize = 2;
    const NAMES: usize = 3;
    const MODINFO: usize = 4;
    let named = |length: usize, kind: u8, n: usize| {
        let mut symbol = [0; 24];
        symbol[0] = 13;
        symbol[4] = kind;
        let name = [vec![b'a'; length], vec![0]].concat();
        module_with(&[(SYMBOLS, symbol.repeat(n)), (NAMES, name)])
    };
    for (what, module, why) in [
        ("names", named(1 << 20, 0x10, 200_000), "too long"),
        ("imports", named(4000, 0x10, 500_000), "more than 20000 imports"),
        ("symbols", named(10, 0x10, 1_500_000), "1500002 symbols"),
        (".modinfo", module_with(&[(MODINFO, b"alias=a\0".repeat(12 << 20))]), ".modinfo takes"),
        ("aliases", module_with(&[(MODINFO, b"alias=a\0".repeat(30_000))]), "more than 20000 aliases"),
        ("softdeps", module_with(&[(MODINFO, b"softdep=pre: a b c d e f g\0".repeat(100))]), "too many softdeps"),
    ] {
        let machine = Machine::new().kernel(K);
        let path = machine.path("ixgbevf.ko");
        fs::write(&path, zstd::encode_all(&module[..], 1).unwrap()).unwrap();
        let run = within(500, &machine, &["--format", "json", "verify", path.to_str().unwrap(), "--kernel", K]);
        assert_eq!(run.code, 3, "{what}: {}", run.stderr);
        assert!(run.stdout.contains("not-elf") && run.stdout.contains(why), "{what}: {}", run.stdout);
    }
}

/// depmod tables that modprobe could not read to the end either: in one each of 255 branches leads back to the beginning; in the other two
/// branches lead to one node, thirty times, and each node has a value and a slow pattern.
#[test]
fn an_endless_depmod_table_takes_little_memory_and_time() {
    const PREFIX: u32 = 0x8000_0000;
    const VALUES: u32 = 0x4000_0000;
    const CHILDREN: u32 = 0x2000_0000;
    let head = |root: u32| [0xB007_F457, 0x0002_0001, root].map(u32::to_be_bytes).concat();
    let root = PREFIX | CHILDREN | 12;
    let circle = [&head(root)[..], b"*\0\x01\xff", &root.to_be_bytes().repeat(255)].concat();
    let mut braid = head(0);
    let mut next = 0u32;
    for level in 0..30 {
        let children = if level > 0 { CHILDREN } else { 0 };
        let node = PREFIX | VALUES | children | u32::try_from(braid.len()).unwrap();
        braid.extend([&b"*["[..], &[b'a'; 130], b"\0"].concat());
        if level > 0 {
            braid.extend([&b"ab"[..], &next.to_be_bytes().repeat(2)].concat());
        }
        braid.extend(b"\0\0\0\x01\0\0\0\x01x\0");
        next = node;
    }
    braid[8..12].copy_from_slice(&next.to_be_bytes());
    for (what, table) in [("circle", circle), ("braid", braid)] {
        let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).vf("ixgbevf").running("6.1.0-55-amd64");
        fs::write(machine.path(&format!("lib/modules/{K}/modules.alias.bin")), table).unwrap();
        let run = within(300, &machine, &["--format", "json", "check", K]);
        assert_eq!(run.code, 3, "{what}: {}", run.stderr);
        assert_eq!(run.json()["kernels"][0]["verdict"], "unsafe", "{what}: {}", run.stdout);
    }
}

/// Entries are read completely up to a total size that real boot entries have.
#[test]
fn boot_entries_that_need_much_memory_leave_the_next_boot_uncertain() {
    for loader in ["grub2", "systemd-boot"] {
        let machine = Machine::new().kernel(K).vf("ixgbevf").running(K);
        let machine = match loader {
            "grub2" => machine.grub(),
            _ => machine.file("boot/loader/loader.conf", "default *\n"),
        };
        let options =
            if loader == "grub2" { "options x\n".repeat(90_000) } else { format!("options {}\n", "x".repeat(900_000)) };
        let entry = format!("title a\nversion 1\nlinux /vmlinuz-{K}\n{options}");
        for i in 0..120 {
            fs::create_dir_all(machine.path("boot/loader/entries")).unwrap();
            fs::write(machine.path(&format!("boot/loader/entries/{i}.conf")), &entry).unwrap();
        }
        let run = within(300, &machine, &["--format", "json", "next-boot"]);
        assert_eq!(run.code, 1, "{loader}: {}", run.stderr);
        assert!(run.stdout.contains("more than"), "{loader}: {}", run.stdout);
        assert_eq!(
            (&run.json()["certain"], &run.json()["source"]),
            (&false.into(), &if loader == "grub2" { "bls" } else { loader }.into())
        );
    }
}
