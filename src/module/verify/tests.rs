use super::super::Import;
use super::*;
use crate::finding::{Code, Verdict};
use crate::host::Host;

const K: &str = "6.1.0-56-amd64";
const SYMVERS: &str = "0x11111111\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n0x22222222\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n\
                       0x33333333\tpci_only\tvmlinux\tEXPORT_SYMBOL_GPL\t\n0x44444444\tspaced\tvmlinux\tEXPORT_SYMBOL\tCRYPTO\n";

fn target(symvers: Option<&str>, config: &str) -> Target {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(&format!("boot/config-{K}"), config);
    if let Some(symvers) = symvers {
        write(&format!("usr/src/linux-headers-{K}/Module.symvers"), symvers);
        write(&format!("usr/src/linux-headers-{K}/include/config/kernel.release"), &format!("{K}\n"));
    }
    let host = Host::new(dir.path()).unwrap();
    let target = Target::load(&host, &K.parse().unwrap());
    assert!(target.resolve_alias("pci:x").is_empty());
    // Read everything that is needed later before the directory is removed.
    let _ = (target.own(), target.keys(), target.exports(&["nobody"]));
    target
}

const CONFIG: &str = "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n";

fn import(name: &str) -> Import {
    Import { name: name.into(), weak: false }
}

fn module(release: &str) -> Module {
    Module {
        name: "demo".into(),
        vermagic: Some(format!("{release} SMP mod_unload modversions ")),
        license: Some("GPL".into()),
        versions: vec![("_printk".into(), 0x1111_1111), ("module_layout".into(), 0x2222_2222)],
        imports: vec![import("_printk")],
        aliases: vec!["pci:v00008086d000010EDsv*sd*bc*sc*i*".into()],
        ..Module::default()
    }
}

fn codes(module: &Module, target: &Target) -> Vec<Code> {
    verify(module, target, &[]).into_iter().filter(|f| f.refuses()).map(|f| f.code).collect()
}

#[test]
fn a_module_of_another_compiler_is_safe_with_a_warning() {
    let of = |text| crate::kernel::Compiler::parse(text);
    let config = format!("{CONFIG}CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0\"\n");
    let t = target(Some(SYMVERS), &config);
    for (compiler, told) in [
        (None, false),
        (of("GCC: (Debian 12.3.0-1) 12.3.0"), false),
        (of("GCC: (GNU) 11.4.1 20231218 (Red Hat 11.4.1-3)"), true),
        (of("clang version 12.0.1"), true),
    ] {
        let findings = verify(&Module { compiler, ..module(K) }, &t, &[]);
        assert_eq!(findings.iter().any(|f| f.code == Code::CompilerMismatch), told, "{findings:?}");
        assert_eq!((findings.len(), Verdict::of(&findings)), (usize::from(told), Verdict::Safe));
    }
    // If the kernel's compiler is unknown, there is no finding.
    let unknown = verify(&Module { compiler: of("GCC: (GNU) 11.4.1"), ..module(K) }, &target(Some(SYMVERS), CONFIG), &[]);
    assert_eq!(unknown, []);
}

#[test]
fn a_module_whose_crcs_are_all_the_kernels_is_safe() {
    assert_eq!(verify(&module(K), &target(Some(SYMVERS), CONFIG), &[]), []);
}

#[test]
fn a_module_built_for_another_kernel_is_refused_unless_every_crc_is_equal() {
    let t = target(Some(SYMVERS), CONFIG);
    let foreign = module("6.1.0-55-amd64");
    let findings = verify(&foreign, &t, &[]);
    assert_eq!((findings[0].code, Verdict::of(&findings)), (Code::VermagicRelease, Verdict::Safe));
    let mut wrong = foreign.clone();
    wrong.versions[1].1 ^= 1;
    assert_eq!(codes(&wrong, &t), [Code::SymbolCrc, Code::VermagicRelease]);
    assert!(codes(&foreign, &target(None, CONFIG)).contains(&Code::VermagicRelease), "unproven CRCs prove nothing");
}

#[test]
fn a_wrong_crc_is_counted_and_named() {
    let mut wrong = module(K);
    wrong.versions[0].1 = 5;
    let findings = verify(&wrong, &target(Some(SYMVERS), CONFIG), &[]);
    assert!(
        findings[0].detail.contains("1 of 2") && findings[0].detail.contains("_printk (0x00000005"),
        "{}",
        findings[0].detail
    );
}

#[test]
fn a_module_without_symbol_versions_is_refused_where_the_kernel_checks_them() {
    let mut bare = module(K);
    bare.versions.clear();
    assert_eq!(codes(&bare, &target(Some(SYMVERS), CONFIG)), [Code::VersionsMissing]);
    for missing in [0, 1] {
        let mut part = module(K);
        part.versions.remove(missing);
        assert_eq!(codes(&part, &target(Some(SYMVERS), CONFIG)), [Code::SymbolUnversioned], "module_layout counts too");
    }
}

