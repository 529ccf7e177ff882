//! Sequences of several documents, which see nothing of each other.

use super::*;

#[test]
fn documents_of_every_length() {
    for lengths in [&[1][..], &[2, 1], &[7, 9], &[8], &[16, 15, 17], &[31, 33, 1], &[64], &[97], &[40, 3, 200]] {
        check(Case::square(97, 6).documents(lengths));
        check(Case::new(2, (4, 2), (3, 3), 6).documents(lengths));
        check(Case::new(3, (4, 2), (70, 70), 9).documents(lengths));
    }
}

#[test]
fn documents_with_every_other_option() {
    let case = || Case::new(2, (4, 2), (75, 75), 9).documents(&[20, 5, 33]);
    check(case().window(11));
    check(case().softcap(4.0, 0.25).spread(2.0));
    check(case().dropout(0.3));
    check(case().dropout(0.3).window(17).softcap(3.0, 0.5));
}

#[test]
fn documents_longer_than_a_chunk_and_heads_cut_by_their_keys() {
    check(Case::new(2, (8, 8), (560, 560), 3).documents(&[530, 30, 300]));
    check(Case::new(1, (2, 2), (300, 300), 16).documents(&[90, 150, 7]));
    check(Case::new(2, (4, 1), (530, 530), 5).dropout(0.2).window(150).documents(&[200, 400, 64]));
}

#[test]
fn one_document_is_the_sequence_itself() {
    let case = Case::new(2, (4, 2), (70, 70), 9);
    let (plain, whole) = (Computed::<f32>::new(&case), Computed::<f32>::new(&case.clone().documents(&[70])));
    assert_eq!(plain.bits(), whole.bits());
}

/// What `x` has from position `from` on, as an array of its own.
fn cut(x: &Guarded<f32>, range: std::ops::Range<usize>) -> Vec<f64> {
    x.view().slice(s![.., .., range, ..]).iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn a_document_comes_out_as_if_it_were_alone() {
    let lengths = [13, 40, 1, 26];
    let packed = Computed::<f32>::new(&Case::new(1, (4, 2), (80, 80), 10).documents(&lengths));
    let mut start = 0;
    for length in lengths {
        let range = start..start + length;
        let case = Case::new(1, (4, 2), (length, length), 10);
        let [q, k, v, dout] = [&packed.q, &packed.k, &packed.v, &packed.dout].map(|x| cut(x, range.clone()));
        let g = case.naive.backward(&q, &k, &v, &dout);
        let (out, _) = case.naive.forward(&q, &k, &v);
        let got = [&packed.out, &packed.dq, &packed.dk, &packed.dv].map(|x| cut(x, range.clone()));
        for (got, expected) in got.iter().zip([out, g.dq, g.dk, g.dv]) {
            assert!(error(got, &expected, 0.1) < 1e-5);
        }
        start += length;
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let cases = [
        Case::new(1, (2, 1), (300, 300), 32).documents(&[77, 150]),
        Case::new(3, (4, 2), (130, 130), 32).window(40).dropout(0.1).documents(&[60, 9]),
    ];
    for case in &cases {
        let bits = [1, 2, 3, 8].map(|threads| {
            parallel::set_num_threads(threads);
            (Computed::<f32>::new(case).bits(), Computed::<bf16>::new(case).bits())
        });
        assert!(bits.windows(2).all(|w| w[0] == w[1]), "{case:?}");
    }
    parallel::set_num_threads(2);
}
