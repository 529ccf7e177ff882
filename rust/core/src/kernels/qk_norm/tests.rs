//! Norm and rotation of heads against their formulas in f64.

use super::*;
use crate::kernels::rope::Waves;
use crate::kernels::rows::testing::{assert_same_bits, full, half, inner, matrix, nan, on_each_isa, within};
use crate::simd::round_to_bf16;
use ndarray::{Array2, s};
use proptest::prelude::*;
use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
use subgpt_testkit::{noise::Noise, rows as naive};

const EPS: f32 = 1e-5;
const THETA: f64 = 10_000.0;

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    dim: usize,
    t: usize,
    gain: bool,
    norm: bool,
    order: Order,
    offset: f32,
    pairing: Option<Pairing>,
}

impl Case {
    fn exact(&self, x: &[f64], gain: &[f64]) -> Vec<f64> {
        let half = self.dim / 2;
        let pairs: Vec<(usize, usize)> = match self.pairing {
            Some(Pairing::Half) => (0..half).map(|i| (i, i + half)).collect(),
            Some(Pairing::Interleaved) => (0..half).map(|i| (2 * i, 2 * i + 1)).collect(),
            None => Vec::new(),
        };
        let offset = f64::from(self.offset);
        let times =
            |x: Vec<f64>| if self.gain { x.iter().zip(gain).map(|(x, g)| x * (offset + g)).collect() } else { x };
        let head = |(i, x): (usize, &[f64])| {
            let position = (i / self.heads % self.t) as f64;
            let ones = vec![1.0; self.dim];
            let norm = |x: &[f64]| {
                if self.norm { naive::rms_norm(x, &ones, 0.0, f64::from(EPS)) } else { x.to_vec() }
            };
            match self.order {
                Order::NormRope => naive::rope(&times(norm(x)), position, THETA, &pairs),
                Order::RopeNorm => times(norm(&naive::rope(x, position, THETA, &pairs))),
            }
        };
        x.chunks(self.dim).enumerate().flat_map(head).collect()
    }

    fn with<R>(&self, gain: &[f32], f: impl FnOnce(QkNorm) -> R) -> R {
        let rope = self.pairing.map(|pairing| Rope::shared(pairing, Waves::new(self.dim, THETA), self.t).unwrap());
        let norm = HeadNorm { eps: EPS, gain: self.gain.then_some(gain), offset: self.offset, order: self.order };
        f(QkNorm { head_dim: self.dim, norm: self.norm.then_some(norm), rope: rope.as_deref(), positions: None })
    }

    fn rstd(&self, n: usize) -> Vec<f32> {
        vec![f32::NAN; if self.norm { n * self.heads } else { 0 }]
    }

    /// The output apart and in place, which must agree, and `rstd`.
    fn forward(&self, x: &Array2<f32>, gain: &[f32]) -> (Array2<f32>, Vec<f32>) {
        let (mut y, mut rstd, mut again) = (nan(x.nrows(), x.ncols()), self.rstd(x.nrows()), self.rstd(x.nrows()));
        let mut place = within(x);
        self.with(gain, |how| {
            qk_norm(how, inner(&place), y.view_mut(), &mut rstd).unwrap();
            qk_norm_inplace(how, place.slice_mut(s![.., 2..x.ncols() + 2]), &mut again).unwrap();
        });
        assert_eq!(inner(&place), y);
        assert_eq!(again, rstd);
        assert!(place.column(1).iter().chain(place.column(x.ncols() + 2)).all(|v| v.is_nan()), "wrote beside it");
        (y, rstd)
    }

