use super::*;

/// The diagnosis of an output. `split`: the kernel's headers are two trees.
fn read(output: &str, split: bool) -> Diagnosis {
    let mut reading = Reading::default();
    output.lines().for_each(|line| reading.take(line));
    reading.diagnose(split)
}

#[test]
fn each_kind_of_failure_is_recognised_by_its_own_message() {
    for (text, cause) in [
        ("/build/src/kcompat.h:12:10: fatal error: linux/foo.h: No such file or directory", Cause::Header),
        ("/build/src/main.c:77:9: error: implicit declaration of function 'strlcpy'", Cause::Api),
        ("ERROR: modpost: \"pci_enable\" [/build/src/x.ko] undefined!", Cause::Api),
        ("gcc: error: unrecognized command-line option '-mharden-sls=all'", Cause::Flag),
        ("sh: 1: pahole: not found", Cause::Pahole),
        ("cc1: error: code model kernel does not support PIC mode", Cause::Pie),
        ("/bin/sh: 1: gcc-12: not found", Cause::Tool),
        ("bash: line 1: bc: command not found", Cause::Tool),
        ("make[1]: awk: Command not found", Cause::Tool),
        // Make 4.3 and newer, for `SHELL := $(shell which bash)`.
        ("make: which: No such file or directory", Cause::Tool),
        ("cc1: error: cannot load plugin ./scripts/gcc-plugins/x_plugin.so: undefined symbol: y", Cause::Plugin),
        ("gcc: error: bad value ('x86-64-v5') for '-march=' switch", Cause::Flag),
        ("clang: error: unknown argument: '-mfunction-return=thunk-extern'", Cause::Flag),
        (
            "scripts/mod/modpost: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by scripts/mod/modpost)",
            Cause::Foreign,
        ),
        ("/bin/sh: -c: line 1: `if [ \"gcc 12\" != \"\"gcc (GCC) 11.3.0\"\" ]; then \\'", Cause::Quotes),
        ("/bin/sh: 1: Syntax error: \"(\" unexpected", Cause::Quotes),
        ("Can't open perl script \"scripts/recordmcount.pl\": No such file or directory", Cause::Tree),
        ("scripts/sign-file.c:25:10: fatal error: openssl/opensslv.h: No such file or directory", Cause::Library),
        ("/tmp/x.s: fatal error: error writing to /tmp/x: No space left on device", Cause::Disk),
        ("gcc: fatal error: Killed signal terminated program cc1", Cause::Killed),
        ("gcc-12: internal compiler error: Segmentation fault signal terminated program cc1", Cause::Killed),
        ("make: *** No rule to make target 'default'.  Stop.", Cause::Other),
        // The messages of 2.6.32 and 6.12; the versions between print one of them.
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
        ("/bin/sh: 1: scripts/basic/fixdep: Exec format error", Cause::Foreign),
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
        ("cc1: error: incompatible gcc/plugin versions", Cause::Plugin),
        ("arch/x86/Makefile:184: *** Compiler lacks asm-goto support..  Stop.", Cause::Flag),
        ("You are building kernel with non-retpoline compiler, please update your compiler.", Cause::Flag),
        ("Makefile:12: *** GNU Make >= 4.0 is required. Your Make version is 3.82.  Stop.", Cause::Tool),
        ("common.mk:60: *** Compiler not found.  Stop.", Cause::Tool),
        ("touch: cannot touch '/usr/src/x/.tmp_versions': Read-only file system", Cause::Outside),
        ("Makefile:105: *** Linux kernel source not configured - missing autoconf.h.  Stop.", Cause::Split),
        ("scripts/basic/own.c:3:1: fatal error: opening dependency file x.d: Read-only file system", Cause::Outside),
        ("ERROR: modpost: missing MODULE_LICENSE() in /build/src/x.o", Cause::Api),
    ] {
        assert_eq!(read(text, true).cause, cause, "{text}");
        let whole = if cause == Cause::Split { Cause::Tree } else { cause };
        assert_eq!(read(text, false).cause, whole, "{text}");
    }
}

