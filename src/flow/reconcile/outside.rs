//! Where nothing is refused: an image build, a chroot, a container, a machine on which vfguard is turned off.

use super::end::{Ended, Way};
use super::{build, keep_held, leave, left_over};
use crate::boot;
use crate::config::Config;
use crate::driver::prepare::leftovers;
use crate::flow::look::Look;
use crate::gate;
use crate::host::lock::{BootLock, WriteLock};
use crate::host::place::Place;
use crate::host::{upstart, Host};
use crate::kernel::tree::Tree;
use crate::progress::Progress;
use crate::verdict::survey::Survey;
use anyhow::Result;

/// Why vfguard neither closes a gate nor holds a default here, if so: they would not be those of this machine.
pub(super) fn hands_off(place: Place) -> Option<&'static str> {
    if place.may_hold() {
        None
    } else {
        place.hands_off()
    }
}

/// Runs where nothing is refused. In an image build, `drivers.required` are built for the kernels of the image. With vfguard turned off, or
/// without the wrappers that upstart's gate needs, an earlier hold ends. The state file of those wrappers stays: an update of upstart
/// removes the wrappers for a moment, and `vfguard-upstart remove` removes both for good.
pub(super) fn outside(
    host: &Host,
    config: &Config,
    progress: &dyn Progress,
    place: Place,
    line: &'static str,
) -> Result<Ended> {
    let mut done = Vec::new();
    let survey = Survey::new(host, config)?;
    if place == Place::Off {
        if !gate::is_clear(host) {
            gate::open(host, None)?;
            done.push("gate opened".into());
        }
    } else {
        let lock = WriteLock::take(host, config.hook.patience())?;
        done.extend(leftovers::clean(host, &lock));
        for kernel in &survey.kernels {
            for recipe in survey.recipes.iter().filter(|r| config.drivers.required.contains(&r.name)) {
                let tried = build::build(host, config, &lock, &survey, &Tree::of(host, &kernel.release), recipe, progress);
                done.push(tried.unwrap_or_else(|e| build::not_prepared(&kernel.release, recipe, &e)));
            }
        }
    }
    let mut look = Look::new(host, config)?;
    let ours = place == Place::Off || (place == Place::NoInit && upstart::is_upstart(host));
    if ours && look.held() {
        let left = BootLock::take(host).map(|lock| leave::leave(host, &lock, &look));
        let (moved, line) = left.unwrap_or_else(|e| Some((false, format!("the hold was not ended: {e:#}")))).unzip();
        done.extend(line);
        if moved == Some(true) {
            look = Look::new(host, config)?;
        }
    } else {
        done.extend(boot::held(host).and_then(|hold| left_over(config, place, &hold)));
    }
    if ours {
        done.extend(keep_held(host));
    }
    Ok(Ended { judged: look.judged(), done, failed: None, way: Way::HandsOff(line) })
}
