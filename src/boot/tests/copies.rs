//! Menus of GRUB legacy that are copies of each other.

use super::*;

const BOTH: [&str; 2] = ["boot/grub/grub.conf", "boot/grub/menu.lst"];

fn menu(number: usize) -> String {
    format!("default={number}\ntimeout=1\n{}{}", title(NEW), title(OLD))
}

fn machine() -> Machine {
    let menu = menu(0);
    Machine::new(&BOTH.map(|file| (file, menu.as_str())))
}

#[test]
fn a_hold_and_its_end_change_both_copies_and_the_answer_stays_certain() {
    let m = machine();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let held = next_boot(&m.host, &config::Boot::default());
    assert!(held.certain, "{:?}", held.problems);
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    assert_eq!(m.read(BOTH[0]), m.read(BOTH[1]));
    m.promote().unwrap();
    assert_eq!(BOTH.map(|file| m.read(file)), [menu(0).into_bytes(), menu(0).into_bytes()]);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    release(&m.host, &m.lock).unwrap();
    assert_eq!(
        BOTH.map(|file| m.read(file)),
        [menu(1).into_bytes(), menu(1).into_bytes()],
        "no mark, and the default stays"
    );
}

#[test]
fn a_move_made_in_only_one_copy_has_no_effect() {
    let m = machine();
    let loader = choose::resolve(&m.host).asked.unwrap().loader;
    let plan = loader.plans(&m.host, &k(OLD), None, plan::Purpose::Hold(None)).remove(0).unwrap();
    assert_eq!(plan.steps.len(), 2);
    assert_eq!(loader.preview(&m.host, &plan).lasting().map(|c| c.kernel.clone()), Some(k(OLD)));
    let half = plan::Move::one(plan.steps[0].clone());
    assert_eq!(loader.preview(&m.host, &half).lasting(), None);
    // Somebody writes the second copy in between: the first one is restored.
    put(m.dir.path(), BOTH[1], b"default=1\n");
    assert!(moves::make(&m.host, plan).is_err());
    assert_eq!(m.read(BOTH[0]), menu(0).into_bytes());
    // The run was killed before it wrote the second copy: what boots is unknown until the next run makes the same move.
    let m = machine();
    put(m.dir.path(), BOTH[0], half.steps[0].after.as_ref().unwrap());
    let now = next_boot(&m.host, &config::Boot::default());
    assert!(!now.certain && now.kernels.is_empty() && now.problems.iter().any(|p| p.message.contains("disagree")));
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(next_boot(&m.host, &config::Boot::default()).certain);
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    // The shell script, which writes one file, could not hold it.
    let m = machine();
    let now = next_boot(&m.host, &config::Boot::default());
    ready::leave(&m.host, &now, None, Some(&k(OLD))).unwrap();
    assert!(m.read("var/lib/vfguard/ready/hold").starts_with(b"none "));
}

#[test]
fn copies_that_differ_by_one_byte_are_two_menus() {
    let (a, b) = (menu(0), menu(0) + "#\n");
    let m = Machine::new(&[(BOTH[0], &a), (BOTH[1], &b)]);
    assert!(next_boot(&m.host, &config::Boot::default()).certain, "they agree");
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let held = next_boot(&m.host, &config::Boot::default());
    assert!(!held.certain && held.problems.iter().any(|p| p.message.contains("disagree")), "{:?}", held.problems);
}
