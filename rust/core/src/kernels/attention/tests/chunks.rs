//! A query has the same bits however the sequence was cut into calls.

use super::*;
use proptest::prelude::*;

/// Outputs and log-sum-exps of the last `t` of `end` positions.
fn computed<E: Element>(case: &Case, [q, k, v]: [&Guarded<E>; 3], end: usize, t: usize) -> Vec<u32> {
    let n = &case.naive;
    let (mut out, mut lse) =
        (Guarded::<E>::new(n.batch, n.heads, t, n.dim), Array3::from_elem((n.batch, n.heads, t), 0.0));
    let [q, k, v] = [(q, end - t), (k, 0), (v, 0)].map(|(x, start)| x.view().slice_move(s![.., .., start..end, ..]));
    attention(q, k, v, &case.options(), out.view_mut(), lse.view_mut()).unwrap();
    by_position(out, lse)
}

/// By position, so that calls can be put together.
fn by_position<E: Element>(out: Guarded<E>, lse: Array3<f32>) -> Vec<u32> {
    let t = lse.dim().2;
    let out = out.view().permuted_axes([2, 0, 1, 3]).iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>();
    let lse = lse.view().permuted_axes([2, 0, 1]).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (wide, narrow) = (out.len() / t.max(1), lse.len() / t.max(1));
    out.chunks(wide)
        .zip(lse.chunks(narrow))
        .flat_map(|(out, lse)| out.iter().chain(lse).copied().collect::<Vec<_>>())
        .collect()
}

fn check_cuts<E: Element>(case: &Case, cuts: &[usize]) {
    let (n, std) = (&case.naive, case.std);
    let q = Guarded::<E>::random(n.batch, n.heads, n.keys, n.dim, 1, std);
    let [k, v] = [2, 3].map(|seed| Guarded::<E>::random(n.batch, n.kv_heads, n.keys, n.dim, seed, std));
    for isa in isa::available() {
        isa::with(isa, || {
            let whole = computed(case, [&q, &k, &v], n.keys, n.keys);
            let (mut end, mut parts, mut cuts) = (0, Vec::new(), cuts.iter().cycle());
            while end < n.keys {
                let t = (*cuts.next().expect("at least one cut")).min(n.keys - end);
                end += t;
                parts.extend(computed(case, [&q, &k, &v], end, t));
            }
            assert!(whole == parts, "{case:?} on {} in {}", isa.name(), std::any::type_name::<E>());
        });
    }
}

