//! Tiles (Intel AMX): eight registers of up to 16 rows of 64 bytes, and products of two of them added to a third.
//!
//! ```text
//! dot of bfloat16 pairs   c[m][n] += sum_k a[m][2k] b[k][2n] + sum_k a[m][2k+1] b[k][2n+1]
//! dot of bytes            c[m][n] += sum_k sum_i a[m][4k+i] b[k][4n+i]       (a signed, b not; exact)
//! ```
//!
//! Each of the two sums of a bfloat16 product is a chain over ascending `k` that begins at 0; subnormal numbers count as
//! zero. (Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3; `tests` below hold it against
//! chains of fused multiply-adds.) Instructions are written as assembly, since the intrinsics are not stable.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Rows of a tile.
pub const ROWS: usize = 16;

/// Bytes of a row of a tile.
pub const ROW_BYTES: usize = 64;

/// Whether this processor has tiles and the system lets this process use them: Linux asks to be asked, once a process.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && is_permitted())
}

/// Bits 22, 24 and 25: bfloat16, tiles, bytes.
fn has_tiles() -> bool {
    const NEEDED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    #[allow(unused_unsafe)] // safe in newer versions of Rust
    // SAFETY: every x86-64 processor has the instruction; where it lacks leaf 7 the bits are those of another leaf, and
    // `Isa::Amx` has asked for AVX-512 before.
    let leaf = unsafe { __cpuid_count(7, 0) };
    leaf.edx & NEEDED == NEEDED
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call reads and writes no memory of this process; an unknown request is answered with an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The shapes of the eight registers: rows and bytes of a row of each.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Palette {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The registers of this thread, in some shapes, until this is dropped.
pub struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Gives register `i` the shape `shapes[i]`: rows and bytes of a row; none where either is 0.
    ///
    /// # Safety
    /// `Isa::Amx.is_available()` must have said so. There is one such value in a thread at a time.
    ///
    /// # Panics
    /// Where a shape is larger than a register.
    pub unsafe fn new(shapes: [(usize, usize); 8]) -> Tiles {
        let mut palette = Palette { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for (i, (rows, bytes)) in shapes.into_iter().enumerate() {
            assert!(rows <= ROWS && bytes <= ROW_BYTES);
            if rows > 0 && bytes > 0 {
                (palette.rows[i], palette.row_bytes[i]) = (rows as u8, bytes as u16);
            }
        }
        // SAFETY: the caller's processor has the instruction; it reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const palette, options(nostack, readonly)) };
        Tiles(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there is a value, hence the instruction. Without tiles in use a change of threads is cheaper.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `zero!(0, 1, ...)`: sets registers to 0.
macro_rules! zero {
    ($($tile:literal),+) => {
        core::arch::asm!($(concat!("tilezero tmm", $tile)),+, options(nostack, nomem))
    };
}

/// `load!(4, pointer, stride)`: reads a register, its rows `stride` bytes apart.
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        core::arch::asm!(
            concat!("tileloadd tmm", $tile, ", [{} + {}]"),
            in(reg) $from,
            in(reg) $stride,
            options(nostack, readonly),
        )
    };
}

/// `store!(0, pointer, stride)`: writes a register.
macro_rules! store {
    ($tile:literal, $to:expr, $stride:expr) => {
        core::arch::asm!(
            concat!("tilestored [{} + {}], tmm", $tile),
            in(reg) $to,
            in(reg) $stride,
            options(nostack),
        )
    };
}

/// `dot_pairs!(c, a, b)`: adds the product of two tiles of pairs of bfloat16 numbers.
macro_rules! dot_pairs {
    ($c:literal, $a:literal, $b:literal) => {
        core::arch::asm!(concat!("tdpbf16ps tmm", $c, ", tmm", $a, ", tmm", $b), options(nostack, nomem))
    };
}

/// `dot_bytes!(c, a, b)`: adds the product of a tile of signed bytes and one of unsigned ones.
macro_rules! dot_bytes {
    ($c:literal, $a:literal, $b:literal) => {
        core::arch::asm!(concat!("tdpbsud tmm", $c, ", tmm", $a, ", tmm", $b), options(nostack, nomem))
    };
}

pub(crate) use {dot_bytes, dot_pairs, load, store, zero};

/// Multiply-adds of a product of two whole tiles of pairs.
pub const PRODUCTS: usize = ROWS * ROWS * ROW_BYTES / size_of::<half::bf16>();

/// `4 steps` products of two whole tiles whose numbers are `factor`, in four chains that need not wait for each other: what
/// tiles can do at most. The sum of all chains, so that none is left out.
///
/// # Panics
/// Where this processor has no tiles.
pub fn chains(factor: f32, steps: usize) -> f32 {
    assert!(super::Isa::Amx.is_available());
    let numbers = [super::round_to_bf16(factor); ROWS * ROW_BYTES / size_of::<half::bf16>()];
    let mut sums = [[0.0f32; ROWS]; ROWS];
    let mut total = 0.0;
    // SAFETY: tiles are available; both arrays have 16 rows of 64 bytes, and nothing that has tiles of its own is called.
    unsafe {
        let _tiles = Tiles::new([(ROWS, ROW_BYTES); 8]);
        zero!(0, 1, 2, 3);
        load!(4, numbers.as_ptr(), ROW_BYTES);
        load!(5, numbers.as_ptr(), ROW_BYTES);
        for _ in 0..steps {
            dot_pairs!(0, 4, 5);
            dot_pairs!(1, 4, 5);
            dot_pairs!(2, 4, 5);
            dot_pairs!(3, 4, 5);
        }
        store!(0, sums.as_mut_ptr(), ROW_BYTES);
        total += sums[0][0];
        store!(1, sums.as_mut_ptr(), ROW_BYTES);
        total += sums[0][0];
        store!(2, sums.as_mut_ptr(), ROW_BYTES);
        total += sums[0][0];
        store!(3, sums.as_mut_ptr(), ROW_BYTES);
        total += sums[0][0];
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};
    use crate::simd::{Isa, round_to_bf16};
    use half::bf16;

    /// Rows that nobody may write behind those of a tile.
    const SPARE: usize = 2;

    #[test]
    fn products_of_pairs_are_two_chains() {
        if !Isa::Amx.is_available() {
            return;
        }
        for (rows, units, seed) in [(16, 16, 1), (1, 16, 2), (7, 5, 3), (16, 1, 4)] {
            let mut noise = vec![0.0; 3 * 512];
            Philox::new(seed, Stream::Test, 0).fill_normal(&mut noise, 1.0);
            let half =
                |range: std::ops::Range<usize>| noise[range].iter().map(|&x| round_to_bf16(x)).collect::<Vec<_>>();
            let (a, b) = (half(0..512), half(512..1024));
            let mut c = [[0.5f32; 16]; ROWS + SPARE];
            c[..16].as_flattened_mut().copy_from_slice(&noise[1024..1280]);
            let before = c;
            // SAFETY: tiles are available; the three arrays have at least `rows` or `units` rows of 64 bytes.
            unsafe {
                let shapes = [(rows, 64), (rows, 4 * units), (units, 64)];
                let _tiles = Tiles::new(std::array::from_fn(|i| shapes.get(i).copied().unwrap_or_default()));
                load!(0, c.as_ptr(), 64usize);
                load!(1, a.as_ptr(), 64usize);
                load!(2, b.as_ptr(), 64usize);
                dot_pairs!(0, 1, 2);
                store!(0, c.as_mut_ptr(), 64usize);
            }
            for (m, row) in c.iter().enumerate() {
                for (n, &x) in row.iter().enumerate() {
                    let chain = |odd: usize| {
                        (0..units).fold(0.0f32, |sum, k| {
                            let [a, b]: [bf16; 2] = [a[m * 32 + 2 * k + odd], b[k * 32 + 2 * n + odd]];
                            a.to_f32().mul_add(b.to_f32(), sum)
                        })
                    };
                    let expected = if m < rows { before[m][n] + (chain(0) + chain(1)) } else { before[m][n] };
                    assert_eq!(x.to_bits(), expected.to_bits(), "{rows} {units}: {m} {n}");
                }
            }
        }
    }

    #[test]
    fn chains_add_up_all_products() {
        if Isa::Amx.is_available() {
            assert_eq!(chains(0.5, 3), 4.0 * 3.0 * 32.0 * 0.25);
        }
    }

    #[test]
    fn products_of_bytes_are_exact() {
        if !Isa::Amx.is_available() {
            return;
        }
        let a: Vec<i8> = (0..16 * 64).map(|i| (i * 37 % 251) as i8).collect();
        let b: Vec<u8> = (0..16 * 64).map(|i| (i * 91 % 256) as u8).collect();
        let mut c = [[7i32; 16]; 16];
        // SAFETY: tiles are available; the arrays have 16 rows of 64 bytes.
        unsafe {
            let _tiles = Tiles::new([(16, 64); 8]);
            zero!(0);
            load!(1, a.as_ptr(), 64usize);
            load!(2, b.as_ptr(), 64usize);
            dot_bytes!(0, 1, 2);
            store!(0, c.as_mut_ptr(), 64usize);
        }
        for (m, row) in c.iter().enumerate() {
            for (n, &x) in row.iter().enumerate() {
                let at = |k: usize| i32::from(a[m * 64 + k]) * i32::from(b[k / 4 * 64 + 4 * n + k % 4]);
                assert_eq!(x, (0..64).map(at).sum::<i32>());
            }
        }
    }
}
