//! How long a thread looks for something before it goes to sleep, from which it takes long to wake.

/// Looks while spinning: some ten microseconds.
const SPINS: u32 = 1 << 9;

/// Looks while others may run instead: some hundred microseconds on an idle core.
const YIELDS: u32 = 1 << 8;

/// Looks that were in vain.
#[derive(Default)]
pub struct Patience(u32);

impl Patience {
    /// Waits for the next look: first spinning, then yielding. `false` once that has lasted long enough to sleep.
    pub fn wait(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        if self.0 < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        self.0 < SPINS + YIELDS
    }
}
