//! Early at boot: which devices and drivers are waited for.

use super::*;

#[test]
fn early_at_boot_only_a_driver_that_udev_is_about_to_load_is_waited_for() {
    use std::time::{Duration, Instant};
    let machine = Machine::new().grub().device("0000:00:05.0", NIC, None);
    let machine = bad(machine, NEW).boot_default(NEW).file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    let start = Instant::now();
    assert_eq!(machine.run(&["reconcile", "--from", "boot"]).code, 0, "udev is idle: nobody uses the device");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let machine = machine.file("run/udev/queue", "");
    let code = std::thread::scope(|scope| {
        let decided = scope.spawn(|| machine.run(&["reconcile", "--from", "boot"]).code);
        std::thread::sleep(Duration::from_millis(500));
        let driver = machine.path("sys/bus/pci/devices/0000:00:05.0/driver");
        std::os::unix::fs::symlink("../../../../bus/pci/drivers/ena", driver).unwrap();
        decided.join().unwrap()
    });
    assert_eq!((code, gate(&machine).as_str()), (3, "closed"), "in use, and the kernel has no driver for it");
}

#[test]
fn early_at_boot_a_network_device_is_waited_for_and_another_kind_is_not() {
    use std::time::{Duration, Instant};
    let decided = |modalias: &str| {
        let machine = settled().file("run/udev/queue", "").file("sys/bus/virtio/devices/virtio0/modalias", modalias);
        let start = Instant::now();
        let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
        (run.code, start.elapsed(), run.stdout + &run.stderr)
    };
    let (entropy, network) = (decided("virtio:d00000004v00001AF4\n"), decided("virtio:d00000001v00001AF4\n"));
    assert!(entropy.0 == 0 && entropy.1 < Duration::from_secs(8), "{entropy:?}");
    assert!(!entropy.2.contains("waited"), "{entropy:?}");
    // udev had not finished. It is not known whether the device will be in use, so nothing is decided, which refuses.
    assert!(network.0 == 1 && network.1 > Duration::from_secs(9), "{network:?}");
    assert!(network.2.contains("waited 10.0 s for a driver of virtio0 (virtio0 has none)"), "{network:?}");
    assert!(network.2.contains("udev is still at work, and virtio0 may yet get a driver"), "{network:?}");
}
