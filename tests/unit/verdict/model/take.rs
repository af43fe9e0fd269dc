//! What each step does to the machine, and what the model makes of it.

use super::*;
use std::time::Duration;

impl Model {
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Install { kernel, good } => {
                self.install(kernel, *good);
                self.dirty = true;
            }
            Step::Add { kernel, good } => {
                self.add(kernel, *good);
                self.dirty = true;
            }
            Step::Remove(kernel) => {
                let number = *self.kernels.iter().find(|(_, (k, _))| k == kernel).unwrap().0;
                self.kernels.remove(&number);
                self.declined.remove(kernel);
                self.machine.remove_kernel(kernel);
                // As grubby does: if the default kernel is removed, another kernel becomes the default.
                if self.machine.env("saved_entry").as_ref() == Some(kernel) {
                    let first = self.first();
                    self.set_default(&first);
                } else if self.wanted.as_ref() == Some(kernel) {
                    self.gone = true;
                }
                self.dirty = true;
            }
            Step::Driver(kernel, good) => {
                self.machine.drives(kernel, *good);
                self.kernels.values_mut().filter(|(k, _)| k == kernel).for_each(|(_, g)| *g = *good);
                self.dirty = true;
            }
            Step::Default(kernel) => {
                // Setting the default to its present value, or to the kernel that the record says it is held on (even if that run was
                // killed before it moved anything), is not noticed as a wish; `decline` is the way to say that. If the record's wanted
                // kernel was removed, the first of the menu is wanted.
                let held = boot::Hold::read(&self.host).filter(|hold| hold.held.as_str() == kernel);
                if self.entry("saved_entry").as_ref() != Some(kernel) {
                    self.set_default(kernel);
                    if let Some(hold) = held {
                        let recorded = hold.wanted.to_string();
                        self.gone = self.kernels.values().all(|(name, _)| *name != recorded);
                        self.wanted = Some(recorded);
                    }
                }
                self.dirty = true;
            }
            Step::Once(kernel) => {
                self.machine.set_env("next_entry", Some(kernel));
                self.dirty = true;
            }
            Step::Fallback(kernel) => {
                self.machine.set_env("fallback", kernel.as_deref());
                self.dirty = true;
            }
            Step::Hook => self.hook(),
            Step::KilledHook(micros) => {
                let mut child = self.machine.command(&["-q", "reconcile"]).spawn().unwrap();
                std::thread::sleep(Duration::from_micros(*micros));
                let _ = child.kill();
                let _ = child.wait();
            }
            Step::Override(kernel) => {
                let named = kernel.as_ref().map(|k| k.parse().unwrap());
                let lasts = Duration::from_secs(600);
                let over = gate::open_override(&self.host, "the model says so", named, lasts).unwrap();
                let kernels = over.kernels.iter().map(ToString::to_string).collect();
                self.over = Some(Over { kernels, left: (600, 600) });
                self.dirty = true;
            }
            Step::CloseByHand => {
                let run = self.machine.run(&["gate", "close"]);
                assert_eq!(run.code, i32::from(self.hands_off()), "{}", run.stderr);
                if run.code == 0 {
                    assert_eq!(gate::state(&self.host).state, State::Closed, "closed by hand, and it is not");
                    self.over = None;
                }
                self.dirty = true;
            }
            Step::Decline(kernel) => {
                let before = self.entry("saved_entry");
                let run = self.machine.run(&["-q", "decline", kernel]);
                assert!(matches!(run.code, 0 | 1), "decline ended with {}: {}", run.code, run.stderr);
                self.dirty |= run.code == 1;
                if run.code == 0 {
                    self.declined.insert(kernel.clone());
                    self.decided(before);
                }
            }
            Step::Accept(kernel) => {
                let before = self.entry("saved_entry");
                let run = self.machine.run(&["-q", "accept", kernel]);
                assert_eq!(run.code, i32::from(!self.declined.remove(kernel)), "{}", run.stderr);
                if run.code == 0 {
                    self.decided(before);
                }
            }
            Step::Later(seconds) => {
                self.time(*seconds, *seconds);
                self.dirty = true;
            }
            Step::Clock(seconds) => {
                self.time(*seconds, 0);
                self.dirty = true;
            }
            Step::Observe(observed) => {
                self.machine.put("etc/vfguard/config.toml", if *observed { "mode = 'observe'\n" } else { "" });
                self.observed = *observed;
                self.dirty = true;
            }
            Step::Reboot(word) => {
                let (once, next) = self.next();
                if once.is_some() {
                    self.machine.set_env("next_entry", None);
                }
                let kernel = once.unwrap_or(next);
                self.booted(kernel, word);
                // vfguard-boot.service
                self.hook();
            }
        }
    }
}
