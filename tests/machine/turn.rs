//! Which test may run a build now. All builds of root run as one build user, and where no namespaces can be made, the end of a build ends
//! all processes of that user. Some tests fill its limit of processes, or count its processes.
//!
//! A test keeps its turn until its thread ends, so that nothing that it drops late disturbs others. Tests that want to share do not
//! overtake one that waits to be alone (the standard library's lock prefers writers). The lock belongs to one test program; cargo runs the
//! programs one after another.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static BUILD_USER: RwLock<()> = RwLock::new(());

#[allow(dead_code)] // the guards are held, not looked at
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// This test can share the build user with other tests. [`super::lab::Lab::open`] calls this.
pub fn shared() {
    TURN.with_borrow_mut(|turn| {
        turn.get_or_insert_with(|| Turn::Shared(BUILD_USER.read().unwrap_or_else(PoisonError::into_inner)));
    });
}

/// From here on no other test runs anything as the build user. The test must not have started a build itself before.
pub fn alone() {
    TURN.with_borrow_mut(|turn| {
        if !matches!(turn, Some(Turn::Alone(_))) {
            // Release the shared turn first: two tests that wait for each other's end would wait for ever.
            *turn = None;
            *turn = Some(Turn::Alone(BUILD_USER.write().unwrap_or_else(PoisonError::into_inner)));
        }
    });
}