    /// dx, from the input, and dgain.
    fn backward(&self, x: &Array2<f32>, gain: &[f32], dy: &Array2<f32>) -> (Vec<f32>, Vec<f32>) {
        let (rstd, mut d) = (self.forward(x, gain).1, within(dy));
        let mut dgain = vec![0.0; if self.gain { self.dim } else { 0 }];
        let inside = d.slice_mut(s![.., 2..x.ncols() + 2]);
        self.with(gain, |how| {
            qk_norm_backward(how, Saved::Input(x.view()), &rstd, inside, self.gain.then_some(&mut dgain[..]))
        })
        .unwrap();
        assert!(d.column(1).iter().chain(d.column(x.ncols() + 2)).all(|v| v.is_nan()), "wrote beside it");
        (inner(&d).iter().copied().collect(), dgain)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let pairing = prop_oneof![Just(None), Just(Some(Pairing::Half)), Just(Some(Pairing::Interleaved))];
    let order = prop_oneof![Just(Order::NormRope), Just(Order::RopeNorm)];
    let offset = prop_oneof![Just(0.0f32), Just(1.0)];
    (1usize..4, 1usize..40, 1usize..4, any::<bool>(), any::<bool>(), order, offset, pairing).prop_map(
        |(heads, half, t, gain, norm, order, offset, pairing)| Case {
            heads,
            dim: 2 * half,
            t,
            gain: gain && norm,
            norm,
            order,
            offset,
            pairing,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn forward_and_backward_are_the_formula_and_its_gradient(case in case(), b in 1usize..3, seed: u64) {
        let mut noise = Noise::new(seed);
        let (n, width) = (b * case.t, case.heads * case.dim);
        let (x, dy) = (matrix(&mut noise, n, width, 2.0), matrix(&mut noise, n, width, 1.0));
        // Heads near zero bend too sharply for finite differences.
        let x = x.map(|v| v + 0.5f32.copysign(*v));
        let gain: Vec<f32> = noise.normal(case.dim, 0.4).into_iter().map(|g| g + 1.0 - case.offset).collect();
        let (wx, wg) = (wide(x.as_slice().unwrap()), wide(&gain));
        let want = case.exact(&wx, &wg);
        let want_dx = gradient(&wx, |x| weighted(&case.exact(x, &wg), dy.as_slice().unwrap()));
        let want_dgain = gradient(&wg, |g| weighted(&case.exact(&wx, g), dy.as_slice().unwrap()));
        on_each_isa(|| {
            let (y, rstd) = case.forward(&x, &gain);
            assert_close("y", y.as_slice().unwrap(), &want, 1e-6);
            let (dx, dgain) = case.backward(&x, &gain, &dy);
            assert_close("dx", &dx, &want_dx, 1e-5);
            if case.gain {
                assert_close("dgain", &dgain, &want_dgain, 3e-6);
            } else {
                let mut d = dy.clone();
                case.with(&gain, |how| {
                    qk_norm_backward(how, Saved::Output(y.view()), &rstd, d.view_mut(), None).unwrap();
                });
                assert_close("dx from the output", d.as_slice().unwrap(), &want_dx, 1e-5);
            }
        });
    }
}

#[test]
fn bfloat16_is_the_rounded_output() {
    let mut noise = Noise::new(9);
    for (dim, pairing) in [(64, Pairing::Half), (38, Pairing::Half), (48, Pairing::Interleaved)] {
        let case = Case {
            heads: 3,
            dim,
            t: 5,
            gain: true,
            norm: true,
            order: Order::NormRope,
            offset: 0.0,
            pairing: Some(pairing),
        };
        let x = half(&matrix(&mut noise, 10, 3 * dim, 1.0));
        let dy = half(&matrix(&mut noise, 10, 3 * dim, 1.0));
        let gain = noise.normal(dim, 1.0);
        on_each_isa(|| {
            let (y, rstd) = case.forward(&full(&x), &gain);
            let (mut narrow, mut place, mut r) = (half(&nan(10, 3 * dim)), x.clone(), case.rstd(10));
            let (mut d, mut dgain) = (dy.clone(), vec![0.0; dim]);
            case.with(&gain, |how| {
                qk_norm(how, x.view(), narrow.view_mut(), &mut r).unwrap();
                qk_norm_inplace(how, place.view_mut(), &mut r).unwrap();
                qk_norm_backward(how, Saved::Input(x.view()), &r, d.view_mut(), Some(&mut dgain)).unwrap();
            });
            assert!(narrow == half(&y) && place == narrow && r == rstd);
            let (want_d, want_dgain) = case.backward(&full(&x), &gain, &full(&dy));
            assert_eq!(dgain, want_dgain);
            assert!(d.iter().zip(want_d).all(|(d, want)| *d == round_to_bf16(want)));
        });
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let mut noise = Noise::new(5);
    let case = Case {
        heads: 3,
        dim: 38,
        t: 100,
        gain: true,
        norm: true,
        order: Order::NormRope,
        offset: 1.0,
        pairing: Some(Pairing::Half),
    };
    let (x, dy, gain) = (matrix(&mut noise, 300, 114, 1.0), matrix(&mut noise, 300, 114, 1.0), noise.normal(38, 1.0));
    for (order, pairing) in [(Order::NormRope, Pairing::Half), (Order::RopeNorm, Pairing::Interleaved)] {
        let case = Case { order, pairing: Some(pairing), ..case };
        assert_same_bits(|| {
            let (y, rstd) = case.forward(&x, &gain);
            let (dx, dgain) = case.backward(&x, &gain, &dy);
            [y.into_raw_vec_and_offset().0, rstd, dx, dgain].concat()
        });
    }
}

#[test]
fn rows_stand_where_their_positions_say() {
    let (positions, mut noise) = ([3u32, 0, 4, 4, 1], Noise::new(7));
    let (x, dy) = (matrix(&mut noise, 5, 12, 1.0), matrix(&mut noise, 5, 12, 1.0));
    let table = Rope::shared(Pairing::Half, Waves::new(6, THETA), 5).unwrap();
    let own = Rope::new(Pairing::Half, Waves::new(6, THETA), &positions.map(|p| p as usize)).unwrap();
    let run = |rope, positions| {
        let how = QkNorm { head_dim: 6, norm: None, rope: Some(rope), positions };
        let (mut y, mut d) = (nan(5, 12), dy.clone());
        qk_norm(how, x.view(), y.view_mut(), &mut []).unwrap();
        qk_norm_backward(how, Saved::Input(x.view()), &[], d.view_mut(), None).unwrap();
        (y, d)
    };
    assert_eq!(run(&table, Some(&positions[..])), run(&own, None));
    for positions in [&[0, 1, 2, 3, 5][..], &[0; 4], &[0; 10]] {
        let how = QkNorm { head_dim: 6, norm: None, rope: Some(&table), positions: Some(positions) };
        assert!(qk_norm(how, x.view(), nan(5, 12).view_mut(), &mut []).is_err());
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (rope, x) = (Rope::shared(Pairing::Half, Waves::new(4, THETA), 2).unwrap(), Array2::<f32>::zeros((4, 8)));
    let norm = HeadNorm { eps: EPS, gain: None, offset: 0.0, order: Order::NormRope };
    let how = QkNorm { head_dim: 4, norm: Some(norm), rope: Some(&rope), positions: None };
    let call = |how, rstd: usize| qk_norm(how, x.view(), nan(4, 8).view_mut(), &mut vec![0.0; rstd]);
    assert!(call(how, 8).is_ok() && call(how, 4).is_err());
    assert!(call(QkNorm { norm: None, ..how }, 0).is_ok() && call(QkNorm { norm: None, ..how }, 8).is_err());
    assert!(call(QkNorm { head_dim: 0, ..how }, 8).is_err() && call(QkNorm { head_dim: 8, ..how }, 4).is_err());
    let gained = QkNorm { norm: Some(HeadNorm { gain: Some(&[1.0; 4]), ..norm }), ..how };
    assert!(call(gained, 8).is_ok());
    assert!(call(QkNorm { norm: Some(HeadNorm { gain: Some(&[1.0; 3]), ..norm }), ..how }, 8).is_err());
    assert!(qk_norm(how, x.view(), nan(4, 4).view_mut(), &mut [0.0; 8]).is_err());
    assert!(qk_norm_inplace(how, Array2::<f32>::zeros((3, 8)).view_mut(), &mut [0.0; 6]).is_err());
    let back = |how, saved, dgain: Option<&mut [f32]>| {
        qk_norm_backward(how, saved, &[1.0; 8], Array2::<f32>::zeros((4, 8)).view_mut(), dgain)
    };
    assert!(back(how, Saved::Output(x.view()), None).is_ok());
    assert!(back(gained, Saved::Input(x.view()), Some(&mut [0.0; 4])).is_ok());
    assert!(back(gained, Saved::Output(x.view()), None).unwrap_err().to_string().contains("gain"));
    assert!(back(gained, Saved::Input(x.view()), Some(&mut [0.0; 3])).is_err());
}
