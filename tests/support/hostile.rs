//! Archives that no honest tool writes, each with the reason why it must be refused.

use crate::tar::{gzip, record, Header, Tar};

/// An attack: a claim, the archive, and a word of the expected reason.
pub type Attack = (&'static str, Vec<u8>, &'static str);

fn base() -> Tar {
    Tar::default().dir("x-1/").file("x-1/COPYING", b"GPL").dir("x-1/src/").file("x-1/src/Makefile", b"all:\n")
}

/// All attacks.
pub fn attacks() -> Vec<Attack> {
    [names(), long_names(), symlinks(), hard_links(), kinds(), twice(), sizes(), wrapping(), layout()].concat()
}

fn names() -> Vec<Attack> {
    let name = |name: &str| base().file(name, b"evil").gz();
    vec![
        ("an absolute name", name("/etc/cron.d/evil"), "absolute"),
        ("an absolute name inside", name("//x-1/evil"), "absolute"),
        ("a name that begins with ..", name("../outside/precious"), ".."),
        ("a name that goes up and out", name("x-1/../../outside/precious"), ".."),
        ("a name that goes up and stays", name("x-1/src/../evil"), ".."),
        ("a name that ends in ..", name("x-1/.."), ".."),
        ("a hidden ..", name("./././../outside/evil"), ".."),
        ("a directory named ..", base().dir("x-1/../../made/").gz(), ".."),
        ("a name that is not UTF-8", base().raw(Header::new(b'0', b"x-1/\xff\xfe", 0), b"").gz(), "UTF-8"),
        ("overlong UTF-8 for a dot", base().raw(Header::new(b'0', b"x-1/\xc0\xae\xc0\xae/e", 0), b"").gz(), "UTF-8"),
        ("a newline in a name", name("x-1/a\nb"), "control"),
        ("a terminal escape in a name", name("x-1/\u{1b}]0;evil\u{7}"), "control"),
        ("a C1 control in a name", name("x-1/\u{9b}2J"), "control"),
        ("an empty name", name(""), "empty"),
        ("a file named .", name("./"), "slash"),
        ("a file named . without a slash", name("."), "empty"),
        ("a file whose name ends in a slash", name("x-1/evil/"), "slash"),
        ("ustar's prefix that leads out", base().raw(Header::new(b'0', b"e", 0).with(345, b"../outside"), b"").gz(), ".."),
        ("ustar's prefix that is absolute", base().raw(Header::new(b'0', b"e", 0).with(345, b"/tmp"), b"").gz(), "absolute"),
    ]
}

