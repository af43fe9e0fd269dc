//! Who may run a build at the moment. All builds of root's run as one build user, and where no namespaces can be made, whatever else that
//! user runs is ended with a build; some tests fill its limit of processes, or count what it runs.
//!
//! A test keeps its turn until its thread ends, so that nothing that it drops late is in anybody's way. Whoever waits to be alone is not
//! overtaken by newcomers who do not mind company (the standard library's lock prefers writers). This is a lock of one test program;
//! cargo runs the programs one after another.

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

/// This test does not mind builds of other tests. [`super::lab::Lab::open`] asks for it.
pub fn shared() {
    TURN.with_borrow_mut(|turn| {
        turn.get_or_insert_with(|| Turn::Shared(BUILD_USER.read().unwrap_or_else(PoisonError::into_inner)));
    });
}

/// From here on no other test runs anything as the build user. Before this, the test must not have begun a build itself.
pub fn alone() {
    TURN.with_borrow_mut(|turn| {
        if !matches!(turn, Some(Turn::Alone(_))) {
            // First let go: two that wait for each other's end would wait for ever.
            *turn = None;
            *turn = Some(Turn::Alone(BUILD_USER.write().unwrap_or_else(PoisonError::into_inner)));
        }
    });
}
