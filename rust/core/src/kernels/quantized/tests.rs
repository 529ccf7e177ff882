//! Bytes and numbers against those of the `gguf` Python package 0.19 (by hash, on numbers and bytes that both sides draw
//! alike), and bounds that follow from the formats.

use super::*;
use proptest::prelude::*;
use subgpt_testkit::noise::Noise;

/// Multiples of 2^-21 in [-4, 4).
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed);
    (0..n).map(|_| ((noise.bits() >> 40) as f32 - (1 << 23) as f32) / (1 << 21) as f32).collect()
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn encoded(format: Format, x: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xAA; x.len() / format.values() * format.bytes()];
    encode(format, x, &mut bytes).unwrap();
    bytes
}

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![f32::NAN; bytes.len() / format.bytes() * format.values()];
    decode(format, bytes, &mut x).unwrap();
    x
}

#[test]
fn one_block_has_the_reference_bytes() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let x = numbers(1, 32);
    let q8 = "0328113f78f2f2436006c94be81bf508f0ab25502e629195ffa0ca8d04378c7f1916";
    assert_eq!(hex(encoded(Format::Q8_0, &x)), q8);
    assert_eq!(hex(encoded(Format::Q4_0, &x)), "f7b767345029f9f482e8bbf38a56f908697d");
}

#[test]
fn many_blocks_have_the_reference_bytes() {
    let x = numbers(2, 32 * 64);
    let expected = [
        (Format::F16, 0xf942_641b_b704_e74b),
        (Format::BF16, 0xd4e0_5166_db8c_5df9),
        (Format::Q8_0, 0x83b8_ad7f_307e_82c6),
        (Format::Q4_0, 0xcce1_6630_166e_8248),
    ];
    for (format, hashed) in expected {
        assert_eq!(hash(&encoded(format, &x)), hashed, "{format:?}");
    }
}

/// Eight blocks of drawn bytes whose scales, at the places `halves`, are made moderate.
fn drawn(format: Format, seed: u64, halves: &[usize]) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let mut bytes: Vec<u8> = (0..8 * format.bytes()).map(|_| (noise.bits() >> 56) as u8).collect();
    for block in bytes.chunks_mut(format.bytes()) {
        halves.iter().for_each(|at| block[at + 1] = block[at + 1] & 0x83 | 0x28);
    }
    bytes
}

#[test]
fn drawn_bytes_are_the_reference_numbers() {
    // Seeds are 100 and the number of the format.
    let expected: [(Format, u64, &[usize], u64); 10] = [
        (Format::Q4_0, 102, &[0], 0x23d6_b404_1892_f60c),
        (Format::Q4_1, 103, &[0, 2], 0x1db0_1f1e_c440_b470),
        (Format::Q5_0, 106, &[0], 0x7fb3_734c_9755_26c7),
        (Format::Q5_1, 107, &[0, 2], 0xb36e_bf3a_8169_0005),
        (Format::Q8_0, 108, &[0], 0xa898_bcc8_2334_6155),
        (Format::Q2_K, 110, &[80, 82], 0xb00d_2ffe_4f75_9ecc),
        (Format::Q3_K, 111, &[108], 0x030c_4fe7_fdd0_4f0d),
        (Format::Q4_K, 112, &[0, 2], 0x85a3_b5d7_fe76_1de4),
        (Format::Q5_K, 113, &[0, 2], 0x4992_7432_a9be_5da9),
        (Format::Q6_K, 114, &[208], 0x31ef_aeee_c704_ace1),
    ];
    for (format, seed, halves, hashed) in expected {
        let x = decoded(format, &drawn(format, seed, halves));
        // Without the sign of zeros, which depends on the order of factors.
        let bytes: Vec<u8> = x.iter().flat_map(|&x| if x == 0.0 { [0; 4] } else { x.to_le_bytes() }).collect();
        assert_eq!(hash(&bytes), hashed, "{format:?}: {:?}", &x[..8]);
    }
}

#[test]
fn every_float16_is_widened_and_comes_back() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    // Lengths that are no multiple of what is converted at a time.
    for n in [0, 1, 63, 65, 1000, 65_536] {
        let x = decoded(Format::F16, &all[..2 * n]);
        for (i, x) in x.iter().enumerate() {
            let half = half::f16::from_bits(i as u16);
            assert!(half.to_f32() == *x || half.is_nan() && x.is_nan(), "{i}: {x}");
        }
        let bytes = encoded(Format::F16, &x);
        let same = |(i, bytes): (usize, &[u8])| x[i].is_nan() || bytes == &all[2 * i..2 * i + 2];
        assert!(bytes.chunks(2).enumerate().all(same));
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in Format::ALL.into_iter().filter(|format| format.encodes()) {
        for zero in [0.0, -0.0] {
            assert!(decoded(format, &encoded(format, &[zero; 64])).iter().all(|&x| x == 0.0), "{format:?}");
        }
    }
}

#[test]
fn float_formats_keep_what_is_no_number_and_blocks_refuse_it() {
    let x = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e-40, -1.0].repeat(32);
    for format in [Format::F32, Format::F16, Format::BF16] {
        let y = decoded(format, &encoded(format, &x));
        assert!(y[0].is_nan() && y[1..3] == x[1..3] && y[4] == -1.0, "{format:?}");
    }
    for format in [Format::Q8_0, Format::Q4_0] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = [0.5; 64];
            x[37] = bad;
            let error = encode(format, &x, &mut vec![0; 2 * format.bytes()]).unwrap_err().to_string();
            assert!(error.contains("position 37") && error.contains(&format!("{format:?}")), "{error}");
        }
    }
}

