//! Causes that are not the source's: programs of the headers, pahole, libraries.

use super::*;

#[test]
fn headers_whose_programs_do_not_run_here_are_not_blamed_on_the_source() {
    let stage = Stage::new("K_NEW");
    for (what, script, words, shown, remedy) in [
        (
            "a newer C library",
            // The linker itself writes the version that the loader then does not find.
            "mkdir -p scripts/mod lib; echo 'void own(void) {}' >l.c; echo 'GLIBC_9.99 { own; };' >l.map\n\
             gcc -shared -fPIC -Wl,--version-script=l.map -Wl,-soname,libown.so -o lib/libown.so l.c\n\
             echo 'void own(void); int main(void) { own(); return 0; }' >m.c\n\
             gcc -Wl,-rpath,$PWD/lib -o scripts/mod/modpost m.c lib/libown.so; echo 'OTHER { own; };' >l.map\n\
             gcc -shared -fPIC -Wl,--version-script=l.map -Wl,-soname,libown.so -o lib/libown.so l.c; scripts/mod/modpost\n",
            "are made for another system and do not run here",
            "version `GLIBC_9.99' not found (required by scripts/mod/modpost)",
            "repository (they need GLIBC_9.99, which is not here)",
        ),
        (
            "another architecture",
            "mkdir -p scripts/basic; printf '\\177ELF\\2\\1\\1' >scripts/basic/fixdep; chmod +x scripts/basic/fixdep; scripts/basic/fixdep\n",
            "are made for another system and do not run here",
            "Exec format error",
            "linux-headers-6.1",
        ),
        (
            "a plugin of another gcc",
            "echo 'int plugin_is_GPL_compatible; int plugin_init(void *a, void *b) { return 1; }' >p.c\n\
             gcc -shared -fPIC -o p.so p.c; gcc -fplugin=$PWD/p.so -c p.c -o /dev/null && exit 0\n\
             gcc -fplugin=$PWD/gone.so -c p.c\n",
            "a compiler plugin of the kernel's own build does not go with this compiler",
            "the kernel was built with gcc-12 (Debian",
            "linux-headers-6.1",
        ),
    ] {
        let (detail, told) = stage.prepare(script, &[]);
        println!("{what}: {detail}\n  {told}");
        assert!(detail.contains(words) && detail.contains(shown), "{what}: {detail}");
        assert!(told.contains(remedy) && !told.contains("name a release"), "{what}: {told}");
    }
}

#[test]
fn a_failing_pahole_is_distinguished_from_a_source_that_does_not_fit() {
    let stage = Stage::new("K_612");
    // Headers that come with a vmlinux, as on EL, which pahole cannot read.
    let objects = stage.machine.path(&format!("usr/src/linux-headers-{}", stage.kernel));
    // Removed first: it is a hard link into the lab, which every other test builds against.
    fs::remove_file(objects.join("vmlinux")).unwrap();
    fs::write(objects.join("vmlinux"), "no ELF file").unwrap();
    let lab = Lab::open();
    let (file, digest) = (lab.file("IXGBEVF_612"), lab.get("IXGBEVF_612_SHA256"));
    let run = stage.machine.run(&["prepare", &stage.kernel, "--source", file.to_str().unwrap(), "--sha256", digest]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let (detail, remedy) = stage.told();
    println!("{detail}");
    assert!(detail.contains("pahole, which this kernel's headers demand, is missing or failed"), "{detail}");
    assert!(remedy.contains("dwarves"), "{remedy}");
    // A pahole that does not exist, which is reported before the build.
    let script =
        "mount -t tmpfs none /mnt && touch /mnt/pahole && mount --bind /mnt/pahole $(command -v pahole) && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_vfguard"), "--root"])
        .arg(stage.machine.root())
        .args(["prepare", &stage.kernel, "--sha256", digest, "--source"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let (detail, remedy) = stage.told();
    assert!(detail.contains("pahole is not installed, and the build needs it") && remedy.contains("dwarves"), "{detail}");
}

#[test]
fn a_file_or_library_that_the_kernels_tree_lacks_is_not_blamed_on_the_source() {
    let stage = Stage::new("K_NEW");
    for (what, script, words, remedy) in [
        (
            "a script of the tree",
            "sh -c ./scripts/mod/modpost\n",
            "the kernel's headers are incomplete",
            "linux-headers-6.1",
        ),
        (
            "a library",
            // A real program whose library does not exist.
            "echo 'int f(void); int main() { return f(); }' >p.c; echo 'int f(void) { return 0; }' >l.c\n\
             gcc -Wl,-soname,libgone.so.1 -shared -fPIC -o libgone.so.1 l.c && gcc -o tool p.c ./libgone.so.1 && rm libgone.so.1\n\
             ./tool\n",
            "a library that the kernel's headers need is missing: ./tool: error while loading shared libraries: libgone.so.1",
            "install the library libgone.so.1",
        ),
        ("a place that is not the build's", "touch \"$KSRC/x\"\n", "writes outside of its own directory", "name a release"),
    ] {
        let (detail, told) = stage.prepare(script, &[]);
        println!("{what}: {detail}\n  {told}");
        assert!(detail.contains(words) && told.contains(remedy), "{what}: {detail}; {told}");
    }
}
