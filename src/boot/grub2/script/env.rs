//! `load_env` and `save_env` (GRUB's `grub-core/commands/loadenv.c`), on the files below the root; changes stay in memory.

use super::eval::Machine;
use crate::boot::grubenv;
use std::path::PathBuf;

impl Machine<'_> {
    /// The file of `load_env` and `save_env`, with the names after the options.
    fn env_args(&mut self, args: &[String]) -> (String, Vec<String>) {
        let mut file = None;
        let mut names = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "-f" || arg == "--file" {
                file = args.next().cloned();
            } else if let Some(path) = arg.strip_prefix("--file=").or_else(|| arg.strip_prefix("-f")) {
                file = Some(path.to_owned());
            } else if arg != "-s" && arg != "--skip-sig" {
                names.push(arg.clone());
            }
        }
        let default = || format!("{}/grubenv", self.get("prefix").unwrap_or_default());
        (file.unwrap_or_else(default), names)
    }

    fn env_path(&mut self, spec: &str) -> Option<PathBuf> {
        // The external block of newer rhboot GRUBs is a list of disk blocks ("512+1"), not a file.
        let blocks = crate::boot::image::strip_device(spec);
        if !blocks.starts_with('/') {
            self.doubt(
                format!("the environment lies outside the file system ({spec}) and cannot be read from here"),
                "grub2-editenv - list shows it; vfguard cannot hold the default on this machine",
            );
            return None;
        }
        self.locate(spec)
    }

    pub(super) fn load_env(&mut self, args: &[String]) -> i32 {
        let (spec, names) = self.env_args(args);
        let Some(path) = self.env_path(&spec) else { return 1 };
        // Both names of a linked file are the same file.
        let path = self.world.host.name(&self.real(&path));
        if !self.state.env.contains_key(&path) {
            let variables = self.read_env(&path);
            self.state.env.insert(path.clone(), variables);
        }
        let variables = self.state.env.get(&path).cloned().unwrap_or_default();
        for (name, value) in variables {
            if names.is_empty() || names.contains(&name) {
                self.set(&name, value);
            }
        }
        self.state.env_file.get_or_insert(path);
        0
    }

    fn real(&self, path: &std::path::Path) -> PathBuf {
        let real = self.world.host.path(path);
        if self.world.host.is_live() {
            real.canonicalize().unwrap_or(real)
        } else {
            real
        }
    }

    fn read_env(&mut self, path: &std::path::Path) -> Vec<(String, String)> {
        let name = path.display().to_string();
        let remedy = format!("rm {name} && {} {name} create", grubenv::tool(path));
        let planned = self.world.content(path).map(<[u8]>::to_vec);
        let block = match planned.map_or_else(|| grubenv::read(&self.world.host.path(path)), Ok) {
            Ok(block) => block,
            Err(e) => {
                self.doubt(format!("reading {name}: {e}"), remedy);
                return Vec::new();
            }
        };
        match grubenv::variables(&block) {
            Ok((variables, whole)) => {
                if block.len() != grubenv::SIZE {
                    self.doubt(format!("{name} is {} bytes long and not {}", block.len(), grubenv::SIZE), remedy);
                } else if !whole {
                    self.doubt(format!("{name} holds a line that does not end"), remedy);
                }
                variables
            }
            Err(bad) => {
                self.doubt(format!("{name} is no GRUB environment block: {bad}"), remedy);
                Vec::new()
            }
        }
    }

    /// `[ -s FILE ]`, by which grub.cfg asks whether there is an environment.
    pub(super) fn has_content(&mut self, path: &std::path::Path) -> bool {
        if let Some(content) = self.world.content(path) {
            return !content.is_empty();
        }
        grubenv::has_content(&self.world.host.path(path)).unwrap_or_else(|why| {
            self.doubt(format!("whether {} is empty cannot be told: {why}", path.display()), "vfguard next-boot, once more");
            false
        })
    }

    pub(super) fn save_env(&mut self, args: &[String]) -> i32 {
        let (spec, names) = self.env_args(args);
        let Some(path) = self.env_path(&spec) else { return 1 };
        let path = self.world.host.name(&self.real(&path));
        if !self.world.writable {
            return 1;
        }
        if !self.state.env.contains_key(&path) {
            let variables = self.read_env(&path);
            self.state.env.insert(path.clone(), variables);
        }
        for name in names {
            let value = self.get(&name).map(str::to_owned);
            if let Some(variables) = self.state.env.get_mut(&path) {
                variables.retain(|(n, _)| *n != name);
                variables.extend(value.map(|v| (name, v)));
            }
        }
        0
    }
}
