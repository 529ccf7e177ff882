//! The threads that help calls. Between two calls a helper waits awake for a moment: where one follows the other, as for
//! every token that is written, the second finds it without a wake-up.

use super::patience::Patience;
use super::team::Team;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A pool of helpers.
pub struct Helpers {
    threads: ThreadPool,
    desk: Arc<Desk>,
    /// Helpers that no call has.
    free: AtomicUsize,
}

/// Where teams that want a helper are left.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    /// The number of teams, to be read without the lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// A team for each helper that it wants.
    teams: Vec<Arc<Team>>,
    /// Threads that help, or look here for whom to help.
    awake: usize,
}

/// Helpers that a call has, to be given back at its end, also when it panics.
pub struct Taken<'a> {
    helpers: &'a Helpers,
    count: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.helpers.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

impl Helpers {
    /// `count` helpers; none where that is 0 (rayon would make one for each core), or where the system gives none.
    pub fn new(count: usize) -> Option<Self> {
        let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("subgpt-{i}"));
        let threads = if count > 0 { builder.build().ok()? } else { return None };
        let free = AtomicUsize::new(threads.current_num_threads());
        Some(Helpers { threads, desk: Arc::default(), free })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// How many no call has.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Has all that are free help `team`. Nobody waits for them: one that comes late finds that it is over.
    pub fn call(&self, team: &Arc<Team>) -> Taken<'_> {
        let taken = Taken { helpers: self, count: self.free.swap(0, Ordering::Relaxed) };
        if taken.count > 0 {
            let mut state = self.desk.lock();
            // Where no helper gets a core for a while, short calls would pile up.
            state.teams.retain(|team| !team.is_over());
            state.teams.extend(std::iter::repeat_n(team, taken.count).cloned());
            self.desk.waiting.store(state.teams.len(), Ordering::Release);
            let asleep = self.count() - state.awake;
            let woken = asleep.min(state.teams.len());
            state.awake += woken;
            drop(state);
            for _ in 0..woken {
                let desk = self.desk.clone();
                self.threads.spawn(move || desk.work());
            }
        }
        taken
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A helper's life from one sleep to the next.
    fn work(&self) {
        while let Some(team) = self.next() {
            team.help();
        }
    }

    /// The next team; none (and the thread no longer counts as awake) where none has come for a while.
    fn next(&self) -> Option<Arc<Team>> {
        let mut patience = Patience::default();
        loop {
            let is_last_look = !patience.wait();
            if self.waiting.load(Ordering::Acquire) == 0 && !is_last_look {
                continue;
            }
            let mut state = self.lock();
            let team = state.teams.pop();
            self.waiting.store(state.teams.len(), Ordering::Release);
            if team.is_none() && is_last_look {
                state.awake -= 1;
            }
            if team.is_some() || is_last_look {
                return team;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_have_ended_do_not_pile_up() {
        let helpers = Helpers::new(1).expect("the system gives a thread");
        let (release, held) = std::sync::mpsc::channel::<()>();
        helpers.threads.spawn(move || {
            let _ = held.recv(); // until the sender is dropped
        });
        for _ in 0..100 {
            let team = Arc::new(Team::new());
            let _taken = helpers.call(&team);
            team.lead(|| ());
        }
        assert_eq!(helpers.desk.lock().teams.len(), 1);
        drop(release);
    }
}
