//! Which instruction set the kernels run on: found once, chosen by `SUBGPT_ISA`, or set for a test.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

/// A family of instructions that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust that LLVM vectorises for the target's baseline.
    Portable = 1,
    /// AVX2 with FMA (x86-64-v3).
    Avx2 = 2,
    /// AVX-512 F, BW, DQ and VL (x86-64-v4).
    Avx512 = 3,
    /// The same with the bfloat16 dot product (AVX512-BF16: Zen 4, Cooper Lake, Sapphire Rapids).
    Avx512Bf16 = 4,
    /// The same with tiles of bfloat16 numbers and bytes (AMX: Sapphire Rapids and later).
    Amx = 5,
}

impl Isa {
    /// Every instruction set, the widest last.
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// The name used by `SUBGPT_ISA`, `subgpt info` and the tests.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// The instruction set of that name.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether products of bfloat16 numbers are instructions; elsewhere they are computed from float32 ones.
    pub fn has_bf16(self) -> bool {
        self >= Isa::Avx512Bf16
    }

    /// Whether products of bfloat16 numbers are faster than those of float32 ones: twice as fast on AMD's processors, and
    /// many times with tiles. Without these, on Intel's one unit does them where two multiply float32 numbers, and they take
    /// longer.
    pub fn prefers_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let is_amds = is_x86_feature_detected!("sse4a"); // which nobody else has
        #[cfg(not(target_arch = "x86_64"))]
        let is_amds = false;
        self == Isa::Amx || self.has_bf16() && is_amds
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Isa::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => {
                Isa::Avx512Bf16.is_available() && is_x86_feature_detected!("avx512vnni") && super::amx::is_available()
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// The instruction sets of this processor, the widest last.
pub fn available() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set of this call. An operation asks once, at its entry, and passes the answer down.
pub fn current() -> Isa {
    if let Some(isa) = FORCED.get() {
        return isa;
    }
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Isa::Portable,
        2 => Isa::Avx2,
        3 => Isa::Avx512,
        4 => Isa::Avx512Bf16,
        5 => Isa::Amx,
        _ => {
            let wanted = std::env::var("SUBGPT_ISA").ok().and_then(|v| Isa::from_name(v.trim()));
            let best = available().into_iter().next_back().unwrap_or(Isa::Portable);
            let isa = wanted.filter(|isa| isa.is_available()).unwrap_or(best);
            CHOSEN.store(isa as u8, Ordering::Relaxed);
            isa
        }
    }
}

/// Chooses the instruction set of every later call; `false` (and no change) where the processor lacks it.
pub fn set(isa: Isa) -> bool {
    let ok = isa.is_available();
    if ok {
        CHOSEN.store(isa as u8, Ordering::Relaxed);
    }
    ok
}

/// Runs `f` with `isa` chosen for operations that this thread starts: how a test visits every path.
///
/// # Panics
/// Where the processor lacks `isa`; ask [`Isa::is_available`] first.
pub fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    assert!(isa.is_available(), "{} is not available on this processor", isa.name());
    let before = FORCED.replace(Some(isa));
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(before);
    f()
}