#[test]
fn an_export_without_a_version_is_not_a_wrong_crc() {
    let offer = super::super::Offer { name: "bare".into(), crc: None, gpl_only: false, namespace: String::new() };
    let other = Module { name: "other".into(), offers: vec![offer], ..Module::default() };
    let t = target(Some(SYMVERS), CONFIG).with_beside([&other]);
    let mut m = module(K);
    m.versions.push(("bare".into(), 7));
    m.imports.push(import("bare"));
    assert_eq!(codes(&m, &t), [Code::SymbolUnversioned]);
}

#[test]
fn missing_and_restricted_symbols_are_refused() {
    let t = target(Some(SYMVERS), CONFIG);
    let with = |name: &str, crc| {
        let mut m = module(K);
        m.versions.push((name.into(), crc));
        m.imports.push(import(name));
        m
    };
    assert_eq!(codes(&with("nobody", 1), &t), [Code::SymbolMissing]);
    assert_eq!(codes(&with("spaced", 0x4444_4444), &t), [Code::SymbolRestricted]);
    let mut proprietary = with("pci_only", 0x3333_3333);
    assert_eq!(codes(&proprietary, &t), []);
    proprietary.license = Some("Proprietary".into());
    assert_eq!(codes(&proprietary, &t), [Code::SymbolRestricted]);
}

#[test]
fn without_modversions_the_release_must_be_the_kernels_own() {
    let config = "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\n# CONFIG_MODVERSIONS is not set\n";
    let t = target(Some(&SYMVERS.replace("0x11111111", "0x00000000")), config);
    let mut m = module(K);
    m.versions.clear();
    m.vermagic = Some(format!("{K} SMP mod_unload "));
    assert_eq!(codes(&m, &t), []);
    m.vermagic = Some("6.1.0-55-amd64 SMP mod_unload ".into());
    assert_eq!(codes(&m, &t), [Code::VermagicRelease]);
}

#[test]
fn flags_are_compared_exactly_and_unknown_flags_are_refused() {
    let mut m = module(K);
    m.vermagic = Some(format!("{K} SMP preempt mod_unload modversions "));
    assert_eq!(codes(&m, &target(Some(SYMVERS), CONFIG)), [Code::VermagicFlags]);
    let unknown = target(Some(SYMVERS), &format!("{CONFIG}CONFIG_GCC_PLUGIN_RANDSTRUCT=y\n"));
    assert_eq!(codes(&module(K), &unknown), [Code::VermagicFlags]);
    m.vermagic = Some(format!("{K} SMP mod_unload modversions"));
    assert_eq!(codes(&m, &target(Some(SYMVERS), CONFIG)), [Code::VermagicFlags], "the kernel compares the final space too");
}

#[test]
fn an_unsigned_module_is_refused_where_signatures_are_enforced() {
    let t = target(Some(SYMVERS), &format!("{CONFIG}CONFIG_MODULE_SIG_FORCE=y\n"));
    assert_eq!(codes(&module(K), &t), [Code::Unsigned]);
}

#[test]
fn signatures_are_enforced_by_the_command_line_too() {
    for word in ["module.sig_enforce", "module.sig_enforce=1", "module.sig-enforce=y", "lockdown=integrity"] {
        let t = target(Some(SYMVERS), CONFIG).with_cmdline(&format!("quiet {word}"));
        assert_eq!(codes(&module(K), &t), [Code::Unsigned], "{word}");
    }
    assert_eq!(codes(&module(K), &target(Some(SYMVERS), CONFIG).with_cmdline("module.sig_enforce=0")), []);
}

#[test]
fn a_weak_symbol_may_be_missing_but_not_have_another_version() {
    let t = target(Some(SYMVERS), CONFIG);
    let mut m = module(K);
    m.imports.push(Import { name: "nobody".into(), weak: true });
    assert_eq!(codes(&m, &t), []);
    m.imports.push(Import { name: "pci_only".into(), weak: true });
    assert_eq!(codes(&m, &t), [Code::SymbolUnversioned]);
}

#[test]
fn a_module_must_not_export_what_the_kernel_exports() {
    let mut m = module(K);
    m.offers.push(super::super::Offer { name: "_printk".into(), crc: Some(1), gpl_only: false, namespace: String::new() });
    assert_eq!(codes(&m, &target(Some(SYMVERS), CONFIG)), [Code::SymbolRestricted]);
}

#[test]
fn type_information_of_another_build_is_refused_if_the_kernel_compares_it() {
    let mut foreign = module("6.1.0-55-amd64");
    foreign.btf = true;
    let strict = format!("{CONFIG}CONFIG_DEBUG_INFO_BTF_MODULES=y\n");
    assert_eq!(codes(&foreign, &target(Some(SYMVERS), &strict)), [Code::VermagicRelease]);
    let lenient = format!("{strict}CONFIG_MODULE_ALLOW_BTF_MISMATCH=y\n");
    assert_eq!(codes(&foreign, &target(Some(SYMVERS), &lenient)), []);
}