fn long_names() -> Vec<Attack> {
    let component = format!("x-1/{}", "n".repeat(256));
    let long = format!("x-1/{}", "d/".repeat(600));
    let deep = format!("x-1/{}f", "d/".repeat(32));
    let pax = |key: &str, value: &str| base().pax(b'x', &[(key, value)]).file("x-1/a", b"evil").gz();
    let raw_pax =
        |content: &[u8]| base().raw(Header::new(b'x', b"pax", content.len() as u64), content).file("x-1/a", b"").gz();
    let gnu = |name: &[u8]| base().long(b'L', name).file("x-1/a", b"evil").gz();
    let two = base().long(b'L', b"x-1/a").long(b'L', b"x-1/b").file("x-1/c", b"").gz();
    let both = base().long(b'L', b"x-1/a").pax(b'x', &[("path", "x-1/b")]).file("x-1/c", b"").gz();
    let twins = [record("path", "x-1/a"), record("path", "../a")].concat();
    vec![
        ("a component past NAME_MAX", gnu(component.as_bytes()), "longer than 255"),
        ("a path past the limit", gnu(long.as_bytes()), "longer than 1024"),
        ("a path too deep", gnu(deep.as_bytes()), "deeper than 32"),
        ("GNU's long name that is absolute", gnu(b"/etc/evil"), "absolute"),
        ("GNU's long name that leads out", gnu(b"../outside/evil"), ".."),
        ("GNU's long name with a NUL inside", gnu(b"x-1/a\0/../../evil"), "control"),
        ("GNU's long name that is empty", gnu(b""), "empty"),
        ("two long names in a row", two, "two names"),
        ("a long name and a pax path", both, "two names"),
        ("a long name for nothing", base().long(b'L', b"x-1/a").gz(), "not there"),
        ("a long link for nothing", base().long(b'K', b"x-1/a").gz(), "not there"),
        ("pax records for nothing", base().pax(b'x', &[("mtime", "1")]).gz(), "not there"),
        ("a long name of gigabytes", base().raw(Header::new(b'L', b"long", 0o77777777777), b"").gz(), "more than 65536"),
        ("pax records of gigabytes", base().raw(Header::new(b'x', b"pax", 0o77777777777), b"").gz(), "more than 65536"),
        ("global records of gigabytes", base().raw(Header::new(b'g', b"pax", 0o77777777777), b"").gz(), "more than 65536"),
        ("a pax path that is absolute", pax("path", "/etc/evil"), "absolute"),
        ("a pax path that leads out", pax("path", "x-1/../../outside/evil"), ".."),
        ("a pax path with a NUL", pax("path", "x-1/a\0b"), "control"),
        ("a pax path that is empty", pax("path", ""), "empty"),
        ("a pax size", pax("size", "9"), "\"size\" is not taken"),
        ("a sparse file in pax", pax("GNU.sparse.name", "/etc/evil"), "not taken"),
        ("a charset in pax", pax("hdrcharset", "BINARY"), "not taken"),
        ("a path for all that follow", base().pax(b'g', &[("path", "../evil")]).file("x-1/a", b"").gz(), "not taken"),
        ("a size for all that follow", base().pax(b'g', &[("size", "0")]).file("x-1/a", b"").gz(), "not taken"),
        ("a pax length past the end", raw_pax(b"99 path=x\n"), "malformed"),
        ("a pax length of zero", raw_pax(b"0 path=x\n"), "malformed"),
        ("a pax length past 64 bits", raw_pax(b"99999999999999999999999 path=x\n"), "malformed"),
        ("a pax length that is negative", raw_pax(b"-9 path=x\n"), "malformed"),
        ("a pax length without a number", raw_pax(b" path=x\n"), "malformed"),
        ("a pax record without an end", raw_pax(b"9 path=xx"), "malformed"),
        ("a pax record without a value", raw_pax(b"7 path\n"), "malformed"),
        ("a pax key that is no text", raw_pax(b"7 \xff\xfe=\n"), "malformed"),
        ("two paths in one header", raw_pax(twins.as_bytes()), "twice"),
        (
            "two pax headers in a row",
            base().pax(b'x', &[("mtime", "1")]).pax(b'x', &[("mtime", "2")]).file("x-1/a", b"").gz(),
            "in a row",
        ),
    ]
}

fn symlinks() -> Vec<Attack> {
    let link = |target: &str| base().symlink("x-1/l", target).gz();
    let through = |target: &str| base().symlink("x-1/l", target).file("x-1/l/evil", b"evil").gz();
    let pax = base().pax(b'x', &[("linkpath", "../../outside")]).symlink("x-1/l", "src").gz();
    let chain = base().symlink("x-1/a", ".").symlink("x-1/b", "a/..").gz();
    let ladder = base().symlink("x-1/src/up", "..").symlink("x-1/out", "src/up/../outside").gz();
    let zigzag = base().symlink("x-1/a", "src").symlink("x-1/b", "a").gz();
    vec![
        ("a link to an absolute path", link("/etc"), "absolute link"),
        ("a link out", link("../../outside"), "leads out"),
        ("a link to above the top", link(".."), "leads out"),
        ("a link down and out", link("src/../../../outside"), "leads out"),
        ("a link to nothing", link("gone"), "leads to nothing"),
        ("a link whose target is empty", link(""), "absolute link"),
        ("a link to itself", link("l"), "another link"),
        ("a link through a file", base().symlink("x-1/l", "COPYING/../gone").gz(), "leads to nothing"),
        ("a link with a control character", link("src\n"), "control"),
        ("a link that is not UTF-8", base().raw(Header::new(b'2', b"x-1/l", 0).link(b"\xff"), b"").gz(), "UTF-8"),
        ("a file through a link out", through("../../outside"), "no directory"),
        ("a file through a link inside", through("src"), "no directory"),
        ("a directory through a link", base().symlink("x-1/l", "../../outside").dir("x-1/l/made").gz(), "no directory"),
        ("links that lead out together", chain, "another link"),
        ("a ladder of links", ladder, "another link"),
        ("a link to a link", zigzag, "another link"),
        ("pax's link out", pax, "leads out"),
        ("GNU's long link out", base().long(b'K', b"../../outside").symlink("x-1/l", "src").gz(), "leads out"),
        (
            "a file in place of a link",
            base().symlink("x-1/l", "../../outside/precious").file("x-1/l", b"evil").gz(),
            "twice",
        ),
        ("a link in place of a directory", base().dir("x-1/d/").symlink("x-1/d", "../../outside").gz(), "twice"),
        ("a link in place of an implied directory", base().file("x-1/d/f", b"").symlink("x-1/d", "/").gz(), "twice"),
        ("the top is a link", Tar::default().symlink("x-1", "outside").gz(), "outside the top"),
        ("a link with content", base().raw(Header::new(b'2', b"x-1/l", 3).link(b"src"), b"src").gz(), "has content"),
        (
            "make's directory is a link",
            Tar::default().file("x-1/real/Makefile", b"").symlink("x-1/src", "real").gz(),
            "no directory x-1/src",
        ),
    ]
}