/// For each cause: the output where make fails because of it, and the line to show.
const FAILURES: [(Cause, &str, &str); 14] = [
    (
        Cause::Header,
        "In file included from /build/src/own_main.c:9:\n\
         /build/src/compat.h:12:10: fatal error: linux/gone.h: No such file or directory\n   \
         12 | #include <linux/gone.h>\n      |          ^~~~~~~~~~~~~~\ncompilation terminated.\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "/build/src/compat.h:12:10: fatal error: linux/gone.h: No such file or directory",
    ),
    (
        Cause::Api,
        "/build/src/own_main.c: In function 'own_probe':\n\
         /build/src/own_main.c:77:9: error: implicit declaration of function 'own_helper' [-Werror=implicit-function-declaration]\n   \
         77 |         own_helper(1);\n      |         ^~~~~~~~~~\ncc1: some warnings being treated as errors\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "/build/src/own_main.c:77:9: error: implicit declaration of function 'own_helper' [-Werror=implicit-function-declaration]",
    ),
    (
        Cause::Flag,
        "gcc: error: unrecognized command-line option '-mown-hardening=all'\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "gcc: error: unrecognized command-line option '-mown-hardening=all'",
    ),
    (
        Cause::Plugin,
        "cc1: error: incompatible gcc/plugin versions\ncc1: error: failed to initialize plugin ./scripts/gcc-plugins/own.so\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "cc1: error: incompatible gcc/plugin versions",
    ),
    (
        Cause::Pahole,
        "/bin/sh: 1: pahole: not found\n\
         make[3]: *** [scripts/Makefile.modfinal:57: /build/src/own.ko] Error 127\n\
         make[3]: *** Deleting file '/build/src/own.ko'\n",
        "/bin/sh: 1: pahole: not found",
    ),
    (
        Cause::Pie,
        "cc1: error: code model kernel does not support PIC mode\n\
         common.mk:300: *** Aborting the build.\ncommon.mk:301: *** no kernel older than 2.4.0.  Stop.\n",
        "cc1: error: code model kernel does not support PIC mode",
    ),
    (
        Cause::Tool,
        "/bin/sh: 1: own-generator: not found\nmake[3]: *** [/build/src/Makefile:9: /build/src/own_table.h] Error 127\n",
        "/bin/sh: 1: own-generator: not found",
    ),
    (
        Cause::Library,
        "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: cannot open shared object file: No such file or \
         directory\nmake[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 127\n",
        "./tools/objtool/objtool: error while loading shared libraries: libelf.so.1: cannot open shared object file: No such file or directory",
    ),
    (
        Cause::Foreign,
        "scripts/mod/modpost: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by scripts/mod/modpost)\n\
         make[3]: *** [scripts/Makefile.modpost:145: /build/src/Module.symvers] Error 1\n",
        "scripts/mod/modpost: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by scripts/mod/modpost)",
    ),
    (
        Cause::Split,
        "\n  ERROR: Kernel configuration is invalid.\n         include/generated/autoconf.h or include/config/auto.conf are missing.\n\
         \nmake[3]: *** [/usr/src/own/Makefile:760: include/config/auto.conf] Error 1\n",
        "ERROR: Kernel configuration is invalid.",
    ),
    (
        Cause::Tree,
        "/bin/sh: 1: scripts/basic/fixdep: not found\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 127\n",
        "/bin/sh: 1: scripts/basic/fixdep: not found",
    ),
    (
        Cause::Outside,
        "touch: cannot touch '/usr/src/own/stamp': Read-only file system\nmake[3]: *** [/build/src/Makefile:5: stamp] Error 1\n",
        "touch: cannot touch '/usr/src/own/stamp': Read-only file system",
    ),
    (
        Cause::Disk,
        "/build/src/own_main.c:1:1: fatal error: error writing to /tmp/own.s: No space left on device\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "/build/src/own_main.c:1:1: fatal error: error writing to /tmp/own.s: No space left on device",
    ),
    (
        Cause::Killed,
        "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n\
         make[3]: *** [scripts/Makefile.build:250: /build/src/own_main.o] Error 1\n",
        "gcc: fatal error: Killed signal terminated program cc1",
    ),
];

