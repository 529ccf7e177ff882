//! Vectors of sixteen floats, written once and compiled for each instruction set.
//!
//! A kernel is a struct that implements [`Kernel`]: its `run` is generic over [`Simd`] and marked `#[inline(always)]`.
//! [`dispatch`] compiles it for each instruction set and calls the one that `isa` names:
//!
//! ```
//! use subgpt_core::simd::{dispatch, isa, Kernel, Simd, LANES};
//!
//! struct Scale<'a> { x: &'a mut [f32], by: f32 }
//! impl Kernel for Scale<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) {
//!         let by = s.splat(self.by);
//!         let (chunks, tail) = self.x.as_chunks_mut::<LANES>();
//!         for chunk in chunks {
//!             s.store(chunk, s.mul(s.load(chunk), by));
//!         }
//!         s.store_tail(tail, s.mul(s.load_tail(tail, 0.0), by));
//!     }
//! }
//! let mut x = vec![1.5; 37];
//! dispatch(isa::current(), Scale { x: &mut x, by: 2.0 });
//! assert_eq!(x, vec![3.0; 37]);
//! ```
//!
//! A vector has [`LANES`] = 16 floats everywhere: one register on AVX-512, two on AVX2, an array in portable code. Loops,
//! tails and reduction trees are therefore the same on every path, and AVX2 and AVX-512 give the same bits. The portable
//! path has no fused multiply-add (it would be a call into libm), so its last bits differ.
//!
//! Numbers in memory are float32 or bfloat16 ([`Element`]), in registers always float32; only [`Simd::dot`] multiplies
//! bfloat16 numbers as they are. Rounding to bfloat16 gives the same bits on every path, the dot product does not.
//!
//! The `unsafe` of vector code lives in this folder, in `kernels/**/micro`, in `tokenizer/pretokenize/window` (and in
//! `kernels/attention/transpose.rs`, whose instructions every x86-64 has): a [`Simd`] value exists only inside
//! [`dispatch`], where the instruction set was found to be there, so its methods are safe.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod element;
pub mod isa;
mod lane;
pub mod math;
mod portable;
mod prefetch;

pub use element::{Element, pair_of, round_to_bf16};
pub use half::bf16;
pub use isa::Isa;
pub use lane::{LANES, Simd};
pub use prefetch::{prefetch, prefetch_at, prefetch_line};

/// A piece of work that is compiled once for each instruction set.
pub trait Kernel {
    /// What the work gives back.
    type Output;
    /// Whether the work gains from instructions for bfloat16 ([`Simd::dot`], [`Simd::store_half`]); if not, it is not
    /// compiled once more for them.
    const BF16: bool = false;
    /// The work, over vectors of `S`. Mark it `#[inline(always)]`, and everything generic that it calls too: what is
    /// not inlined is compiled for the baseline instruction set.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `kernel` compiled for `isa` (for the portable path where the processor lacks it).
pub fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn on_avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(avx2::Avx2(()))
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn on_avx512<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(avx512::Avx512::<false>(()))
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn on_avx512bf16<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(avx512::Avx512::<true>(()))
        }
        if isa.is_available() {
            match isa {
                // SAFETY: the processor was just asked for these features.
                Isa::Avx512Bf16 | Isa::Amx if K::BF16 => return unsafe { on_avx512bf16(kernel) },
                // SAFETY: the processor was just asked for these features.
                Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => return unsafe { on_avx512(kernel) },
                // SAFETY: the processor was just asked for these features.
                Isa::Avx2 => return unsafe { on_avx2(kernel) },
                Isa::Portable => {}
            }
        }
    }
    let _ = isa;
    kernel.run(portable::Portable(()))
}
