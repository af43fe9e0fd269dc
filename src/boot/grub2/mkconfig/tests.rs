use super::*;

#[test]
fn removing_a_block_from_the_settings_keeps_every_other_byte() {
    let block = [HEAD, SET, END].concat();
    for (before, more, after) in [
        ("GRUB_TIMEOUT=0\n", "", "GRUB_TIMEOUT=0\n"),
        ("GRUB_TIMEOUT=0", "", "GRUB_TIMEOUT=0"),
        ("", "", ""),
        ("A=0\n\n", "B=1", "A=0\n\nB=1"),
        ("A=0", "B=1\n", "A=0\nB=1\n"),
    ] {
        let text = without(format!("{before}\n{block}{more}").as_bytes());
        assert_eq!(String::from_utf8(text).unwrap(), after);
    }
    let changed = format!("A=0\n\n{}", block.replace("saved", "0"));
    assert_eq!(without(changed.as_bytes()), b"A=0\n");
    assert_eq!(without(HEAD.as_bytes()), HEAD.as_bytes());
}

#[test]
fn a_word_is_missing_if_it_is_gone_or_moved_before_another() {
    for (new, want) in [
        ("ro console=tty0 console=ttyS0 quiet", ""),
        ("ro console=tty0 quiet x console=ttyS0", ""),
        ("ro console=ttyS0 console=tty0", "console=ttyS0"),
        ("console=ttyS0", "ro console=tty0"),
    ] {
        assert_eq!(missing("ro console=tty0 console=ttyS0", new).join(" "), want, "{new}");
    }
}
