//! A made-up Debian mirror on loopback: real packages, real lists.

use super::support::{Reply, Server};
use super::tar::Tar;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A Debian mirror. apt sees what was published last.
pub struct Mirror {
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    pub server: Server,
}

/// Name, version, dependencies.
pub type Package = (String, &'static str, String);

impl Mirror {
    pub fn start() -> Mirror {
        let files: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        let served = files.clone();
        let server = Server::start(move |request, _| {
            // As a proxy it gets whole URLs.
            let path = request.path().trim_start_matches("http://mirror.invalid").replace("%2b", "+");
            served.lock().unwrap().get(&path).map_or_else(|| Reply::status(404), |data| Reply::ok(data))
        });
        Mirror { files, server }
    }

    pub fn sources(&self) -> String {
        format!("deb [trusted=yes] http://127.0.0.1:{} bookworm main\n", self.server.port())
    }

    /// Publishes packages. Those in `lost` are listed, but their files do not exist.
    pub fn publish(&self, packages: &[Package], lost: &[&str]) {
        self.publish_as(packages, lost, None);
    }

    /// The same, but all of them contain the files of an archive that dpkg would not have made.
    pub fn publish_as(&self, packages: &[Package], lost: &[&str], files_of_each: Option<&[u8]>) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = HashMap::new();
        let mut listed = String::new();
        for (name, version, depends) in packages {
            let control = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: test <test@example>\nDescription: made up\n{}",
                if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") }
            );
            let (tree, deb) = (dir.path().join(name), dir.path().join(format!("{name}.deb")));
            fs::create_dir_all(tree.join("DEBIAN")).unwrap();
            fs::write(tree.join("DEBIAN/control"), &control).unwrap();
            fs::create_dir_all(tree.join(format!("usr/src/{name}"))).unwrap();
            let made = Command::new("dpkg-deb")
                .args(["-Znone", "--build"])
                .args([&tree, &deb])
                .env("SOURCE_DATE_EPOCH", "1")
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            if let Some(tar) = files_of_each {
                let members = [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control_tar(&control)), ("data.tar", tar)];
                fs::write(&deb, ar(&members)).unwrap();
            }
            let (data, path) = (fs::read(&deb).unwrap(), format!("pool/{name}_{version}_amd64.deb"));
            listed += &format!("{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n", data.len(), digest(&data));
            if !lost.contains(&name.as_str()) {
                files.insert(format!("/{path}"), data);
            }
        }
        let name = "main/binary-amd64/Packages";
        let date = Command::new("date").args(["-u", "+%a, %d %b %Y %T UTC"]).env("LC_ALL", "C").output().unwrap();
        let release = format!(
            "Origin: test\nSuite: bookworm\nCodename: bookworm\nDate: {}Architectures: amd64\nComponents: main\nSHA256:\n {} {} {name}\n",
            String::from_utf8(date.stdout).unwrap(),
            digest(listed.as_bytes()),
            listed.len()
        );
        files.insert(format!("/dists/bookworm/{name}"), listed.into_bytes());
        files.insert("/dists/bookworm/Release".into(), release.into_bytes());
        *self.files.lock().unwrap() = files;
    }

    /// Signs the published lists with a key in a gpg directory.
    pub fn sign(&self, gnupg: &Path, key: &str) {
        let mut files = self.files.lock().unwrap();
        let file = gnupg.join("Release");
        fs::write(&file, &files["/dists/bookworm/Release"]).unwrap();
        gpg(gnupg, &["--yes", "--armor", "--local-user", key, "--output", "Release.gpg", "--detach-sign", "Release"]);
        files.insert("/dists/bookworm/Release.gpg".into(), fs::read(gnupg.join("Release.gpg")).unwrap());
    }

    /// Changes a byte at the end of a listed package.
    pub fn tamper(&self, name: &str) {
        let mut files = self.files.lock().unwrap();
        let (_, file) = files.iter_mut().find(|(path, _)| path.contains(&format!("/{name}_"))).unwrap();
        *file.last_mut().unwrap() ^= 1;
    }

    /// Removes the lists, but not the packages.
    pub fn lose_lists(&self) {
        self.files.lock().unwrap().retain(|path, _| !path.starts_with("/dists"));
    }

    /// How often packages with this name were requested.
    pub fn downloads(&self, name: &str) -> usize {
        self.server.requests().iter().filter(|r| r.path().contains(&format!("/pool/{name}_"))).count()
    }
}

/// Runs gpg with this directory.
pub fn gpg(gnupg: &Path, args: &[&str]) {
    let run =
        Command::new("gpg").current_dir(gnupg).arg("--homedir").arg(gnupg).args(["--batch", "--quiet"]).args(args).output();
    let run = run.unwrap();
    assert!(run.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&run.stderr));
}

fn control_tar(control: &str) -> Vec<u8> {
    Tar::default().file("./control", control.as_bytes()).end()
}

/// An archive in the format of ar(5).
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, data) in members {
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, data.len()).bytes());
        out.extend(*data);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}

fn digest(data: &[u8]) -> String {
    vfguard::driver::Digest::of(data).unwrap().to_string()
}

/// The headers of Debian's kernel with this number, packaged as Debian does.
pub fn kernel(number: u32) -> Vec<Package> {
    let mut packages = Vec::new();
    for (flavour, common) in [("amd64", "common"), ("cloud-amd64", "common"), ("rt-amd64", "common-rt")] {
        let needs =
            format!("linux-headers-6.1.0-{number}-{common} (= 1), linux-kbuild-6.1 (>= 1), linux-compiler-gcc-12-x86");
        packages.push((format!("linux-headers-6.1.0-{number}-{flavour}"), "1", needs));
    }
    packages.extend(["common", "common-rt"].map(|c| (format!("linux-headers-6.1.0-{number}-{c}"), "1", String::new())));
    packages
}

/// Headers of these kernels, a metapackage for one of them, and a newer series.
pub fn bookworm(numbers: &[u32], own: u32) -> Vec<Package> {
    let mut packages: Vec<Package> = numbers.iter().flat_map(|n| kernel(*n)).collect();
    packages.push(("linux-kbuild-6.1".into(), "1", String::new()));
    packages.push(("linux-headers-amd64".into(), "1", format!("linux-headers-6.1.0-{own}-amd64 (= 1)")));
    packages.push(("linux-headers-6.12.117+deb12-amd64".into(), "1", "linux-headers-6.12.117+deb12-common".into()));
    packages.push(("linux-headers-6.12.117+deb12-common".into(), "1", String::new()));
    packages
}
