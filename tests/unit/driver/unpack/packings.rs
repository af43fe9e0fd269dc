//! gzip, xz and plain tar, recognised by content: all are read equally strictly, and other formats are named in the error.

use super::tar::{greedy_xz, xz};
use super::*;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// The output of a tool for this input.
fn through(command: &str, content: &[u8]) -> Vec<u8> {
    let mut child = Command::new("sh").args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}");
    output.stdout
}

fn told(archive: &[u8]) -> String {
    let case = Case::new();
    let told = case.unpack(archive).map(drop).unwrap_err();
    case.assert_contained("a refusal");
    format!("{told:#}")
}

#[test]
fn each_packing_gives_the_same_result_whatever_the_file_is_called() {
    let tar = honest().file("x-1/more", &[b'm'; 3000]).end();
    for (claim, archive) in [
        ("gzip", gzip(&tar)),
        ("xz", xz(&tar, 6)),
        ("plain", tar.clone()),
        ("xz without a checksum", through("xz -c --check=none", &tar)),
        ("xz with SHA-256", through("xz -c --check=sha256", &tar)),
        ("xz in blocks", through("xz -c --block-size=512", &tar)),
        ("xz with the largest dictionary of its presets", through("xz -9ec", &tar)),
        ("xz for x86 code", through("xz -c --x86 --lzma2", &tar)),
    ] {
        let case = Case::new();
        let tree = case.unpack(&archive).unwrap_or_else(|e| panic!("{claim}: {e:#}"));
        assert_eq!((read(&tree, "COPYING"), read(&tree, "more").len()), ("GPL".into(), 3000), "{claim}");
        assert_eq!(tree.sha256(), Digest::of(&archive[..]).unwrap(), "{claim}");
        case.assert_contained(claim);
    }
}

#[test]
fn every_hostile_tar_is_refused_in_each_packing() {
    for (claim, archive, word) in &hostile::attacks() {
        let mut tar = Vec::new();
        // The archives that are hostile below gzip, except those of many megabytes.
        let whole = flate2::read::GzDecoder::new(&archive[..]).read_to_end(&mut tar).is_ok();
        if !whole || word.contains("gzip") || word.contains("20000 entries") {
            continue;
        }
        // An archive that is hostile only by its size is so only if it is compressed.
        if !word.contains("expands") {
            let case = Case::new();
            assert!(case.unpack(&tar).is_err(), "{claim}: plain, it was taken");
            case.assert_contained(claim);
            assert_plain(&case.private(), claim);
        }
        let told = told(&xz(&tar, 1));
        assert!(told.contains(word), "{claim}: {word:?} is not in {told:?}");
    }
}

#[test]
fn an_unsupported_packing_is_named_with_a_command_that_repacks_it() {
    let tar = honest().end();
    for (packer, what, words) in [
        ("bzip2 -c", "packed with bzip2", "bzip2 -dc "),
        ("zstd -qc", "packed with zstd", "zstd -dc "),
        ("lzma -c", "packed with lzma", "xz --format=lzma -dc "),
    ] {
        let case = Case::new();
        let error = case.unpack(&through(packer, &tar)).unwrap_err();
        let (told, remedy) = (format!("{error:#}"), vfguard::error::remedy(&error).unwrap().to_owned());
        assert!(told.ends_with(&format!("it is {what} (vfguard reads .tar.gz, .tar.xz and .tar)")), "{told}");
        let (_, rest) = remedy.split_once("pack it again: `").unwrap();
        let (command, then) = rest.split_once('`').unwrap();
        assert!(command.starts_with(words) && then.contains("--driver x --source NEW.tar.gz"), "{remedy}");
        let again = through(&format!("cd {} && {command}; cat NEW.tar.gz", case.dir.path().display()), b"");
        assert_eq!(read(&Case::new().unpack(&again).unwrap(), "COPYING"), "GPL");
    }
    for (claim, bytes, what, remedy) in [
        ("zip", &b"PK\x03\x04\x14\0"[..], "it is a zip archive", "unzip"),
        ("an empty zip", b"PK\x05\x06\0\0", "it is an empty zip archive", "take another archive"),
        ("7z", b"7z\xbc\xaf\x27\x1c\0", "it is a 7z archive", "7z x"),
        ("a page", b"\n<!DOCTYPE html><p>404", "it is an HTML page", "take another archive"),
        ("nothing", b"", "it is empty", "take another archive"),
        ("noise", b"no archive", "it is neither a gzip, an xz nor a tar file", "take another archive"),
    ] {
        let error = Case::new().unpack(bytes).unwrap_err();
        assert!(format!("{error:#}").contains(what), "{claim}: {error:#}");
        assert!(vfguard::error::remedy(&error).unwrap().contains(remedy), "{claim}: {error:?}");
    }
}