/// Output of builds that go on after it, each with the cause that it must not be taken for.
const NOISE: [(Cause, &str); 21] = [
    (Cause::Tool, "/bin/sh: 1: which: not found\n"),
    (Cause::Tool, "/bin/sh: line 1: dracut: command not found\n"),
    (Cause::Tool, "make: manpath: No such file or directory\n"),
    (Cause::Tool, "which: no update-initramfs in (/usr/sbin:/usr/bin)\n"),
    (Cause::Tool, "/bin/sh: 1: own-probe: not found\nmake[2]: [/build/src/Makefile:3: probe] Error 127 (ignored)\n"),
    (Cause::Header, "ls: cannot access '/usr/src/own/include/linux/other.h': No such file or directory\n"),
    (
        Cause::Header,
        "conftest.c:1:10: fatal error: linux/other.h: No such file or directory\ncompilation terminated.\n\
         make[2]: [/build/src/Makefile:7: conftest.o] Error 1 (ignored)\n",
    ),
    (
        Cause::Api,
        "conftest.c:3:5: error: too few arguments to function 'other'\n\
         make[6]: *** [scripts/Makefile.build:250: /build/probe/conftest.o] Error 1\n\
         make[5]: *** [Makefile:1800: /build/probe] Error 2\nmake[4]: [/build/src/Makefile:8: probe] Error 2 (ignored)\n",
    ),
    (Cause::Api, "  CC [M]  /build/src/error.o\n  LD [M]  /build/src/fatal error: .o\n"),
    (Cause::Api, "/build/src/other.c:3:4: warning: 'error: ' is said here, and \"x\" undefined! [-Wother]\n"),
    (Cause::Api, "WARNING: modpost: \"other\" [/build/src/other.ko] undefined!\n"),
    (Cause::Api, "/build/src/other.h:3:4: note: declared here, error: none\n   3 | #error error: none\n     | ^~~~\n"),
    // The source as gcc 4 to 8 quote it.
    (Cause::Outside, "/build/src/other.c:9:1: warning: unused\n pr_err(\"Read-only file system\");\n ^\n"),
    (Cause::Outside, "rm: cannot remove '/usr/src/own/x': Read-only file system\nmake[2]: [Makefile:2: clean] Error 1 (ignored)\n"),
    (Cause::Disk, "/build/src/other.c:9:1: warning: \"No space left on device\" is too long [-Wother]\n"),
    (Cause::Killed, "/build/src/other.c:9:1: note: out of memory is not handled here\n"),
    (Cause::Flag, "cc1: warning: unrecognized command-line option '-Wno-other'\n"),
    (Cause::Pahole, "Skipping BTF generation for /build/src/own.ko due to unavailability of vmlinux\n"),
    // With V=1 make prints the rule, even if the check in it succeeds.
    (Cause::Split, "test -e include/config/auto.conf || ( \\\necho >&2 \"  ERROR: Kernel configuration is invalid.\"; \\\n/bin/false)\n"),
    (
        Cause::Other,
        "warning: the compiler differs from the one used to build the kernel\n  The kernel was built by: gcc (GCC) 11.4.1\n  \
         You are using:           gcc (GCC) 12.2.0\nmake[2]: warning:  Clock skew detected.  Your build may be incomplete.\n",
    ),
    (Cause::Other, "filtering include/linux/other.h out\nError 0\nmake[2]: 'error.h' is up to date.\n"),
];

/// How a build with several makes ends.
const END: &str = "make[3]: *** Waiting for unfinished jobs....\n  CC [M]  /build/src/last.o\nmake[2]: *** [Makefile:1800: /build/src] Error 2\n\
                   make[1]: *** [Makefile:200: __sub-make] Error 2\nmake: *** [Makefile:77: default] Error 2\n";

#[test]
fn the_cause_is_what_make_failed_at_and_not_other_errors_in_the_output() {
    for (cause, failure, line) in FAILURES {
        let told = |output: &str| {
            let told = read(output, true);
            assert_eq!((told.cause, told.line.as_str()), (cause, line), "{output}");
        };
        told(&format!("{failure}{END}"));
        let others = || NOISE.iter().filter(|(kind, _)| *kind != cause).map(|(_, noise)| *noise);
        for noise in others() {
            told(&format!("{noise}{failure}{END}"));
            told(&format!("{failure}{noise}{END}"));
            // Output of a parallel job, printed before make noticed the failure.
            let at = failure.rfind("\nmake[3]: *** [").map_or(0, |at| at + 1);
            told(&format!("{}{noise}{}{END}", &failure[..at], &failure[at..]));
        }
        let all: String = others().collect();
        told(&format!("{all}{failure}{all}{END}"));
        // A thousand lines that look like errors do not hide the failure.
        told(&format!("{}{failure}{END}", all.repeat(50)));
    }
}

