//! Which recipes a machine needs, and for which of them it may have to build a module.

use super::{claiming, origin, Survey};
use crate::config::AcceptInTree;
use crate::driver::{recipe, Numbers, Recipe};
use crate::host::devices::pci::Device;
use crate::kernel::Kernel;
use crate::verdict::judge::Binding;
use std::rc::Rc;

impl Survey<'_> {
    /// The recipes that claim a device or are required.
    pub fn needed(&self) -> Vec<&Rc<Recipe>> {
        let required = |r: &&Rc<Recipe>| self.config.drivers.required.contains(&r.name);
        let claims =
            |r: &&Rc<Recipe>| self.devices.iter().any(|d| claiming(&self.recipes, d).is_some_and(|own| own.name == r.name));
        self.recipes.iter().filter(|r| required(r) || claims(r)).collect()
    }

    /// The recipes that count where no device decides: the default one, and local ones of this machine.
    pub fn foremost(&self) -> Vec<&Rc<Recipe>> {
        let counts = |r: &&Rc<Recipe>| r.name == recipe::DEFAULT || recipe::is_local(self.host, &r.name);
        self.recipes.iter().filter(counts).collect()
    }

    /// The recipes for which a module may have to be built here. Not those whose devices an in-tree driver serves, where the settings
    /// accept it.
    pub fn may_build(&self) -> Vec<&Rc<Recipe>> {
        let bound = |d: &Device, recipe: &Recipe| match self.memory.of_device(d) {
            Some(known) => known.binding,
            None => origin::binding(self.host, &self.targets.borrow(), d, Some(recipe), self.running.as_ref()),
        };
        let builds = |recipe: &&Rc<Recipe>| match self.config.accept_in_tree {
            _ if self.config.drivers.required.contains(&recipe.name) => true,
            AcceptInTree::Never => true,
            AcceptInTree::Always => false,
            AcceptInTree::Auto | AcceptInTree::Fallback => {
                let has_release = |k: &Kernel| !recipe.candidates(&Numbers::of(self.host, &k.release)).is_empty();
                let mut claimed = self.devices.iter().filter(|d| recipe.claims(&d.modalias));
                claimed.any(|d| match bound(d, recipe) {
                    Binding::OutOfTree => true,
                    Binding::InTree => false,
                    Binding::Unbound => self.kernels.iter().any(has_release),
                })
            }
        };
        self.needed().into_iter().filter(builds).collect()
    }
}
