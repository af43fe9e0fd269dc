//! Moves of the boot default while other tools write the same grubenv.

use super::*;

/// Writes like grub-editenv: it truncates the file, and writes it a moment later.
fn rewrite(path: &Path, block: &[u8], pause: Duration) {
    let mut file = fs::File::create(path).unwrap();
    std::thread::sleep(pause);
    std::io::Write::write_all(&mut file, block).unwrap();
}

#[test]
fn a_block_that_another_tool_is_writing_is_read_again_and_no_hold_is_lost() {
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let path = m.dir.path().join("boot/grub2/grubenv");
    let block = m.read("boot/grub2/grubenv");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                rewrite(&path, &block, Duration::from_micros(n * 397 % 2500));
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(n * 211 % 1500));
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..300 {
                let answer = next_boot(&m.host, &config::Boot::default());
                let next = answer.lasting().map(|c| c.kernel.to_string());
                assert!(!answer.certain || next.as_deref() == Some(OLD), "{n}: {answer:?}");
                forget_stale(&m.host, &m.lock, &answer).unwrap();
                assert!(m.host.exists(RECORD), "{n}: the hold is forgotten");
                assert!(held(&m.host).is_some(), "{n}");
            }
            hold(&m.host, &m.lock, &k(OLD)).unwrap();
        }));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        looked.unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK).as_deref(), Some(OLD));
}

#[test]
fn a_damaged_block_ends_no_hold_and_an_entry_that_names_another_kernel_does() {
    for block in ["", "# GRUB Env", &env(&format!("saved_entry={MID}-{NEW}\n"))[..600], &"x".repeat(1024)] {
        let m = saved();
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        fs::write(m.dir.path().join("boot/grub2/grubenv"), block).unwrap();
        let answer = next_boot(&m.host, &config::Boot::default());
        assert!(!answer.certain, "{block:?}: {answer:?}");
        forget_stale(&m.host, &m.lock, &answer).unwrap();
        assert!(m.promote().is_err(), "{block:?}");
        assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(OLD))), "{block:?}");
    }
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let block = grubenv::edit(&m.read("boot/grub2/grubenv"), &[("saved_entry", Some(&format!("{MID}-{NEW}")))]).unwrap();
    fs::write(m.dir.path().join("boot/grub2/grubenv"), block).unwrap();
    forget_stale(&m.host, &m.lock, &next_boot(&m.host, &config::Boot::default())).unwrap();
    assert!(!m.host.exists(RECORD) && held(&m.host).is_none());
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK), None);
}

/// Plays another tool that has read the file before: once the file changes, it writes what it read, with one variable added.
fn overtake(m: &Machine, act: impl FnOnce()) {
    let path = m.dir.path().join("boot/grub2/grubenv");
    let before = fs::read(&path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while fs::read(&path).unwrap() == before && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_micros(100));
            }
            let theirs = grubenv::edit(&before, &[("theirs", Some("1"))]).unwrap();
            rewrite(&path, &theirs, Duration::from_millis(1));
        });
        act();
    });
}

#[test]
fn a_move_that_another_tool_overwrote_with_what_it_had_read_before_is_made_again() {
    let m = saved();
    overtake(&m, || assert!(hold(&m.host, &m.lock, &k(OLD)).unwrap().changed));
    let block = m.read("boot/grub2/grubenv");
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    assert_eq!(grubenv::get(&block, mark::MARK).as_deref(), Some(OLD));
    assert_eq!(grubenv::get(&block, "theirs").as_deref(), Some("1"), "what the other tool wrote is lost");
    overtake(&m, || assert!(m.promote().unwrap().changed));
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK), None);
    let m = bls(&format!("saved_entry={MID}-{OLD}\nnext_entry={MID}-{NEW}\n"), &format!("{CFG}blscfg\n"));
    overtake(&m, || assert!(clear_once(&m.host, &m.lock).unwrap().changed));
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), "next_entry"), None);
}

#[test]
fn a_failed_move_leaves_nothing_of_ours_while_another_tool_writes() {
    // The other tool reads what we wrote, and writes it back with one variable added; meanwhile the configuration gets a default of its
    // own.
    let m = saved();
    let path = m.dir.path().join("boot/grub2/grubenv");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let ours = || fs::read(&path).ok().filter(|b| grubenv::get(b, mark::MARK).is_some());
            while start.elapsed() < Duration::from_secs(10) {
                if let Some(block) = ours() {
                    let theirs = grubenv::edit(&block, &[("theirs", Some("1"))]).unwrap();
                    put(m.dir.path(), "boot/grub2/grub.cfg", b"load_env\nset default=0\nblscfg\n");
                    return rewrite(&path, &theirs, Duration::from_millis(1));
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        assert!(hold(&m.host, &m.lock, &k(OLD)).is_err());
    });
    let block = m.read("boot/grub2/grubenv");
    assert_eq!(grubenv::get(&block, "saved_entry"), Some(format!("{MID}-{NEW}")));
    assert_eq!((grubenv::get(&block, mark::MARK), grubenv::get(&block, "theirs").as_deref()), (None, Some("1")));
    assert!(!m.host.exists(RECORD));
}