#[test]
fn an_xz_cut_anywhere_or_with_one_byte_changed_is_refused() {
    let whole = honest().file("x-1/more", &[b'm'; 3000]).xz();
    for end in 0..whole.len() {
        assert!(Case::new().unpack(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        assert!(Case::new().unpack(&changed).is_err(), "changed at {at} of {}", whole.len());
    }
}

#[test]
fn only_one_xz_stream_without_trailing_data_is_accepted() {
    let good = honest().xz();
    let with = |behind: &[u8]| told(&[&good[..], behind].concat());
    assert!(with(&good).contains("several xz streams"), "{}", with(&good));
    for behind in [&b"evil"[..], &[0; 4], &honest().gz()] {
        assert!(with(behind).contains("data after its xz stream"), "{}", with(behind));
    }
    let tar = honest().end();
    let (first, second) = tar.split_at(1024);
    let told = told(&[xz(first, 6), xz(second, 6)].concat());
    assert!(told.contains("cut off") || told.contains("several xz streams"), "half of it was taken: {told}");
}

#[test]
fn an_xz_costs_no_more_than_a_gzip() {
    let told = told(&honest().file("x-1/zeros", &vec![0; 10 << 20]).xz());
    assert!(told.contains("expands more than 100 times"), "{told}");
    let told = super::packings::told(&greedy_xz(&honest().end()));
    assert!(told.contains("its xz dictionary takes more than 128 MiB of memory"), "{told}");
}

#[test]
fn a_plain_tar_may_end_only_with_zeros() {
    let whole = honest().file("x-1/more", &[b'm'; 700]).end();
    for end in (0..whole.len() - 1024).step_by(64) {
        assert!(Case::new().unpack(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
    }
    let with = |behind: &[u8]| told(&[&whole[..], behind].concat());
    for behind in [&b"evil"[..], &whole, &honest().gz(), &[&[0; 8000][..], b"evil"].concat()] {
        assert!(with(behind).contains("data after its end"), "{}", with(behind));
    }
    Case::new().unpack(&[&whole[..], &[0; 9000]].concat()).unwrap();
}

#[test]
fn a_plain_tar_that_was_changed_after_its_verification_is_refused_up_to_its_last_byte() {
    let good = honest().end();
    for (claim, at, byte) in [("a file's content", 1024, b'X'), ("an owner", 108, b'1'), ("a time", 136, b'1')] {
        let case = Case::new();
        let path = case.dir.path().join("a.tar.gz");
        fs::write(&path, &good).unwrap();
        let archive = local_archive(&path, &Digest::of(&good[..]).unwrap()).unwrap();
        let mut changed = good.clone();
        assert_ne!(changed[at], byte, "{claim}");
        changed[at] = byte;
        fs::write(&path, &changed).unwrap();
        let error = unpack_within(&archive, &case.private(), &case.recipe, &case.limits).unwrap_err();
        let told = format!("{error:#}");
        assert!(told.contains("changed after it was verified") || told.contains("checksum"), "{claim}: {told}");
    }
}