fn hard_links() -> Vec<Attack> {
    let link = |target: &str| base().hardlink("x-1/h", target).gz();
    let write = base().hardlink("x-1/h", "../outside/precious").file("x-1/h", b"evil").gz();
    vec![
        ("a hard link out", link("../outside/precious"), ".."),
        ("a hard link to an absolute path", link("/etc/shadow"), "absolute"),
        ("a hard link out and a file over it", write, ".."),
        ("a hard link to nothing", link("x-1/gone"), "no file before"),
        ("a hard link without a target", link(""), "no file before"),
        ("a hard link to a directory", link("x-1/src"), "no file before"),
        ("a hard link to itself", link("x-1/h"), "no file before"),
        ("a hard link to a later file", base().hardlink("x-1/h", "x-1/z").file("x-1/z", b"").gz(), "no file before"),
        ("a hard link to a link", base().symlink("x-1/l", "/etc/shadow").hardlink("x-1/h", "x-1/l").gz(), "no file before"),
        ("a hard link over a file", base().hardlink("x-1/src/Makefile", "x-1/COPYING").gz(), "twice"),
        (
            "a hard link with content",
            base().raw(Header::new(b'1', b"x-1/h", 1).link(b"x-1/COPYING"), b"x").gz(),
            "has content",
        ),
    ]
}

fn kinds() -> Vec<Attack> {
    let kind = |kind: u8| base().raw(Header::new(kind, b"x-1/k", 0).mode(0o6777), b"").gz();
    vec![
        ("a character device", kind(b'3'), "device"),
        ("a block device", kind(b'4'), "device"),
        ("a fifo", kind(b'6'), "fifo"),
        ("a sparse file", kind(b'S'), "sparse"),
        ("a contiguous file", kind(b'7'), "type '7'"),
        ("a volume label", kind(b'V'), "type 'V'"),
        ("a continued volume", kind(b'M'), "type 'M'"),
        ("a dump of directory names", kind(b'D'), "type 'D'"),
        ("a socket of cpio", kind(b's'), "type 's'"),
        ("an inode of Solaris", kind(b'I'), "type 'I'"),
        ("a pax header of Solaris", kind(b'X'), "type 'X'"),
        ("an unknown type", kind(b'\x80'), "type"),
        ("a directory with content", base().raw(Header::new(b'5', b"x-1/d", 4), b"evil").gz(), "has content"),
    ]
}

fn twice() -> Vec<Attack> {
    vec![
        ("a file twice", base().file("x-1/COPYING", b"evil").gz(), "twice"),
        ("a file twice by a dot", base().file("x-1/./COPYING", b"evil").gz(), "twice"),
        ("a file twice by a slash", base().file("x-1//COPYING", b"evil").gz(), "twice"),
        ("a directory twice", base().dir("x-1/src").gz(), "twice"),
        ("a directory in place of a file", base().dir("x-1/COPYING").gz(), "twice"),
        ("a file in place of a directory", base().file("x-1/src", b"evil").gz(), "twice"),
        ("a file below a file", base().file("x-1/COPYING/evil", b"evil").gz(), "no directory"),
    ]
}

