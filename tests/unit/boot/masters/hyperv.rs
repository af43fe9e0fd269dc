//! Hyper-V's own NIC above its virtual function.

use super::*;

#[test]
fn the_loss_of_a_virtual_function_below_hyper_vs_synthetic_nic_is_a_warning() {
    let machine = azure(&["hv_netvsc"]);
    assert_degrades("azure", &machine, "enP1s1 (0001:00:02.0) is lost under");
    let (_, findings) = findings(&machine);
    assert!(
        findings.iter().any(|f| f.2.ends_with("its master eth0 (hv_netvsc) carries the network by itself")),
        "{findings:?}"
    );
    // Both drivers are there, so nothing is reported.
    assert!(!said(&azure(&["hv_netvsc", "mlx5_core"]).run(&["-v", "check", NEW])).contains("device-redundant"));
    assert_refused("no hv_netvsc either", &azure(&[]));
    assert_refused("the virtual function alone", &azure(&["mlx5_core"]));
}

#[test]
fn a_degraded_kernel_stays_promoted_with_an_open_gate_once_it_runs() {
    let machine = azure(&["hv_netvsc"]);
    assert_degrades("before", &machine, "eth0 (hv_netvsc)");
    let machine = booted(machine, "two").file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    let function = machine.path("sys/bus/pci/devices").join(FUNCTION);
    fs::remove_file(function.join("driver")).unwrap();
    fs::remove_dir_all(function.join("net")).unwrap();
    fs::remove_dir_all(machine.path("sys/class/net/enP1s1")).unwrap();
    for args in [&["reconcile", "--no-build", "--from", "boot"][..], &["reconcile"], &["check"]] {
        let run = machine.run(args);
        assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
        assert!(!machine.path(DROP_IN).exists(), "{}", said(&run));
        assert!(run.stdout.contains("its master eth0 (hv_netvsc)"), "{}", said(&run));
    }
    // The record has only the name, so the master itself must be there to be judged.
    fs::remove_dir_all(machine.path("sys/class/net/eth0")).unwrap();
    let (code, findings) = findings(&machine);
    assert_eq!(code, 3, "{findings:?}");
}

#[test]
fn hyper_vs_synthetic_nic_needs_its_bus() {
    let machine = |vmbus: bool| {
        let own = |name: &str, alias: &str, dir: &str| {
            let vermagic = format!("{NEW} SMP mod_unload ");
            let info =
                [("vermagic", vermagic.as_str()), ("intree", "Y"), ("name", name), ("license", "GPL"), ("alias", alias)];
            (format!("kernel/drivers/{dir}/{name}.ko"), ko::module(name, &info))
        };
        let all = [own("hv_netvsc", HYPERV, "net/hyperv"), own("hv_vmbus", "acpi*:VMBUS:*", "hv")];
        let machine = azure(&[]);
        let dir = format!("lib/modules/{NEW}");
        let order: String = all.iter().map(|(path, _)| format!("{path}\n")).collect();
        let machine = machine.file(&format!("{dir}/modules.order"), &order);
        for (path, module) in all.iter().filter(|(path, _)| vmbus || !path.contains("vmbus")) {
            fs::create_dir_all(machine.path(&dir).join(path).parent().unwrap()).unwrap();
            fs::write(machine.path(&dir).join(path), module).unwrap();
        }
        let machine = machine
            .file(&format!("{dir}/build/Module.symvers"), "0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")
            .file(&format!("{dir}/build/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{NEW}\"\n"));
        assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(NEW).status().unwrap().success());
        machine
    };
    assert_degrades("both", &machine(true), "eth0 (hv_netvsc)");
    assert_refused("no bus", &machine(false));
    // Only its own alias loads it: without the bus no device requests the NIC's driver.
    for line in ["blacklist hv_vmbus", "install hv_vmbus /bin/true"] {
        assert_refused(line, &machine(true).file("etc/modprobe.d/x.conf", &format!("{line}\n")));
    }
}
