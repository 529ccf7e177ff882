//! Every size, option and thread count, in both precisions.

use super::*;
use proptest::prelude::*;

#[test]
fn lengths_around_the_edges_of_tiles_and_groups() {
    for t in [1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97, 257] {
        check(Case::square(t, 8));
    }
}

#[test]
fn head_dims() {
    for dim in [1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 80, 96, 128] {
        check(Case::square(37, dim));
        check(Case::new(1, (2, 1), (2, 37), dim));
    }
}

#[test]
fn heads_that_share_keys() {
    for heads in [(6, 2), (5, 1), (4, 4), (9, 3)] {
        check(Case::new(2, heads, (33, 33), 10));
        check(Case::new(2, heads, (3, 33), 10));
    }
}

#[test]
fn windows() {
    for window in [1, 2, 5, 12, 13, 16, 31, 32, 33, 64, 96, 97, 1000, usize::MAX] {
        check(Case::square(97, 6).window(window));
        check(Case::new(1, (4, 2), (3, 70), 6).window(window));
        check(Case::new(1, (4, 2), (41, 300), 6).window(window));
    }
}

#[test]
fn softcaps() {
    check(Case::new(2, (4, 2), (45, 45), 9).softcap(4.0, 0.25).spread(2.0));
    check(Case::new(2, (4, 2), (45, 45), 9).softcap(50.0, 0.3).window(11));
    check(Case::new(1, (4, 2), (2, 45), 9).softcap(4.0, 0.25).spread(2.0));
}

#[test]
fn cached_keys() {
    for (queries, keys) in [(1, 15), (3, 15), (4, 100), (5, 100), (31, 100), (64, 65), (33, 129), (1, 500), (7, 8)] {
        check(Case::new(2, (4, 2), (queries, keys), 16));
    }
}

#[test]
fn dropped_probabilities() {
    for (queries, keys) in [(1, 1), (2, 9), (40, 40), (70, 70), (20, 130)] {
        check(Case::new(2, (4, 2), (queries, keys), 16).dropout(0.3));
        check(Case::new(1, (2, 1), (queries, keys), 16).dropout(0.5).window(9).softcap(3.0, 0.5));
    }
}

#[test]
fn gradients_that_vanish_or_average_little() {
    check(Case::new(1, (1, 1), (46, 73), 2).dropout(0.564));
    check(Case::new(2, (4, 2), (61, 104), 37).window(1).softcap(2.9, 0.4).dropout(0.17));
}

#[test]
fn large_scores_do_not_overflow() {
    // Scores of some thousand: the log-sum-exp in f32 leaves about four digits of a probability.
    check_to::<f32>(&Case::square(50, 16).spread(30.0), 2e-3);
    check_to::<f32>(&Case::new(1, (2, 2), (2, 50), 16).spread(30.0), 2e-3);
    for isa in isa::available() {
        let c = isa::with(isa, || Computed::<f32>::new(&Case::square(40, 32).spread(1e4)));
        assert!(c.out.view().iter().chain(c.dq.view().iter()).all(|x| x.is_finite()));
    }
}

#[test]
fn long_sequences_in_chunks_and_heads_cut_by_their_keys() {
    // Sixteen heads and more keys than a chunk; then few heads with work enough to be cut, alone and shared.
    check(Case::new(2, (8, 8), (560, 560), 3));
    check(Case::new(1, (16, 16), (40, 1060), 3).window(700));
    check(Case::new(1, (2, 2), (300, 300), 16));
    check(Case::new(1, (6, 3), (290, 421), 9).window(150));
    check(Case::new(1, (4, 1), (530, 530), 5).dropout(0.2));
}

/// The gradients against central differences of the naive forward, to `tolerance` of the largest.
fn check_differences<E: Element>(tolerance: f64) {
    let case = Case::new(1, (2, 1), (9, 12), 5).softcap(3.0, 0.5).window(7);
    let n = &case.naive;
    let c = Computed::<E>::new(&case);
    let (inputs, dout) = ([c.q.flat(), c.k.flat(), c.v.flat()], c.dout.flat());
    let loss =
        |x: &[Vec<f64>; 3]| -> f64 { n.forward(&x[0], &x[1], &x[2]).0.iter().zip(&dout).map(|(a, b)| a * b).sum() };
    for (which, gradient) in [c.dq.flat(), c.dk.flat(), c.dv.flat()].into_iter().enumerate() {
        let numeric: Vec<f64> = (0..gradient.len())
            .map(|at| {
                let shifted = |by: f64| {
                    let mut x = inputs.clone();
                    x[which][at] += by;
                    loss(&x)
                };
                (shifted(1e-5) - shifted(-1e-5)) / 2e-5
            })
            .collect();
        let error = error(&gradient, &numeric, 1.0);
        assert!(error < tolerance, "gradient {which}: {error:.2e}");
    }
}

#[test]
fn gradients_agree_with_central_differences_of_the_forward() {
    check_differences::<f32>(1e-5);
    check_differences::<bf16>(HALF);
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let cases = [
        Case::new(1, (2, 1), (300, 300), 32),
        Case::new(3, (4, 2), (130, 130), 32).window(40).dropout(0.1),
        Case::new(2, (4, 2), (2, 3000), 64),
        Case::new(1, (17, 17), (70, 590), 32),
    ];
    fn bits<E: Element>(case: &Case) -> Vec<u32> {
        Computed::<E>::new(case).bits()
    }
    for case in &cases {
        let bits = [1, 2, 3, 5, 8].map(|threads| {
            parallel::set_num_threads(threads);
            (bits::<f32>(case), bits::<bf16>(case))
        });
        assert!(bits.windows(2).all(|w| w[0] == w[1]), "{case:?}");
    }
    parallel::set_num_threads(2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        batch in 1..3usize,
        kv_heads in 1..3usize,
        sharing in 1..4usize,
        queries in 1..80usize,
        cached in 0..60usize,
        dim in 1..40usize,
        window in proptest::option::of(1..100usize),
        cap in proptest::option::of(1.0..20f32),
        drop in proptest::option::of(0.05..0.6f32),
        lengths in proptest::option::of(proptest::collection::vec(1..50usize, 1..6)),
    ) {
        let keys = if lengths.is_some() { queries } else { queries + cached };
        let mut case = Case::new(batch, (kv_heads * sharing, kv_heads), (queries, keys), dim);
        if let Some(lengths) = lengths {
            case = case.documents(&lengths);
        }
        if let Some(window) = window {
            case = case.window(window);
        }
        if let Some(cap) = cap {
            case = case.softcap(cap, 0.4);
        }
        if let Some(p) = drop {
            case = case.dropout(p);
        }
        check_to::<f32>(&case, 2e-5);
        check_to::<bf16>(&case, HALF);
    }
}