#[test]
fn a_parallel_job_that_fails_is_not_confused_with_the_one_that_make_names_first() {
    let output = "/build/src/b.c:5:1: error: unknown type name 'other'\n\
                  In file included from /build/src/a.c:3:\n/build/src/a.h:1:10: fatal error: linux/gone.h: No such file or directory\n\
                  compilation terminated.\nmake[2]: *** [scripts/Makefile.build:250: /build/src/a.o] Error 1\n\
                  make[2]: *** Waiting for unfinished jobs....\nmake[2]: *** [scripts/Makefile.build:250: /build/src/b.o] Error 1\n\
                  make[1]: *** [Makefile:1800: /build/src] Error 2\n";
    let told = read(output, false);
    assert_eq!(told.cause, Cause::Header);
    assert_eq!(told.line, "/build/src/a.h:1:10: fatal error: linux/gone.h: No such file or directory");
}

#[test]
fn a_missing_program_is_a_guess_unless_make_says_that_it_could_not_be_run() {
    let stop = "/bin/sh: 1: which: not found\ncommon.mk:143: *** Kernel source not configured.  Stop.\n";
    let told = read(stop, false);
    assert_eq!((told.cause, told.certain), (Cause::Tool, false));
    let not_run = "/bin/sh: 1: which: not found\nmake: *** [Makefile:2: default] Error 127\n";
    assert_eq!((read(not_run, false).cause, read(not_run, false).certain), (Cause::Tool, true));
    // A script that cannot read a file prints the same message; only an exit code shows that a program is missing.
    let file = "./gen.sh: line 3: own.conf: No such file or directory\n";
    assert_eq!(read(&format!("{file}make: *** [Makefile:2: default] Error 1\n"), false).cause, Cause::Other);
    assert_eq!(read(&format!("{file}make: *** [Makefile:2: default] Error 127\n"), false).cause, Cause::Tool);
}

#[test]
fn a_missing_symbol_table_explains_undefined_symbols_and_nothing_else() {
    let warning = "WARNING: Symbol version dump \"Module.symvers\" is missing.\n";
    let undefined = "ERROR: modpost: \"kfree\" [/build/src/x.ko] undefined!\n";
    assert_eq!(read(&format!("{warning}{undefined}"), true).cause, Cause::Split);
    assert_eq!(read(&format!("{undefined}{warning}"), true).cause, Cause::Split);
    assert_eq!(read(&format!("{warning}a.c:3:4: error: 'x' undeclared\n"), true).cause, Cause::Api);
    assert_eq!(read(undefined, true).cause, Cause::Api);
}

#[test]
fn an_ignored_failure_of_a_probe_explains_nothing() {
    // For `make … || true` in a script, make does not print that the failure was ignored.
    let probe =
        "conftest.c:3:5: error: too few arguments\nmake[3]: *** [x: conftest.o] Error 1\nmake[2]: *** [x: probe] Error 2\n";
    let output = format!(
        "{probe}cp: cannot create regular file '/usr/src/x': Read-only file system\nmake[3]: *** [x: stamp] Error 1\n\
         make[2]: *** [x: y] Error 2\n"
    );
    assert_eq!(read(&output, false).cause, Cause::Outside);
}

#[test]
fn the_line_that_is_shown_is_the_one_that_decided() {
    let output = "make: *** [x] Error 2\na.c:3:4: error: 'x' undeclared\nb.c:1:1: error: other\n";
    assert_eq!(read(output, false).line, "a.c:3:4: error: 'x' undeclared");
    assert_eq!(read("bye\n", false).line, "bye");
    assert_eq!(read("make[1]: *** [x: a.o] Killed\n", false).cause, Cause::Killed);
}
