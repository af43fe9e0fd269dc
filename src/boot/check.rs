//! A second opinion: which kernel `grubby` reports as the default. It ignores `next_entry`, may sort unlike GRUB and does not see every
//! kind of hold, so its answer is reported and decides nothing.

use super::{choose, image, NextBoot, Problem, Source};
use crate::host::command::{run, Spec};
use crate::host::Host;
use std::path::Path;
use std::time::Duration;

/// Where grubby is.
const GRUBBY: [&str; 2] = ["/usr/sbin/grubby", "/sbin/grubby"];
/// grubby reads a few files only.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks `grubby --default-kernel`, where it is installed and this is the live machine. A disagreement is reported to the user and changes
/// neither certainty nor a verdict. It is separate from [`super::next_boot`] because it starts a process.
pub fn second_opinion(host: &Host, answer: &NextBoot) -> Option<Problem> {
    let grub = matches!(answer.source, Source::GrubLegacy | Source::Grub2 | Source::Bls);
    let grubby = GRUBBY.iter().find(|p| host.is_file(p)).filter(|_| host.is_live() && grub)?;
    let silent = |why: String| {
        let remedy = "grubby --default-kernel".to_owned();
        Some(Problem { message: format!("grubby --default-kernel: {why}"), remedy })
    };
    match run(&Spec::new(grubby, ["--default-kernel"], LIMIT)) {
        Ok(outcome) if outcome.success() => disagreement(answer, &outcome.output),
        Ok(outcome) => {
            let last = outcome.output.lines().last().unwrap_or("it printed nothing").to_owned();
            silent(format!("{last} ({})", outcome.status))
        }
        Err(e) => silent(format!("{e:#}")),
    }
}

/// Compares with what grubby printed, the path of an image.
fn disagreement(answer: &NextBoot, printed: &str) -> Option<Problem> {
    let ours = &answer.lasting()?.kernel;
    let theirs = printed.lines().rev().find_map(|l| image::release_of_name(Path::new(l.trim())))?;
    (theirs != *ours).then(|| Problem {
        message: format!(
            "grubby reports {theirs} as the default; by the boot loader's own rules it is {ours}, which counts"
        ),
        remedy: format!("grubby --set-default /boot/vmlinuz-{ours} (optional: makes both agree)"),
    })
}

/// Checks whether the boot default could be moved, without moving it: the loader in charge is known, would obey a move (worked out in
/// memory), and its files are on a writable file system. Returns the file that would be written.
///
/// # Errors
/// What prevents it, with the fix.
pub fn settable(host: &Host) -> Result<String, Problem> {
    let (loaders, _) = choose::loaders(host);
    let Some(loader) = loaders.first() else {
        return Err(Problem {
            message: "no boot loader that is known is installed".into(),
            remedy: "set boot.loader = \"none\" if the kernel comes from outside".into(),
        });
    };
    let file = loader.settable(host).map_err(|e| Problem {
        message: format!("{e:#}"),
        remedy: crate::error::remedy(&e).map_or_else(|| loader.remedy(host), str::to_owned),
    })?;
    let dir = file.parent().unwrap_or(Path::new("/boot"));
    if nix::unistd::access(&host.path(dir), nix::unistd::AccessFlags::W_OK).is_err() {
        return Err(Problem {
            message: format!("{} cannot be written", dir.display()),
            remedy: format!("mount -o remount,rw the file system of {}; run this as root", dir.display()),
        });
    }
    Ok(file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{BootRole, Candidate};
    use super::*;

    fn answer(kernel: &str) -> NextBoot {
        let mut answer = NextBoot::new(Source::Bls);
        answer.kernels.push(Candidate {
            kernel: kernel.parse().unwrap(),
            role: BootRole::Next,
            entry: String::new(),
            why: String::new(),
            cmdline: String::new(),
            initrds: Vec::new(),
            unified: false,
            absent: false,
            stops: None,
        });
        answer
    }

    #[test]
    fn a_different_default_from_grubby_is_reported_and_the_same_one_is_not() {
        let ours = "5.14.0-70.13.1.el9_0.x86_64";
        for (printed, agrees) in [
            ("/boot/vmlinuz-5.14.0-70.13.1.el9_0.x86_64\n", true),
            ("/boot/vmlinuz-5.14.0-503.11.1.el9_5.x86_64\n", false),
            ("grep: warning\n/boot/vmlinuz-5.14.0-503.11.1.el9_5.x86_64\n", false),
            ("", true),
            // What grubby prints when it fails, with status 0 or before the path.
            ("rpm-sort: Invalid input \n", true),
            ("/usr/libexec/grubby/grubby-bls: fork: retry: Resource temporarily unavailable\n", true),
            ("/usr/libexec/grubby/grubby-bls: line 37: /etc/machine-id: No such file or directory\n/boot/vmlinuz-5.14.0-70.13.1.el9_0.x86_64\n", true),
            ("grub2-editenv: error: cannot rename the file /boot/grub2/grubenv.new\n/boot/vmlinuz-5.14.0-503.11.1.el9_5.x86_64\n", false),
            ("/etc/os-release: line 5: VERSION_ID: command not found\n/srv/images/boot/vmlinuz-5.14.0-503.11.1.el9_5.x86_64\n", false),
            ("/boot/vmlinuz-5.14.0-70.13.1.el9_0.x86_64\"\n/boot/vmlinuz-5.14.0-70.13.1.el9_0.x86_64\"\n", true),
        ] {
            let told = disagreement(&answer(ours), printed);
            assert_eq!(told.is_none(), agrees, "{printed:?}");
            assert!(told.is_none_or(|p| p.message.contains("503.11.1")), "{printed:?}");
        }
    }
}