#[test]
fn numbers_that_would_become_infinite_are_refused() {
    let limits = [(Format::F16, 65_520.0), (Format::Q8_0, 127.0 * 65_520.0), (Format::Q4_0, 8.0 * 65_520.0)];
    for (format, limit) in limits {
        let size = 32 / format.values() * format.bytes();
        for sign in [1.0, -1.0] {
            assert!(encode(format, &[sign * limit; 32], &mut vec![0; size]).is_err(), "{format:?}");
            let below = f32::next_down(limit);
            assert!(decoded(format, &encoded(format, &[sign * below; 32])).iter().all(|x| x.is_finite()), "{format:?}");
        }
    }
    assert!(encode(Format::BF16, &[f32::MAX], &mut [0; 2]).is_err());
    assert!(decoded(Format::BF16, &encoded(Format::BF16, &[3.38e38]))[0].is_finite());
}

#[test]
fn lengths_that_do_not_fit_and_formats_that_are_only_read_are_errors() {
    for format in Format::ALL {
        let (n, bytes) = (format.values(), format.bytes());
        assert!(decode(format, &vec![0; bytes], &mut vec![0.0; n]).is_ok() && decode(format, &[], &mut []).is_ok());
        for (values, size) in [(n, bytes - 1), (n, bytes + 1), (2 * n, bytes), (0, bytes)] {
            let (mut x, mut out) = (vec![0.0; values], vec![0; size]);
            assert!(decode(format, &out, &mut x).is_err() && encode(format, &x, &mut out).is_err(), "{format:?}");
        }
        if n > 1 {
            assert!(decode(format, &vec![0; bytes], &mut vec![0.0; n + 1]).is_err());
        }
        assert_eq!(encode(format, &vec![0.0; n], &mut vec![0; bytes]).is_ok(), format.encodes());
    }
}

proptest! {
    #[test]
    fn rounding_stays_within_a_step(x in prop::collection::vec(-1e3f32..1e3, 32), scale in -20i32..10) {
        let x: Vec<f32> = x.iter().map(|x| x * 2f32.powi(scale)).collect();
        let largest = x.iter().fold(0f64, |largest, x| largest.max(f64::from(x.abs())));
        // Half a step, and what rounding the scale to float16 (2^-11 of it, or half its smallest number) adds. In Q4_0
        // the value opposite to the largest one is cut to 7 steps, which is a whole step.
        for (format, steps, whole) in [(Format::Q8_0, 127.0, 0.5), (Format::Q4_0, 8.0, 1.0)] {
            let y = decoded(format, &encoded(format, &x));
            let bound = largest / steps * whole + largest / 2048.0 + steps / f64::powi(2.0, 25) + 1e-6 * largest;
            for (x, y) in x.iter().zip(y) {
                prop_assert!((f64::from(*x) - f64::from(y)).abs() <= bound, "{format:?}: {x} {y} {bound}");
            }
        }
    }

    #[test]
    fn float_formats_give_the_nearest_number(bits in any::<u32>()) {
        let x = f32::from_bits(bits);
        prop_assume!(x.is_finite());
        let near = |format: Format, neighbours: &dyn Fn(i32) -> f32| {
            let mut bytes = [0; 2];
            if encode(format, &[x], &mut bytes).is_err() {
                return true;
            }
            let code = i32::from(u16::from_le_bytes(bytes));
            let error = |y: f32| if y.is_nan() { f64::INFINITY } else { (f64::from(y) - f64::from(x)).abs() };
            let own = error(neighbours(code));
            let other = [code - 1, code + 1].into_iter().map(|code| error(neighbours(code & 0xFFFF)));
            other.into_iter().all(|other| own < other || own == other && code % 2 == 0)
        };
        prop_assert!(near(Format::F16, &|code| half::f16::from_bits(code as u16).to_f32()));
        prop_assert!(near(Format::BF16, &|code| half::bf16::from_bits(code as u16).to_f32()));
    }

    #[test]
    fn any_bytes_are_decoded(which in 0usize..13, seed in any::<u64>()) {
        let format = Format::ALL[which];
        let mut noise = Noise::new(seed);
        let bytes: Vec<u8> = (0..3 * format.bytes()).map(|_| noise.bits() as u8).collect();
        decoded(format, &bytes);
    }
}

#[test]
fn results_are_the_same_for_any_number_of_threads() {
    let x = numbers(7, 3 * rows::TASK + 256);
    let own = parallel::num_threads();
    let all = |threads| {
        parallel::set_num_threads(threads);
        [Format::F16, Format::Q8_0, Format::Q4_0].map(|format| encoded(format, &x))
    };
    assert_eq!(all(1), all(3));
    parallel::set_num_threads(own);
}

#[test]
fn any_part_of_the_numbers_can_be_decoded_alone() {
    let mut noise = Noise::new(9);
    for format in Format::ALL {
        let (blocks, values) = (3, format.values());
        let bytes: Vec<u8> = noise.normal(blocks * format.bytes(), 60.0).iter().map(|x| *x as i8 as u8).collect();
        let mut all = vec![0.0; blocks * values];
        decode(format, &bytes, &mut all).unwrap();
        for first in 0..=all.len() {
            for len in [0, 1, 2, values - values / 2, values, values + 1, all.len()] {
                let mut part = vec![f32::NAN; len];
                let result = decode_from(format, &bytes, first, &mut part);
                if first + len > all.len() {
                    assert!(result.is_err(), "{format:?} {first} {len}");
                    continue;
                }
                result.unwrap();
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&part), bits(&all[first..first + len]), "{format:?} {first} {len}");
            }
        }
        assert!(decode_from(format, &bytes, usize::MAX, &mut [0.0]).is_err());
    }
}
