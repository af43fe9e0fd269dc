use super::*;

#[test]
fn each_kind_of_failure_is_told_apart_by_its_own_words() {
    for (text, cause) in [
        ("/build/src/kcompat.h:12:10: fatal error: linux/foo.h: No such file or directory", Cause::Header),
        ("/build/src/main.c:77:9: error: implicit declaration of function 'strlcpy'", Cause::Api),
        ("ERROR: modpost: \"pci_enable\" [/build/src/x.ko] undefined!", Cause::Api),
        ("gcc: error: unrecognized command-line option '-mharden-sls=all'", Cause::Flag),
        ("sh: 1: pahole: not found", Cause::Pahole),
        ("cc1: error: code model kernel does not support PIC mode", Cause::Pie),
        ("/bin/sh: 1: gcc-12: not found", Cause::Tool),
        ("/tmp/x.s: fatal error: error writing to /tmp/x: No space left on device", Cause::Disk),
        ("gcc: fatal error: Killed signal terminated program cc1", Cause::Killed),
        ("gcc-12: internal compiler error: Segmentation fault signal terminated program cc1", Cause::Killed),
        ("make: *** No rule to make target 'default'.  Stop.", Cause::Other),
        // 2.6.32 and 6.12; the rest between them.
        ("  ERROR: Kernel configuration is invalid.", Cause::Split),
        ("         include/linux/autoconf.h or include/config/auto.conf are missing.", Cause::Split),
        ("Makefile:758: include/config/auto.conf: No such file or directory", Cause::Split),
        ("<command-line>: fatal error: generated/autoconf.h: No such file or directory", Cause::Split),
        ("WARNING: Symbol version dump \"/usr/src/x/Module.symvers\" is missing.", Cause::Split),
        ("           is missing; modules will have no dependencies and modversions.", Cause::Split),
        ("make[2]: *** No rule to make target 'scripts/mod/modpost', needed by 'x'.  Stop.", Cause::Tree),
        ("make[1]: *** No rule to make target `arch/x86/tools/relocs_32.c', needed by `y'.  Stop.", Cause::Tree),
        ("make: *** No rule to make target '/usr/src/linux-headers-6.1.0-9-common/Makefile'.  Stop.", Cause::Tree),
        ("/bin/sh: 1: scripts/basic/fixdep: not found", Cause::Tree),
        ("/bin/sh: ./tools/objtool/objtool: No such file or directory", Cause::Tree),
        ("/bin/sh: 1: scripts/basic/fixdep: Exec format error", Cause::Tree),
        (
            "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: cannot open shared object file: \
             No such file or directory",
            Cause::Library,
        ),
        (
            "Makefile:993: *** \"Cannot generate ORC metadata for CONFIG_UNWINDER_ORC=y, please install libelf-dev, \
             libelf-devel or elfutils-libelf-devel\".  Stop.",
            Cause::Library,
        ),
        ("elf.h:10:10: fatal error: gelf.h: No such file or directory", Cause::Library),
        ("cc1: error: incompatible gcc/plugin versions", Cause::Flag),
        ("arch/x86/Makefile:184: *** Compiler lacks asm-goto support..  Stop.", Cause::Flag),
        ("You are building kernel with non-retpoline compiler, please update your compiler.", Cause::Flag),
        ("Makefile:12: *** GNU Make >= 4.0 is required. Your Make version is 3.82.  Stop.", Cause::Tool),
        ("common.mk:60: *** Compiler not found.  Stop.", Cause::Tool),
        ("touch: cannot touch '/usr/src/x/.tmp_versions': Read-only file system", Cause::Outside),
        ("ERROR: modpost: missing MODULE_LICENSE() in /build/src/x.o", Cause::Api),
    ] {
        assert!(is_telling(text), "{text}");
        assert_eq!(diagnose(&[text.into()], "", true).cause, cause, "{text}");
        let whole = if cause == Cause::Split { Cause::Tree } else { cause };
        assert_eq!(diagnose(&[text.into()], "", false).cause, whole, "{text}");
    }
}

#[test]
fn a_symbol_table_that_is_missing_is_no_cause_beside_a_compilers_error() {
    let lines = [
        "WARNING: Symbol version dump \"Module.symvers\" is missing.",
        "ERROR: modpost: \"kfree\" [/build/src/x.ko] undefined!",
    ]
    .map(str::to_owned);
    assert_eq!(diagnose(&lines, "", true).cause, Cause::Split);
    let lines = [lines[0].clone(), "a.c:3:4: error: 'x' undeclared".to_owned()];
    assert_eq!(diagnose(&lines, "", true).cause, Cause::Api);
}

#[test]
fn the_first_error_with_file_and_line_is_what_is_shown() {
    let lines = ["make: *** [x] Error 2", "a.c:3:4: error: 'x' undeclared", "b.c:1:1: error: other"].map(str::to_owned);
    assert_eq!(diagnose(&lines, "", false).line, lines[1]);
    assert_eq!(diagnose(&[], "bye", false).line, "bye");
}