/// Keys and values, as the model keeps them, of a sequence that is read in pieces; after each some positions that are not to
/// be are read too, and forgotten.
fn check_cache<E: Element>(case: &Case, cuts: &[usize], junk: usize) {
    let (n, std) = (&case.naive, case.std);
    let q = Guarded::<E>::random(1, n.heads, n.keys + junk, n.dim, 1, std);
    let [k, v] = [2, 3].map(|seed| Guarded::<E>::random(1, n.kv_heads, n.keys + junk, n.dim, seed, std));
    let room = (n.keys + junk).next_multiple_of(cache::POSITIONS);
    let sizes = cache::floats_of_position::<E>(n.dim).map(|floats| n.kv_heads * room * floats);
    for isa in isa::available() {
        isa::with(isa, || {
            let mut kept = sizes.map(|size| crate::buffer::Buffer::zeros(size, "test").unwrap());
            let mut read = |start: usize, t: usize| {
                let (mut out, mut lse) =
                    (Guarded::<E>::new(1, n.heads, t, n.dim), Array3::from_elem((1, n.heads, t), 0.0));
                let [q, k, v] = [&q, &k, &v].map(|x| x.view().slice_move(s![.., .., start..start + t, ..]));
                let [keys, values] = &mut kept;
                let cache = Cache { keys, values, room, len: start };
                attention_cached(q, k, v, cache, &case.options(), out.view_mut(), lse.view_mut()).unwrap();
                by_position(out, lse)
            };
            let (mut end, mut parts, mut cuts) = (0, Vec::new(), cuts.iter().cycle());
            while end < n.keys {
                let t = (*cuts.next().expect("at least one cut")).min(n.keys - end);
                parts.extend(read(end, t));
                end += t;
                if junk > 0 {
                    read(end, junk);
                }
            }
            let whole = computed(case, [&q, &k, &v], n.keys, n.keys);
            assert!(whole == parts, "{case:?} on {} in {}", isa.name(), std::any::type_name::<E>());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_cut_changes_a_bit(
        (kv_heads, sharing) in (1..3usize, 1..4usize),
        t in 1..200usize,
        dim in 1..40usize,
        window in proptest::option::of(1..100usize),
        cap in proptest::option::of(1.0..20f32),
        cuts in proptest::collection::vec(prop_oneof![1..6usize, 1..90usize], 1..6),
    ) {
        let mut case = Case::new(2, (kv_heads * sharing, kv_heads), (t, t), dim);
        if let Some(window) = window {
            case = case.window(window);
        }
        if let Some(cap) = cap {
            case = case.softcap(cap, 0.4);
        }
        check_cuts::<f32>(&case, &cuts);
        check_cuts::<bf16>(&case, &cuts);
    }

    #[test]
    fn no_cut_changes_a_bit_of_what_a_cache_gives(
        (kv_heads, sharing) in (1..3usize, 1..4usize),
        t in 1..200usize,
        dim in 1..40usize,
        window in proptest::option::of(1..100usize),
        cuts in proptest::collection::vec(prop_oneof![1..6usize, 1..90usize], 1..6),
        junk in 0..4usize,
    ) {
        let mut case = Case::new(1, (kv_heads * sharing, kv_heads), (t, t), dim);
        if let Some(window) = window {
            case = case.window(window);
        }
        check_cache::<f32>(&case, &cuts, junk);
        check_cache::<bf16>(&case, &cuts, junk);
    }
}

#[test]
fn a_cache_that_does_not_fit_is_refused() {
    let x = Array4::<f32>::zeros((1, 2, 3, 4));
    let refused = |size: usize, room: usize, len: usize| {
        let (mut keys, mut values) = (vec![0.0; size], vec![0.0; 4 * size]);
        let cache = Cache { keys: &mut keys, values: &mut values, room, len };
        let (mut out, mut lse) = (x.clone(), Array3::zeros((1, 2, 3)));
        let options = Options::default();
        attention_cached(x.view(), x.view(), x.view(), cache, &options, out.view_mut(), lse.view_mut()).unwrap_err()
    };
    assert!(matches!(refused(2 * 16 * 4, 16, 14), Error::Value { what: "room of the cache", .. }));
    assert!(matches!(refused(2 * 15 * 4, 15, 0), Error::Value { what: "room of the cache", .. }));
    assert!(matches!(refused(2 * 16 * 4 - 1, 16, 0), Error::Shape { .. }));
    let two = Array4::<f32>::zeros((2, 2, 3, 4));
    let (mut keys, mut values) = (vec![0.0; 2 * 16 * 4], vec![0.0; 2 * 16 * 4]);
    let cache = Cache { keys: &mut keys, values: &mut values, room: 16, len: 0 };
    let (mut out, mut lse) = (two.clone(), Array3::zeros((2, 2, 3)));
    let (view, options) = (two.view(), Options::default());
    let error = attention_cached(view, view, view, cache, &options, out.view_mut(), lse.view_mut()).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "sequences of q", .. }), "{error}");
}

#[test]
fn any_number_of_heads_without_positions_is_nothing_to_do() {
    let x = Array4::<f32>::zeros((1 << 42, 1, 0, 1));
    let [mut out, mut dq, mut dk, mut dv] = [(); 4].map(|()| x.clone());
    let (mut lse, view, options) = (Array3::zeros((1 << 42, 1, 0)), x.view(), Options::default());
    attention(view, view, view, &options, out.view_mut(), lse.view_mut()).unwrap();
    let (dq, dk, dv) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
    attention_backward(view, view, view, view, lse.view(), view, &options, dq, dk, dv).unwrap();
}