#[test]
fn changes_by_another_tool_survive_an_undo() {
    let m = saved();
    let loader = choose::loaders(&m.host).0.remove(0);
    let plan = loader.plans(&m.host, &k(OLD), None, plan::Purpose::Hold(Some(&k(NEW)))).remove(0).unwrap();
    let undo = moves::make(&m.host, plan).unwrap();
    let block = grubenv::edit(&m.read("boot/grub2/grubenv"), &[("theirs", Some("1"))]).unwrap();
    put(m.dir.path(), "boot/grub2/grubenv", &block);
    undo.undo(&m.host).unwrap();
    let block = m.read("boot/grub2/grubenv");
    assert_eq!((m.next().as_str(), grubenv::get(&block, "theirs").as_deref()), (NEW, Some("1")));
    assert_eq!(grubenv::get(&block, mark::MARK), None);
}

#[test]
fn a_lost_record_or_mark_of_a_hold_is_written_again_if_the_default_is_already_there() {
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let record = Hold::read(&m.host).unwrap();
    let bare = grubenv::edit(&m.read("boot/grub2/grubenv"), &[(mark::MARK, None)]).unwrap();
    put(m.dir.path(), "boot/grub2/grubenv", &bare);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK).as_deref(), Some(OLD));
    assert_eq!(Hold::read(&m.host), Some(record));
    fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(OLD))));
    // A default without a hold is a person's choice, and is not marked.
    let m = bls(&format!("saved_entry={MID}-{OLD}\n"), &format!("{CFG}blscfg\n"));
    assert!(!hold(&m.host, &m.lock, &k(OLD)).unwrap().changed);
    assert!(!m.host.exists(RECORD));
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK), None);
}

/// A third kernel with an entry of its own.
const OTHER: &str = "4.18.0-305.el8.x86_64";

fn with_other() -> Machine {
    let m = saved();
    for path in [format!("boot/vmlinuz-{OTHER}"), format!("lib/modules/{OTHER}/x")] {
        put(m.dir.path(), &path, b"");
    }
    let entry = format!("title Linux ({OTHER})\nversion {OTHER}\nlinux /vmlinuz-{OTHER}\n");
    put(m.dir.path(), &format!("boot/loader/entries/{MID}-{OTHER}.conf"), entry.as_bytes());
    m
}

#[test]
fn a_record_of_a_move_that_was_never_made_does_not_lose_the_wanted_kernel() {
    let m = with_other();
    put(m.dir.path(), "boot/grub2/grubenv", env(&format!("saved_entry={MID}-{OTHER}\n")).as_bytes());
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    // The run died between writing the record of another hold and its move.
    let mut record = Hold::read(&m.host).unwrap();
    record.held = k(NEW);
    m.host.write_atomic(RECORD, &serde_json::to_vec(&record).unwrap(), 0o644).unwrap();
    let answer = next_boot(&m.host, &config::Boot::default());
    assert_eq!(m.wanted().as_deref(), Some(OTHER));
    forget_stale(&m.host, &m.lock, &answer).unwrap();
    assert_eq!(held(&m.host).map(|h| (h.wanted, h.held)), Some((k(OTHER), k(OLD))));
    // The next hold corrects the record, whichever kernel it is on.
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(OTHER), k(OLD))));
    m.host.write_atomic(RECORD, &serde_json::to_vec(&record).unwrap(), 0o644).unwrap();
    hold(&m.host, &m.lock, &k(NEW)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (NEW, Some(OTHER)));
    m.promote().unwrap();
    assert_eq!((m.next().as_str(), m.host.exists(RECORD)), (OTHER, false));
}

#[test]
fn a_hold_known_only_by_its_mark_keeps_the_wanted_kernel_when_it_moves() {
    let m = with_other();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    fs::remove_file(m.host.path(RECORD)).unwrap();
    hold(&m.host, &m.lock, &k(OTHER)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OTHER, Some(NEW)));
    assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(OTHER))));
}
