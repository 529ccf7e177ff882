//! Central differences in f64, and the comparison of f32 results with f64 ones.

/// The gradient of `f` at `x` by central differences of fourth order: exact to about 1e-9 for smooth functions of
/// ordinary size.
pub fn gradient(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-3;
    let mut at = x.to_vec();
    (0..x.len())
        .map(|i| {
            let mut shifted = |by: f64| {
                at[i] = x[i] + by * STEP;
                f(&at)
            };
            let slope = 8.0 * (shifted(1.0) - shifted(-1.0)) - (shifted(2.0) - shifted(-2.0));
            at[i] = x[i];
            slope / (12.0 * STEP)
        })
        .collect()
}

/// The sum of `weight[i] * y[i]`: turns a function with many results into one with a single result, whose gradient is
/// the backward pass with `weight` as the upstream gradient.
pub fn weighted(y: &[f64], weight: &[f32]) -> f64 {
    assert_eq!(y.len(), weight.len());
    y.iter().zip(weight).map(|(y, &w)| y * f64::from(w)).sum()
}

/// `x` in f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Panics unless every element of `got` is within `tolerance` of `want`, relative to the largest element of `want`,
/// which is taken for 1 if it is smaller: the tests' numbers are of size 1, and what is smaller came out of differences
/// between such numbers.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let largest = want.iter().fold(1f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let fits = f64::from(g) == w || (f64::from(g) - w).abs() <= tolerance * largest;
        assert!(fits, "{what}[{i}] of {}: {g} instead of {w} (largest {largest}, tolerance {tolerance})", got.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_a_product_is_the_other_factor() {
        let g = gradient(&[2.0, -3.0], |x| x[0] * x[1] + x[0].exp());
        assert!((g[0] - (-3.0 + 2f64.exp())).abs() < 1e-9 && (g[1] - 2.0).abs() < 1e-9);
    }

    #[test]
    #[should_panic(expected = "dx[1]")]
    fn a_wrong_element_is_named() {
        assert_close("dx", &[1.0, 2.0], &[1.0, 2.001], 1e-4);
    }
}