fn sizes() -> Vec<Attack> {
    let size = |field: &[u8]| base().raw(Header::new(b'0', b"x-1/big", 0).with(124, field), b"").gz();
    let zeros = vec![0; 10 << 20];
    let many = (0..20_001).fold(base(), |t, i| t.file(&format!("x-1/f{i}"), b""));
    let noise = |i: u64| format!("{:x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(2);
    let headers = (0..20_001).fold(base(), |t, i| t.pax(b'g', &[("comment", &noise(i))]));
    let mut tail = base().end();
    tail.resize(10 << 20, 0);
    vec![
        ("a file past the limit", size(b"00777777777\0"), "more than 67108864"),
        ("a file of 8 GiB", size(b"77777777777\0"), "more than 67108864"),
        ("a file of 2^62 bytes", size(b"\x80\0\0\0\x40\0\0\0\0\0\0\0"), "octal"),
        ("a file of a negative size", size(&[0xff; 12]), "size"),
        ("a size that is no number", size(b"many\0"), "not a number"),
        ("a size that is signed", size(b"-0000000001\0"), "not a number"),
        ("a file that expands", base().file("x-1/zeros", &zeros).gz(), "expands more than 100 times"),
        ("an end that expands", gzip(&tail), "expands more than 100 times"),
        ("entries without end", many.gz(), "more than 20000 entries"),
        ("headers without end", headers.gz(), "more than 20000 entries"),
        (
            "a mode that is no number",
            base().raw(Header::new(b'0', b"x-1/f", 0).with(100, b"rwxr-xr"), b"").gz(),
            "not a number",
        ),
    ]
}

fn wrapping() -> Vec<Attack> {
    let tar = base().end();
    let good = gzip(&tar);
    let cut = |n: usize| gzip(&tar[..n]);
    let change = |at: usize| {
        let mut bytes = good.clone();
        let at = if at < 100 { at } else { bytes.len() + at - 1000 };
        bytes[at] ^= 0xff;
        bytes
    };
    let mut sum = tar.clone();
    sum[148] ^= 1;
    let mut named = good[..10].to_vec();
    named[3] |= 8;
    named.extend(vec![b'n'; 1 << 20]);
    named.extend(&good[10..]);
    vec![
        ("nothing at all", Vec::new(), "it is empty"),
        ("one byte", vec![0x1f], "neither a gzip"),
        ("a gzip's two first bytes", vec![0x1f, 0x8b], "unpacking"),
        ("a page instead", b"<html>please log in</html>".to_vec(), "an HTML page"),
        ("an xz header and no more", b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46".to_vec(), "unpacking"),
        ("a gzip of nothing", gzip(b""), "no end"),
        ("a gzip of text", gzip(b"hello"), "unpacking"),
        ("an archive without entries", Tar::default().gz(), "empty"),
        ("only the archive's own directory", Tar::default().dir("./").gz(), "empty"),
        ("no end", cut(tar.len() - 1024), "no end"),
        ("cut in a file", cut(1025), "cut off"),
        ("cut in a header", cut(700), "unpacking"),
        ("data after the end", gzip(&[tar.clone(), b"evil".to_vec()].concat()), "data after its end"),
        ("an archive after the end", gzip(&[tar.clone(), tar.clone()].concat()), "data after its end"),
        ("an entry after one zero block", gzip(&[vec![0; 512], tar].concat()), "data after its end"),
        ("bytes after the gzip", [good.clone(), b"evil".to_vec()].concat(), "after its gzip member"),
        ("zeros after the gzip", [good.clone(), vec![0; 8]].concat(), "after its gzip member"),
        ("two gzip members", [good.clone(), good.clone()].concat(), "several gzip members"),
        ("a wrong checksum of gzip", change(1000 - 8), "unpacking"),
        ("a wrong length of gzip", change(1000 - 1), "unpacking"),
        ("another method than deflate", change(2), "unpacking"),
        ("a gzip header without end", named, "unpacking"),
        ("a wrong checksum of a header", gzip(&sum), "checksum"),
    ]
}

fn layout() -> Vec<Attack> {
    let name = format!("{}/src/Makefile", "x".repeat(101));
    let long = Tar::default().long(b'L', name.as_bytes()).file("x/src/Makefile", b"").gz();
    let top = |top: &str| Tar::default().file(&format!("{top}/src/Makefile"), b"").gz();
    vec![
        ("a file beside the top", base().file("evil", b"evil").gz(), "outside the top"),
        ("a file instead of the top", Tar::default().file("x-1", b"evil").gz(), "outside the top"),
        ("a second top", base().file("y-1/evil", b"evil").gz(), "outside the top"),
        ("an empty second top", base().dir("y-1/").gz(), "outside the top"),
        ("a top that is an option", top("--eval=x"), "not plain"),
        ("a top with a shell's words", top("x;$(reboot)"), "not plain"),
        ("a top with a space", top("x 1"), "not plain"),
        ("a top with a colon", top("x:1"), "not plain"),
        ("a hidden top", top(".x"), "not plain"),
        ("a top that is too long", long, "not plain"),
        ("no directory for make", Tar::default().file("x-1/Makefile", b"").gz(), "no directory x-1/src"),
        ("a file where make runs", Tar::default().file("x-1/src", b"").gz(), "no directory x-1/src"),
    ]
}
