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
    // By position, so that calls can be put together.
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
}
